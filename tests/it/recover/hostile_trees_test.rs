//! Goal: whatever stands in a tree, a recovery neither panics nor hangs, touches nothing outside, nothing
//! of another user's and no writer at work, and changes ordinary files only where a whole record of ours
//! says so; and there is nothing left to do for a second one. Method: trees and records out of random
//! bytes. `fuzz/` has the same for libFuzzer, which begins with the seeds that are tried here, too.

use std::path::Path;

use fs_err as fs;
use proptest::prelude::*;

use crate::recover::hostile_tree::{run, run_in};
use crate::support::is_root;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_leads_recovery_astray(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = run(&data);
        let _ = run_in(&data, true);
    }
}

#[test]
fn each_seed_of_the_fuzz_target_comes_to_what_its_name_says() {
    // The package of the tests may be below the project.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let seeds = above.map(|dir| dir.join("fuzz/seeds/recover")).find(|dir| dir.is_dir()).unwrap();
    let seeds = fs::read_dir(seeds).unwrap();
    let mut told = 0;
    for seed in seeds.map(|entry| entry.unwrap().path()) {
        let recovery = run(&fs::read(&seed).unwrap());
        let name = seed.file_name().unwrap().to_str().unwrap();
        let found = match name.rsplit('-').next().unwrap() {
            // Nothing can be given away.
            _ if name.contains("another-user") && !is_root() => continue,
            "completed" => recovery.completed(),
            "undone" => recovery.rolled_back(),
            "quarantined" => recovery.quarantined(),
            "removed" => recovery.removed(),
            "in_use" => recovery.in_use(),
            "untrusted" => recovery.untrusted(),
            _ => continue,
        };
        assert!(!found.is_empty(), "{name}: {recovery:?}");
        told += 1;
    }
    assert!(told > 10, "{told}");
}

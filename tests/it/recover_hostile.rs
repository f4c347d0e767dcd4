//! Goal: whatever stands in a tree, a recovery neither panics nor hangs, touches nothing outside, and
//! changes ordinary files only where a whole record of ours says so; and there is nothing left to do
//! for a second one. Method: trees and records out of random bytes. `fuzz/` has the same for libFuzzer.

use proptest::prelude::*;

use crate::hostile_trees::run;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_leads_recovery_astray(data in prop::collection::vec(any::<u8>(), 0..300)) {
        run(&data);
    }
}

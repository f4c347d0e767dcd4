//! Goal: a save that keeps the previous version loses neither: the target is complete old or new, and once it is new,
//! the kept name leads to the version that was replaced. Method: every crash of such saves, also of one that follows
//! a crash between the two renames; and a save that is acknowledged has done both.

use std::path::Path;

use durafile::WriteOptions;
use durafile::crash_testing::{CrashTest, Model};
use fs_err as fs;

use crate::crash::cases_files::{long, named_staging};

fn old(dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join("target"), long(b'o'))
}

fn with_previous(dir: &Path) -> std::io::Result<()> {
    old(dir)?;
    std::fs::write(dir.join("previous"), "older")
}

/// What a crash between the two renames leaves.
fn with_both_names(dir: &Path) -> std::io::Result<()> {
    old(dir)?;
    std::fs::hard_link(dir.join("target"), dir.join("previous"))
}

fn explore<'a>(test: impl Fn() -> CrashTest<'a>, models: &[Model]) {
    for &model in models {
        let test = test().model(model);
        let recording = test.record().unwrap();
        recording.result().as_ref().unwrap();
        let explored = test.explore(recording.trace(), |dir, acked| {
            let target = fs::read(dir.join("target"))?;
            let previous = fs::read(dir.join("previous")).ok();
            let (is_new, is_kept) = (target == long(b'n'), previous == Some(long(b'o')));
            match previous {
                _ if !is_new && target != long(b'o') => Err("the target is torn".into()),
                _ if is_new && !is_kept => Err("the version that was replaced is lost".into()),
                Some(other) if !is_kept && other != b"older" => Err("the kept version is torn".into()),
                _ if acked.saved() && !is_new => Err("what was acknowledged is lost".into()),
                _ => Ok(()),
            }
        });
        let report = explored.unwrap_or_else(|failure| panic!("{model:?}:\n{failure}"));
        assert!(report.states > 0);
    }
}

fn save(dir: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    WriteOptions::new().keep_previous("previous").write(dir.join("target"), long(b'n'))?;
    Ok(())
}

/// Two renames within one directory are two changes of that directory. What orders none of these needs no name: there
/// a power cut may keep the second and lose the first.
const MODELS: [Model; 2] = [Model::OrderedJournal, Model::ProcessDeath];

#[test]
fn the_version_that_is_replaced_is_never_lost() {
    for initial in [old, with_previous, with_both_names] {
        explore(|| CrashTest::new(save).initial(initial), &MODELS);
        explore(|| named_staging(CrashTest::new(save).initial(initial)), &MODELS);
    }
}

//! Goal: a rename between two directories never loses the file, though for a moment a crash may leave it
//! under both names. Method: every crash of the operation; at least one of the names leads to the
//! complete content, and once it is acknowledged, only the new one does.
//!
//! Within a directory a rename is one change of that directory, which `cases_fs_ops` has.

use std::path::Path;

use durafile::crash_testing::{CrashTest, Model};
use fs_err as fs;

use crate::crash::cases_files::long;
use crate::crash::cases_fs_ops::{file, no_rename_new};

fn file_and_folder(dir: &Path) -> std::io::Result<()> {
    file(dir)?;
    std::fs::create_dir(dir.join("folder"))
}

fn explore<'a>(test: impl Fn() -> CrashTest<'a>, models: &[Model], from: &str, to: &str) {
    for &model in models {
        let test = test().model(model);
        let recording = test.record().unwrap();
        recording.result().as_ref().unwrap();
        let explored = test.explore(recording.trace(), |dir, acked| {
            let has = |name: &str| fs::read(dir.join(name)).is_ok_and(|content| content == long(b'f'));
            match (has(from), has(to)) {
                (false, false) => Err("the file is lost".into()),
                (true, _) if acked.saved() => Err("the old name is back".into()),
                _ => Ok(()),
            }
        });
        let report = explored.unwrap_or_else(|failure| panic!("{model:?}:\n{failure}"));
        assert!(report.states > 0);
    }
}

#[test]
fn between_directories_no_crash_loses_the_file() {
    let rename = |dir: &Path| {
        durafile::rename(dir.join("from"), dir.join("folder/to"))?;
        Ok(())
    };
    // A file system that writes the two directories in any order may lose what is between them: with a
    // journal of any kind that can't happen, and none of the tested ones is without.
    let models = [Model::OrderedJournal, Model::ProcessDeath];
    explore(|| CrashTest::new(rename).initial(file_and_folder), &models, "from", "folder/to");
}

#[test]
fn by_a_link_no_crash_loses_the_file() {
    let rename = |dir: &Path| {
        durafile::rename_new(dir.join("from"), dir.join("folder/to"))?;
        Ok(())
    };
    let test = || no_rename_new(CrashTest::new(rename).initial(file_and_folder));
    let models = [Model::Unordered, Model::OrderedJournal, Model::ProcessDeath];
    explore(test, &models, "from", "folder/to");
}

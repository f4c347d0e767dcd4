//! The ledger, its two designs, and the crash test of each.

use std::error::Error;
use std::fs;
use std::path::Path;

use durafile::crash_testing::{CrashTest, Failure, Outcome, Report};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    entries: Vec<i64>,
    total: i64,
}

impl Ledger {
    fn with(mut self, entry: i64) -> Ledger {
        self.entries.push(entry);
        self.total += entry;
        self
    }
}

/// The first design: two files that belong together, saved one after the other.
mod two_files {
    use super::*;

    pub(super) fn save(dir: &Path, ledger: &Ledger) -> Outcome {
        let _ = durafile::write_json(dir.join("entries.json"), &ledger.entries)?;
        let _ = durafile::write_json(dir.join("totals.json"), &ledger.total)?;
        Ok(())
    }

    pub(super) fn load(dir: &Path) -> Result<Ledger, Box<dyn Error + Send + Sync>> {
        let entries = serde_json::from_slice(&fs::read(dir.join("entries.json"))?)?;
        let total = serde_json::from_slice(&fs::read(dir.join("totals.json"))?)?;
        Ok(Ledger { entries, total })
    }
}

/// The fix: what must agree is one document, saved in one step.
mod one_file {
    use super::*;

    pub(super) fn save(dir: &Path, ledger: &Ledger) -> Outcome {
        let _ = durafile::write_json(dir.join("ledger.json"), ledger)?;
        Ok(())
    }

    pub(super) fn load(dir: &Path) -> Result<Ledger, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(&fs::read(dir.join("ledger.json"))?)?)
    }
}

type Save = fn(&Path, &Ledger) -> Outcome;
type Load = fn(&Path) -> Result<Ledger, Box<dyn Error + Send + Sync>>;

/// Every crash of saving a second entry. The check reads the ledger as the application would.
fn crash_test(save: Save, load: Load) -> Result<Report, Failure> {
    let before = || Ledger::default().with(40);
    CrashTest::new(|dir| save(dir, &before().with(2)))
        .initial(|dir| save(dir, &before()).map_err(std::io::Error::other))
        .run(|dir, acked| {
            let ledger = load(dir)?;
            let sum: i64 = ledger.entries.iter().sum();
            assert_eq!(sum, ledger.total, "the total is not that of the entries");
            assert!(!acked.saved() || ledger.total == 42, "an entry that was saved is lost");
            Ok(())
        })
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // The findings are printed below; the default hook would print each panic of a check, too.
    std::panic::set_hook(Box::new(|_| {}));
    match crash_test(two_files::save, two_files::load) {
        Ok(report) => return Err(format!("the bug was not found: {report}").into()),
        Err(failure) => println!("two files, saved one after the other:\n\n{failure}"),
    }
    let report = crash_test(one_file::save, one_file::load)?;
    println!("one file, saved at once: every check passed.\n{report}");
    Ok(())
}

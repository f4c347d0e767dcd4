//! Random programs under crash test: which ones, on which threads, and what is said of them.
//! `DURAFILE_SEED` chooses others.

use std::io::Write;
use std::sync::Mutex;
use std::thread;

use durafile::crash_testing::Report;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::long;

/// Each works on its own part.
const THREADS: u8 = 2;

/// One program in so many is enough for the ordinary run.
const SHORT: u32 = 10;

/// Explores so many programs, and says past the capture of libtest how much was tried. A program that
/// fails is shrunk. All of them have so many states at least.
pub(crate) fn try_programs<P: Strategy>(
    what: &str,
    all: u32,
    program: impl Fn() -> P + Sync,
    least: usize,
    explore: impl Fn(&P::Value) -> Result<Report, String> + Sync,
) {
    let seed: u64 = std::env::var("DURAFILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = long::count(all / SHORT, all, &format!("random programs of {what}"));
    let total = Mutex::new(Report::default());
    let part = |number: u8| {
        let mut bytes = [number; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let cases = count / u32::from(THREADS);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let run = runner.run(&program(), |program| {
            *total.lock().unwrap() += &explore(&program).map_err(TestCaseError::fail)?;
            Ok(())
        });
        run.unwrap_or_else(|e| panic!("DURAFILE_SEED={seed}: {e}"));
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || part(number));
        }
    });
    let total = total.into_inner().unwrap();
    let text = format!("crash proof, {count} random programs of {what} (DURAFILE_SEED={seed}): {total}\n");
    std::io::stderr().lock().write_all(text.as_bytes()).unwrap();
    assert!(total.states >= least * count as usize / all as usize, "only {} states", total.states);
}

//! What takes long. The ordinary run tries a part of it, the same one each time, and says so;
//! `ci/test-long` sets `DURAFILE_LONG`, and all of it is tried.

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::sync::Mutex;

pub(crate) fn is_long() -> bool {
    env::var_os("DURAFILE_LONG").is_some()
}

/// How many of `all` to try: so many in the ordinary run.
pub(crate) fn count(part: u32, all: u32, what: &str) -> u32 {
    choose(part, all, &format!("{part} of {all} {what}"))
}

/// Those to try: each `nth`, from the first on, in the ordinary run.
pub(crate) fn each<T>(nth: usize, all: impl IntoIterator<Item = T>, what: &str) -> Vec<T> {
    let nth = choose(nth, 1, &format!("one in {nth} {what}"));
    all.into_iter().step_by(nth).collect()
}

/// The first in the ordinary run, which says what that is.
pub(crate) fn choose<T>(part: T, all: T, what: &str) -> T {
    if is_long() {
        return all;
    }
    // Written to the descriptor, which libtest does not capture.
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let said = format!("SHORTENED {test}: only {what}; ci/test-long does the rest\n");
    if SAID.lock().unwrap_or_else(|broken| broken.into_inner()).insert(said.clone()) {
        std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
    }
    part
}

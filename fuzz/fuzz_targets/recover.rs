//! Feeds `recover` hostile trees and journals; `tests/it/recover/hostile_tree.rs` builds them and says what
//! must hold.
#![no_main]

#[path = "../../tests/it/support/forged.rs"]
mod forged;
#[path = "../../tests/it/recover/hostile_tree.rs"]
mod hostile_tree;
/// Where `hostile_tree` looks for it.
mod support {
    pub(crate) use crate::forged;
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = hostile_tree::run(data);
});

//! Feeds `recover` hostile trees and journals; `tests/it/hostile_trees.rs` builds them and says what must
//! hold.
#![no_main]

#[path = "../../tests/it/hostile_trees.rs"]
mod hostile_trees;
#[path = "../../tests/it/marks.rs"]
mod marks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = hostile_trees::run(data);
});

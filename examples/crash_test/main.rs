//! An application tests its own save path against every crash.
//!
//! The application keeps a ledger: `entries.json` with all entries, and `totals.json` with their
//! sum. Each is saved durably and atomically. Is the application safe? A crash test says no,
//! and shows the disk that proves it; then it says yes to the fix.
//!
//! ```text
//! cargo run --example crash_test --features crash_testing
//! ```
//!
//! Real applications have this in a `#[test]`; it takes ten lines, see `crash_test` in `ledger.rs`.
//!
//! The simulation of crashes exists on Linux only; elsewhere this says so and ends.

#[cfg(target_os = "linux")]
mod ledger;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    ledger::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("crash_test: crashes can be simulated on Linux only; run this example there.");
}

//! Signals that ask a process to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Turns `switch` on at the first SIGTERM or SIGINT; the second ends the process as if nothing
/// handled it. The name of the signal comes with an error.
pub(crate) fn cancel_on_termination(switch: &Arc<AtomicBool>) -> Result<(), (&'static str, io::Error)> {
    // A flag apart from the switch: a program that turned the switch on by itself has not seen a signal yet.
    let seen = Arc::new(AtomicBool::new(false));
    for (signal, name) in [(SIGTERM, "SIGTERM"), (SIGINT, "SIGINT")] {
        handle(signal, switch, &seen).map_err(|e| (name, e))?;
    }
    Ok(())
}

fn handle(signal: i32, switch: &Arc<AtomicBool>, seen: &Arc<AtomicBool>) -> io::Result<()> {
    // They are called in this order, and `seen` is still false at the first signal.
    flag::register_conditional_default(signal, Arc::clone(seen))?;
    flag::register(signal, Arc::clone(seen))?;
    flag::register(signal, Arc::clone(switch))?;
    Ok(())
}

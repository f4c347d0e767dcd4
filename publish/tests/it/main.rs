//! Through the published interface, on every store there is.

mod common;
mod failures;
mod kill;
mod protocol;
mod race;
mod servers;
mod wrapped;

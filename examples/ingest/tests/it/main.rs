//! The service as it is shipped: every test starts the built program and speaks HTTP with it, over
//! the loopback. One binary, so that it links once.
//!
//! A test that the machine cannot run says `SKIPPED`, and fails instead when `DURAFILE_REQUIRE_ALL`
//! is set.
#![cfg(target_os = "linux")]

mod support;

mod batch;
mod chunks;
mod faults;
mod health;
mod kill;
mod moves;
mod oneshot;
mod page;
mod refused;
mod retries;
mod shutdown;
mod upload;

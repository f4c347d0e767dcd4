//! Proves that no crash, no fault and no kill breaks a promise: every disk that a crash may leave is
//! recovered and compared with the promise, for tables of operations and for random programs. Proves
//! also that the simulation agrees with real processes, and that this would notice a missing sync.

mod auto_strategy;
pub(crate) mod case;
mod cases_dirs;
mod cases_files;
mod cases_fs_ops;
mod cases_overwrite;
mod cases_sets;
mod cases_streams;
mod cases_update;
mod conformance;
mod faults;
mod kill;
mod mutants;
mod previous;
mod proof;
mod random;
mod random_dirs;
mod random_meddling;
mod random_saves;
mod random_transactions;
mod renames;
mod transactions;

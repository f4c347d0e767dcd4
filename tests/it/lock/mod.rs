//! Proves that a lock file has at most one holder, and says why when it can't be had.

mod limits;
mod rules;

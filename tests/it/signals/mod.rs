//! Proves that signals stop a program's saves cleanly.

mod rules;

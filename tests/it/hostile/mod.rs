//! Proves that strangers who may write to the same directory make a save read, change and delete
//! nothing but its own.

mod removal;
mod strangers;
mod trust;

//! Proves that a recovery does no harm, whatever stands in the tree that it is given.

mod hostile_tree;
mod hostile_trees_test;
mod mounts;
mod walk;
mod writers;

//! What a record is, and what the commit point is.
//!
//! A change of more than one step can't be made atomic by a rename alone. Before the first step a
//! **record** is written into a file of its own: what every step is about to change, what it expects to
//! find there, and what it will put there. The record and everything that it speaks of is made durable
//! while nothing leads to it; then it gets its name, and that name is made durable. This is the
//! **commit point**: before it, nothing has changed, and a crash ends with the old state; after it,
//! each step is carried out, by the process that decided or, if it dies, by a recovery, and a crash ends
//! with the new one. Once all steps are durable the record is removed.
//!
//! So a recovery *redoes*; nothing is ever undone that was decided. Each step can be repeated, since a
//! crash may come between any two and a power cut may take any of them back. What a step finds tells
//! whether it is still to be done: see the truth tables in `transaction/analysis.rs` (files are known by inode,
//! size, time and checksum) and `dir/redo.rs` (versions of a directory are known by their names, which nobody else
//! can guess).
//!
//! There are two kinds of record, and what follows from their difference is kept apart; all else is one: the
//! frame, whom to believe (`remnant::trust`), what may be done about a remnant and by whom
//! (`RemnantPolicy`), the writer's lock, the report, and the question whether anything is pending in a directory
//! (`dir/pending.rs`).
//!
//! | | transaction | swap in steps |
//! | --- | --- | --- |
//! | a step | puts a file, or removes one | renames a directory |
//! | what is staged | keeps its name until all is durable: a file can have two | moves: a directory can't, so that the old version waits at a name of its own |
//! | what stands at a target is known by | inode, size, time, checksum | names that nobody can guess; the old version by its inode |
//! | without what was staged | nothing was done, or what is missing was deleted later | the old version gets its name back |
//! | excludes other writers of | the root | the name of the target |
//!
//! One list of steps for both would need a truth table for each kind of step all the same, and a driver that knows
//! both ways of excluding writers and of going back.
//!
//! - [`encoding`]: the frame that both kinds of record share.
//! - [`checksum`]: how damage is told.

pub(crate) mod checksum;
pub(crate) mod encoding;

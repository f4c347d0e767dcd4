//! What a crash leaves, whom to believe about it, and who may remove it.
//!
//! # Roles
//!
//! | letter | what it is | its writer holds | who removes it |
//! | --- | --- | --- | --- |
//! | `s` | the staged content of one file | a lock on it | its writer; recovery, once the lock is free |
//! | `b` | a directory in which a set stages files | the lock on a file in it | the same |
//! | `x` | the same for a transaction | that, and the lock of its root | its writer; whoever holds the lock of the root, once no record names it |
//! | `j` | the record of a transaction that is decided | the lock of its root | whoever has carried it out, under that lock |
//! | `p` | a file of a transaction beside its target | nothing: it has its staged name, too | whoever carries out the record; recovery, once it has no other name |
//! | `d` | a version of a directory that is not the target | a shared lock on it, as readers do; see [`needs_tie`] for the rest | its writer; the last reader; recovery, once no lock is held and no record can name it |
//! | `o` | the old version while a swap in steps is under way | the lock of the target | whoever carries out the record, under that lock |
//! | `r` | the record of such a swap | the lock of the target | the same |
//! | `l` | a lock file | the lock on it | its holder; recovery, or the next holder, once the lock is free |
//! | `u` | the old content of a file that is being overwritten, with its record | the lock on that file | its writer; recovery, under that lock, once it has restored the file |
//! | `q` | what could not be decided | nothing | a person |
//!
//! # Whom to believe
//!
//! A name proves nothing, since anybody can work one out. [`trust`] is the one place that says who is believed. It
//! judges the file or directory that it has opened, and whoever goes on uses that handle.
//!
//! * *Obeyed* is a record, and the directory that a record names: it is mine, has one name, and neither its group
//!   nor others can write to it.
//! * *Only removed* is any other remnant: it is mine and not everybody can write to it, or it lies in a directory
//!   in which nobody but root and me can create names.
//!
//! To remove a *file* that a stranger has given one of our names takes nothing from anybody: whoever can rename it
//! can delete it. A *directory* is different. Whoever may write to its parent can rename it, and still not
//! delete what is in it. So where others can create names a directory goes only if it is empty, or if a file in
//! it ties it to its name. That file has a name that follows from the directory's, and only its owner can have put
//! it there, for the directory is not writable by anybody else. It is the file whose lock its writer holds.
//!
//! Some mounts show another owner, or one mode for everything. Where something fails the rule, a file is made
//! beside it with mode 0600, and looked at: its owner counts as me, and bits for writing that it shows count as
//! absent. On an ordinary file system such a file looks as it was made, so that nobody is believed for it.
//!
//! What is not believed is reported as untrusted, and stops nothing but a transaction in that very root, or a swap
//! of that very directory.
//!
//! [`needs_tie`]: trust::Trust::needs_tie

pub(crate) mod below;
pub(crate) mod orphan;
pub(crate) mod readers;
pub(crate) mod remove_tree;
pub(crate) mod report;
pub(crate) mod trust;

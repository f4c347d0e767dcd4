//! The last resort: a file that can't be replaced is overwritten where it stands.
//!
//! Some files can't be replaced though they can be written to: one that is a mount point itself (a bind-mounted
//! single file), one in somebody else's sticky directory, one in a directory that the caller may not write to.
//! [`InPlace::Fallback`] lets a save overwrite them. The steps, after the name was refused:
//!
//! 1. The new content is complete, and durable where the save is: nothing that can go wrong with a reader, a limit
//!    or a cancellation is left ([`save::publish`]).
//! 2. The file is opened and locked ([`lock::LockedFile`]): such saves, and recoveries of them, exclude each other.
//!    What an earlier one left is recovered first ([`recovery`]).
//! 3. The undo copy is made: one file with the [record](record::UndoRecord) and the old content. It gets its name
//!    once it is durable, and the name is made durable.
//! 4. Room is reserved, so that a full disk is told before anything has changed.
//! 5. The file is overwritten, cut to its new length, and synced.
//! 6. The undo copy is removed, and the removal made durable: this is the commit point.
//!
//! **Before step 6, a crash ends with the old content**: a recovery that finds the undo copy writes it back
//! ([`restore`]), however much of the new content there is. After it, with the new one. In between readers see a
//! mixture, which no protocol can avoid here.
//!
//! A recovery restores only what this save can have left: each sector of the file is the old or the new one. Anything
//! else was saved later by somebody who knows nothing of all this; it stays, and the undo copy is moved aside.
//!
//! The undo copy lies in the *undo directory*: that of the target or, where no name can be created in it, the one
//! that [`WriteOptions::undo_dir`] names. Its name follows from the target's, so that the next save finds it without a
//! listing. A record in the directory of its target says the target's name, any other one its path.
//!
//! After a failed sync of the file nobody knows what is on the disk, and a second sync would say `Ok`
//! (`atomic/mod.rs`, step 6). So the save ends as [`TargetState::Pending`], and the recovery writes every
//! block anew.
//!
//! [`InPlace::Fallback`]: crate::options::InPlace::Fallback
//! [`WriteOptions::undo_dir`]: crate::options::WriteOptions::undo_dir
//! [`TargetState::Pending`]: crate::error::TargetState::Pending

pub(crate) mod lock;
mod record;
pub(crate) mod recovery;
mod restore;
pub(crate) mod save;
mod undo_copy;

//! One save. The protocol, step by step, as it replaces a file on Linux:
//!
//! 1. Open the parent directory ([`target::Target::resolve`]). Everything else is relative to it, so that a
//!    directory that is moved or swapped meanwhile changes nothing. Missing parents are made first, if asked
//!    for, each durable in its own parent ([`create_parents`]).
//! 2. Look at the target (`Target::lookup`). Its kind is judged and its metadata read from one inode, opened
//!    with `O_PATH`, without side effects on FIFOs and devices. With `skip_unchanged`, the save may end here
//!    ([`unchanged`]).
//! 3. Create the staged file ([`staged::Staged::create`]), without a name where the system can: then nothing
//!    is left after a kill, and nobody can have planted anything at the name.
//! 4. Write ([`content::ContentWriter`]).
//! 5. Set the metadata, owner first ([`metadata::apply`]): before the sync, so that it is as durable as the
//!    content, and before a name leads to it, so that nobody reads what they must not.
//! 6. Sync the file ([`sync_mode::FileSync`]): content before name, or a crash may leave the new name with torn
//!    content. After a failed sync the staged file is thrown away, never synced again: Linux drops the dirty
//!    pages, and would say `Ok` the second time.
//! 7. Lock the file, then link it to a short random name beside the target (`Staged::give_name`): recovery takes
//!    a locked file for a live one. A new target needs no such name, and the file is linked straight to it
//!    (`Staged::link_unnamed`), which fails if anything is there; then those who watch the directory are told
//!    ([`announce::announce`]).
//! 8. With `keep_previous`, give the replaced version its second name ([`previous::keep`]). Rename over the target
//!    (`Staged::move_into_place`): atomic within a directory.
//! 9. Close: gives up the lock, which would be in the way of an application's own.
//! 10. Sync the directory ([`parent_sync::sync_parent`]): until then a power cut may undo the rename.
//! 11. Close the directory and, where it was held, the replaced file (`Target::unpin_unless_needed`).
//!
//! Where files can't be without a name, or can't be linked, the staged file is created under a random name in
//! step 3, with a mode for its owner only, and locked at once; after locking, the writer makes sure that it still
//! has a name, since a recovery may have been quicker. Step 7 is empty then.
//!
//! Whatever fails up to step 7, or up to step 6 where a new target gets its name in step 7, leaves the target untouched
//! and nothing behind. From then on nothing is removed unless the link or the rename certainly failed, and [`outcome`]
//! alone says whether it did. The exact system calls are pinned by `tests/it/save/syscalls.rs`, the disks that a crash
//! may leave by `tests/it/crash`.

pub(crate) mod announce;
pub(crate) mod content;
pub(crate) mod copy;
pub(crate) mod create_parents;
pub(crate) mod metadata;
pub(crate) mod new_name;
pub(crate) mod outcome;
pub(crate) mod parent_sync;
pub(crate) mod previous;
pub(crate) mod publish;
pub(crate) mod spelling;
pub(crate) mod staged;
pub(crate) mod sync_mode;
pub(crate) mod target;
pub(crate) mod unchanged;

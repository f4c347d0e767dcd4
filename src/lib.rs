//! Durable, atomic saves for applications: a file holds its complete old or its complete new content,
//! after a crash and after a power cut too.
//!
//! | I want to | I use |
//! | --- | --- |
//! | save one file | [`write()`] |
//! | save a value as JSON | `write_json` (feature `json`) |
//! | save with options: permissions, create only, size limit, ... | [`WriteOptions`] |
//! | read, change and save, and lose no other program's change | [`update()`] |
//! | save only if nobody else has saved since I read the file | [`read_version`], [`WriteOptions::expect`] |
//! | write a long file piece by piece, or copy a reader | [`AtomicFile`], [`WriteOptions::write_from`] |
//! | write a file whose name is known only at the end | [`WriteOptions::open_in`], [`AtomicFile::commit_as`] |
//! | save many independent files fast | [`Batch`] |
//! | change several files together, or none | [`Transaction`] |
//! | replace a directory as a whole, and read one version of it | [`AtomicDir`], [`DirSnapshot`] |
//! | create, rename and remove durably | [`create_dir_all`], [`rename`], [`rename_new`], [`remove_file`], [`remove_dir_all`] |
//! | make durable what another library wrote | [`sync`] |
//! | clean up after a crash, when the program starts | [`recover()`], [`RecoveryOptions`] |
//! | skip staged files when I list a directory | [`is_remnant`] |
//! | be the only process that does something | [`LockFile`] |
//! | find out whether I can save here, and whether the writer is alive | [`health`] |
//! | stop saves cleanly, at SIGTERM too | [`CancelToken`] |
//! | try every crash state of my own save path, or let my saves fail in a test | the feature `crash_testing` |
//!
//! # Wrong code, right code
//!
//! The obvious code keeps neither promise. A crash after the file was truncated leaves it empty or torn:
//!
//! ```no_run
//! # let text = "";
//! std::fs::write("settings.toml", text)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A rename alone is atomic for other programs, but after a power cut the new name may lead to an empty
//! file, and the old content is gone. This keeps both promises:
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let text = "theme = 'dark'";
//! # std::env::set_current_dir(&dir)?;
//! durafile::write("settings.toml", text)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It writes the content into a file without a name in the same directory, gives that file the old one's metadata,
//! syncs it, renames it over the old file and syncs the directory. If anything fails before the rename, nothing is
//! left behind.
//!
//! # Atomicity and durability
//!
//! *Atomic* means: at every instant, and after any crash, the target holds the complete old or the complete
//! new content. *Durable* means: once a save has returned `Ok`, the new content survives power loss.
//! [`Durability`] chooses how much of that a save must reach: [`Full`](Durability::Full), the default,
//! makes two sync calls; [`Data`](Durability::Data) makes one, and a power cut may bring back the old
//! version; [`None`](Durability::None) makes none, and a power cut may tear the file.
//!
//! # What an error means
//!
//! [`Error::target`] says what the target holds now, [`Error::kind`] what went wrong,
//! [`Error::is_transient`] whether it is worth trying again, and [`Error::hint`] what to tell the user.
//!
//! # Platforms
//!
//! Linux comes first: everything is tested there, on ext4, XFS, btrfs, tmpfs and overlayfs. On Windows a
//! save reaches [`Durability::Data`], and the replaced file's ACL, streams and compression are not
//! kept; the portable tests were run under wine only. On macOS ACLs are not kept, and nothing was run: the
//! code is type-checked. `docs/platforms.md` in the repository has a table.
//!
//! # Features
//!
//! * `json` (default): `write_json` and its relatives. It brings in `serde` and `serde_json`.
//! * `signals`: `CancelToken::on_termination`, for SIGTERM and SIGINT. It brings in `signal-hook`.
//! * `crash_testing`: for test builds. On Linux it tries every crash state of an application's own save path; on every
//!   platform it makes saves fail on purpose (`crash_testing::fail_saves`).
//!
//! # Limits
//!
//! * A replaced file is a new inode: other hard links keep the old content, and a program that has the old
//!   file open keeps reading that.
//! * The directory must be writable, not only the file. A file that is a mount point itself can't be
//!   replaced. [`InPlace::Fallback`] overwrites such files, with an undo copy.
//! * No program can help if a device confirms a flush and then forgets the data.
//! * Files on tmpfs are not durable; [`Committed::durability`] says so.
//! * Two programs that save one path at the same time don't mix their content, but the last one wins, unless they
//!   use [`update()`] or [`WriteOptions::expect`].
//! * A crash can fall between two saves. For files that belong together, see [`Transaction`] and [`AtomicDir`].
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod batch;
mod cancel;
mod condition;
#[cfg(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))]
pub mod crash_testing;
/// Saves that fail on purpose, in an application's own tests. The rest of this module exists on Linux only.
#[cfg(all(feature = "crash_testing", not(any(target_os = "linux", target_os = "android"))))]
pub mod crash_testing {
    pub use crate::failing::{FailSaves, fail_saves};
}
mod dir;
mod error;
mod error_kind;
mod failing;
mod file;
mod fs_ops;
pub mod health;
mod journal;
mod key_value;
mod lock;
mod name_format;
mod names;
mod options;
mod overwrite;
mod recover;
mod remnant;
mod set;
mod sys;
mod transaction;
mod update;

pub use batch::Batch;
pub use cancel::CancelToken;
#[cfg(feature = "signals")]
pub use cancel::EXIT_CANCELLED;
pub use dir::AtomicDir;
pub use dir::options::{Carry, DirOptions};
pub use dir::snapshot::DirSnapshot;
pub use error::{Error, Result, TargetState};
pub use error_kind::ErrorKind;
pub use file::atomic_file::AtomicFile;
pub use file::write;
#[cfg(feature = "json")]
pub use file::write_json;
pub use fs_ops::create_dir::create_dir_all;
pub use fs_ops::remove::{remove_dir_all, remove_file};
pub use fs_ops::rename::{rename, rename_new};
pub use fs_ops::sync::sync;
pub use lock::LockFile;
pub use lock::holder::Holder;
pub use name_format::is_remnant;
pub use options::durability::{Committed, Durability, SyncStrategy};
pub use options::file_version::FileVersion;
pub use options::{HardLinks, InPlace, SpecialFiles, Symlinks, WriteOptions};
pub use recover::report::Recovery;
pub use recover::{RecoveryOptions, recover};
pub use set::staged_file::StagedFile;
pub use transaction::Transaction;
pub use transaction::options::TransactionOptions;
pub use update::{read_version, update};

// The pages use every feature, and the package's own tests may be run without.
#[cfg(all(
    doctest,
    any(target_os = "linux", target_os = "android"),
    feature = "json",
    feature = "crash_testing"
))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(all(
    doctest,
    any(target_os = "linux", target_os = "android"),
    feature = "json",
    feature = "crash_testing"
))]
#[doc = include_str!("../docs/recipes.md")]
mod recipes {}

#[cfg(all(doctest, feature = "json"))]
#[doc = include_str!("../docs/moving.md")]
mod moving {}

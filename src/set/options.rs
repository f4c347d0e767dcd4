//! The options that an `AtomicDir` and a `Transaction` have in common.

use std::path::Path;
use std::time::Duration;

use crate::atomic::create_parents;
use crate::atomic::target::refuse_no_path;
use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::options::durability::{Durability, SyncStrategy};
use crate::options::{InPlace, Symlinks, WriteOptions};
use crate::set::sync_request::SyncRequest;
use crate::set::writer_lock::Patience;
use crate::sys::Dir;

#[derive(Clone, Debug, Default)]
pub(crate) struct SetOptions {
    pub(crate) durability: Durability,
    pub(crate) sync: SyncStrategy,
    pub(crate) single_flush: bool,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) lock_timeout: Duration,
    pub(crate) create_parents: bool,
    pub(crate) files: WriteOptions,
}

impl SetOptions {
    pub(crate) const fn new() -> SetOptions {
        SetOptions {
            durability: Durability::Full,
            sync: SyncStrategy::Auto,
            single_flush: false,
            cancel: None,
            lock_timeout: Duration::ZERO,
            create_parents: false,
            files: WriteOptions::new(),
        }
    }

    /// How each file is written that the caller gives.
    pub(crate) fn of_files(&self) -> WriteOptions {
        let (durability, cancel) = (self.durability, self.cancel.clone());
        WriteOptions { durability, cancel, ..self.files.clone() }
    }

    /// How everything else is written: what is carried over, and records.
    pub(crate) fn of_internal_files(&self) -> WriteOptions {
        let (durability, cancel) = (self.durability, self.cancel.clone());
        WriteOptions { durability, cancel, ..WriteOptions::new() }
    }

    pub(crate) fn sync_request(&self) -> SyncRequest {
        SyncRequest { durability: self.durability, strategy: self.sync, single_flush: self.single_flush }
    }

    /// How long another writer of `path` is waited for.
    pub(crate) fn patience<'a>(&'a self, path: &'a Path) -> Patience<'a> {
        Patience { path, timeout: self.lock_timeout, cancel: self.cancel.as_ref() }
    }

    /// Refuses options of single files that a set decides as a whole, or can't keep.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        refuse_no_path("begin a set at", path)?;
        let refuse = |option: &str| {
            let reason = format!("`files` does not take the option `{option}`");
            Err(Error::new(ErrorKind::Unsupported, "begin a set at", path).because(reason))
        };
        unsupported(&self.files).map_or(Ok(()), refuse)
    }

    /// The directory that something is made in, with what is missing above it if the options say so.
    pub(crate) fn open_dir(&self, path: &Path) -> std::io::Result<Dir> {
        if self.create_parents { create_parents::open_or_create(path) } else { Dir::open(path) }
    }
}

/// The first option that isn't at its default and that a set doesn't take. All are named, so that a new one can't
/// be forgotten.
fn unsupported(files: &WriteOptions) -> Option<&'static str> {
    let WriteOptions {
        durability,
        create_new,
        create_parents,
        permissions: _,
        permissions_may_differ: _,
        forget_metadata: _,
        symlinks,
        skip_unchanged: _,
        size_limit: _,
        single_flush,
        cancel,
        expect,
        hard_links: _,
        keep_previous,
        in_place,
        undo_dir,
        busy_timeout,
        #[cfg(feature = "json")]
            pretty: _,
        #[cfg(feature = "json")]
            final_newline: _,
    } = files;
    let refused = [
        ("durability", *durability != Durability::Full),
        ("create_new", *create_new),
        ("create_parents", *create_parents),
        ("symlinks", *symlinks != Symlinks::Follow),
        ("single_flush", *single_flush),
        ("cancel", cancel.is_some()),
        ("expect", expect.is_some()),
        ("keep_previous", keep_previous.is_some()),
        ("in_place", *in_place != InPlace::Never),
        ("undo_dir", undo_dir.is_some()),
        ("busy_timeout", busy_timeout.is_some()),
    ];
    refused.into_iter().find(|(_, is_set)| *is_set).map(|(option, _)| option)
}

/// The options that make no sense in a batch, whose files are published together.
pub(crate) fn check_for_batch(options: &WriteOptions, path: &Path) -> Result<()> {
    let refused = [
        ("expect", options.expect.is_some()),
        ("keep_previous", options.keep_previous.is_some()),
        ("in_place", options.in_place != InPlace::Never),
        ("undo_dir", options.undo_dir.is_some()),
    ];
    match refused.into_iter().find(|(_, is_set)| *is_set) {
        Some((option, _)) => Err(Error::new(ErrorKind::Unsupported, "add to a batch", path)
            .because(format!("a batch does not take the option `{option}`"))),
        None => Ok(()),
    }
}

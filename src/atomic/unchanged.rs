//! Is the new content what the target holds already?

use std::io;

use crate::atomic::parent_sync::{reached, sync_parent};
use crate::atomic::target::Target;
use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::options::WriteOptions;
use crate::options::durability::{Committed, Durability};
use crate::sys::{File, Kind};

/// The new content, in memory or staged.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    Staged(&'a File, u64),
}

impl Content<'_> {
    fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Staged(_, len) => *len,
        }
    }

    fn matches(&self, at: u64, theirs: &[u8], scratch: &mut [u8]) -> io::Result<bool> {
        match self {
            Content::Bytes(bytes) => {
                let ours = usize::try_from(at).ok().and_then(|at| bytes.get(at..at + theirs.len()));
                Ok(ours == Some(theirs))
            }
            Content::Staged(file, _) => {
                let ours = scratch.get_mut(..theirs.len()).unwrap_or_default();
                file.read_full(ours, at).map(|len| len == theirs.len() && ours == theirs)
            }
        }
    }
}

/// If the target holds the same bytes, with the permissions that are asked for, makes it durable
/// and says so. A target that can't be read is taken to differ.
pub(crate) fn unchanged(
    target: &Target,
    content: &Content<'_>,
    options: &WriteOptions,
) -> Result<Option<Committed>> {
    let Some(file) = unchanged_file(target, content, options) else { return Ok(None) };
    let fail = |operation| move |e| Error::io(operation, &target.path, e);
    let stat = file.stat().map_err(fail("inspect"))?;
    let kind = file.fs_kind(&stat).map_err(fail("inspect"))?;
    if options.durability != Durability::None {
        file.sync().map_err(fail("sync"))?;
    }
    let mut durability = options.durability;
    if durability == Durability::Full {
        durability = reached(durability, sync_parent(&target.dir).map_err(fail("sync the directory of"))?);
    }
    Ok(Some(Committed { unchanged: true, ..Committed::new(kind.cap_durability(durability)) }))
}

/// The open file of a target that holds the same bytes.
pub(crate) fn unchanged_file(target: &Target, content: &Content<'_>, options: &WriteOptions) -> Option<File> {
    let synced = options.durability != Durability::None;
    same(target, content, options).unwrap_or(None).filter(|file| !synced || file.can_be_synced())
}

/// So much is compared at a time.
const PART: u64 = 64 << 10;

fn same(target: &Target, content: &Content<'_>, options: &WriteOptions) -> io::Result<Option<File>> {
    let Some(existing) = &target.existing else { return Ok(None) };
    let candidate = existing.stat.kind == Kind::File
        && existing.stat.size == content.len()
        && options.asked_mode().is_none_or(|mode| mode == existing.stat.mode);
    if !candidate {
        return Ok(None);
    }
    let file = target.dir.open_file(&target.name)?;
    if file.stat()?.id != existing.stat.id {
        return Ok(None);
    }
    // One byte more: a file that has grown meanwhile differs.
    let part = content.len().saturating_add(1).min(PART) as usize;
    let mut theirs = vec![0; part];
    let mut scratch = vec![0; if matches!(content, Content::Staged(..)) { part } else { 0 }];
    let mut at = 0;
    loop {
        if options.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            // The save that follows says so.
            return Ok(None);
        }
        let read = file.read_full(&mut theirs, at)?;
        if read == 0 {
            return Ok((at == content.len()).then_some(file));
        }
        if !content.matches(at, &theirs[..read], &mut scratch)? {
            return Ok(None);
        }
        at += read as u64;
    }
}

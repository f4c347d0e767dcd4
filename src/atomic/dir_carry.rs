//! Carrying over what the present version has and nobody replaced.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::dir_draft::{Below, Draft, open, open_parent};
use super::dir_target::Root;
use super::stream::Stream;
use super::{metadata, names};
use crate::dir::Carry;
use crate::options::WriteOptions;
use crate::sys::{self, Dir, File, FileId, Kind};
use crate::{CancelToken, Error, ErrorKind, Result};

/// Smaller files are copied faster than they are made to share blocks.
const WORTH_SHARING: u64 = 64 << 10;

/// What was carried over comes here.
pub(crate) trait Harvest {
    /// The complete copy of a file.
    fn copied(&mut self, rel: &Path, copy: File);
    /// Another name of a file, which may have been written to without a sync.
    fn linked(&mut self, file: &File) -> io::Result<()>;
}

impl Draft {
    /// Carries over what is still missing.
    pub(crate) fn carry(
        &mut self,
        carry: Carry,
        options: &WriteOptions,
        harvest: &mut dyn Harvest,
    ) -> Result<()> {
        let Some(below) = self.below.take() else { return Ok(()) };
        let Some(old) = self.old.take() else { return Ok(()) };
        let sharing = true;
        let (pending, twins) = (vec![PathBuf::new()], HashMap::new());
        let mut porter =
            Porter { draft: self, below, old: &old, carry, options, harvest, pending, twins, sharing };
        let done = porter.run();
        self.old = Some(old);
        done
    }
}

struct Porter<'a> {
    draft: &'a mut Draft,
    below: Below,
    old: &'a Root,
    carry: Carry,
    options: &'a WriteOptions,
    harvest: &'a mut dyn Harvest,
    /// Directories to look into.
    pending: Vec<PathBuf>,
    /// Files with several names, and where one of them was carried.
    twins: HashMap<FileId, PathBuf>,
    /// Files may share blocks here, as far as is known.
    sharing: bool,
}

impl Porter<'_> {
    fn run(&mut self) -> Result<()> {
        let mut done = Vec::new();
        while let Some(rel) = self.pending.pop() {
            self.visit(&rel)?;
            done.push(rel);
        }
        // The root gets its metadata when the draft is complete.
        done.iter().skip(1).rev().try_for_each(|rel| self.finish(rel).map_err(|e| self.fail(rel, e)))
    }

    fn fail(&self, rel: &Path, e: io::Error) -> Error {
        Error::io("carry over", &self.draft.path_of(rel), e)
    }

    fn visit(&mut self, rel: &Path) -> Result<()> {
        let fail = |rel: &Path, e| Error::io("carry over", &self.draft.path_of(rel), e);
        let from = open(&self.old.dir, rel).map_err(|e| fail(rel, e))?;
        let stat = from.stat().map_err(|e| fail(rel, e))?;
        if stat.mount_root && !rel.as_os_str().is_empty() {
            return Err(Error::mount_point(&self.draft.path_of(rel), None));
        }
        let to = open(&self.draft.stage.root.dir, rel).map_err(|e| fail(rel, e))?;
        let entries: io::Result<Vec<_>> = from.entries().and_then(Iterator::collect);
        for (name, kind) in entries.map_err(|e| fail(rel, e))? {
            let path = rel.join(&name);
            // The remnants of a crash are not content.
            if names::role_of(&name).is_some() || self.below.masked.contains_key(&path) {
                continue;
            }
            CancelToken::check(self.options.cancel.as_ref(), &self.draft.target.path)?;
            self.take(&from, &to, &name, kind, &path)?;
        }
        Ok(())
    }

    fn take(&mut self, from: &Dir, to: &Dir, name: &OsStr, kind: Option<Kind>, rel: &Path) -> Result<()> {
        let kind = match kind {
            Some(kind) => kind,
            None => from.stat_at(name).map_err(|e| self.fail(rel, e))?.kind,
        };
        let taken = match kind {
            Kind::File => return self.take_file(from, to, name, rel),
            Kind::Dir => self.take_dir(to, rel),
            Kind::Symlink => take_link(from, to, name),
            Kind::Other => return Err(special(&self.draft.path_of(rel))),
        };
        taken.map_err(|e| self.fail(rel, e))
    }

    fn take_dir(&mut self, to: &Dir, rel: &Path) -> io::Result<()> {
        match self.draft.mirror(to, rel) {
            // Something was saved in it, or it was created.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made?;
                self.draft.dirs.push(rel.to_owned());
            }
        }
        self.pending.push(rel.to_owned());
        Ok(())
    }

    fn take_file(&mut self, from: &Dir, to: &Dir, name: &OsStr, rel: &Path) -> Result<()> {
        if self.carry == Carry::HardLink {
            match from.link_into(name, to, name) {
                // Too many names, another user's file, one that may not change, another mount.
                Err(e) if sys::cannot_link(&e) || e.kind() == io::ErrorKind::CrossesDevices => {}
                linked => {
                    let written = linked.and_then(|()| self.write_out(from, name));
                    return written.map_err(|e| self.fail(rel, e));
                }
            }
        }
        let original = from.open_file(name).map_err(|e| self.fail(rel, e))?;
        self.copy(&original, to, name, rel)
    }

    fn write_out(&mut self, from: &Dir, name: &OsStr) -> io::Result<()> {
        match from.open_file(name) {
            // It can't have been written to by the caller either.
            Err(e) if sys::is_forbidden(&e) => Ok(()),
            opened => self.harvest.linked(&opened?),
        }
    }

    fn copy(&mut self, original: &File, to: &Dir, name: &OsStr, rel: &Path) -> Result<()> {
        let fail = |e| Error::io("carry over", &self.draft.path_of(rel), e);
        let existing = original.existing().map_err(fail)?;
        if existing.stat.kind != Kind::File {
            return Err(special(&self.draft.path_of(rel)));
        }
        if existing.stat.nlink > 1 {
            if let Some(twin) = self.twins.get(&existing.stat.id) {
                let parent = open_parent(&self.draft.stage.root.dir, twin).map_err(fail)?;
                return parent.link_into(twin.file_name().unwrap_or_default(), to, name).map_err(fail);
            }
            self.twins.insert(existing.stat.id, rel.to_owned());
        }
        let copy = to.create_new(name, existing.stat.mode & 0o700).map_err(fail)?;
        let worth = self.sharing && existing.stat.size >= WORTH_SHARING;
        let shared = worth && copy.share_content_of(original).map_err(fail)?;
        self.sharing &= !worth || shared;
        let copy = if shared { copy } else { self.copy_content(original, copy, rel)? };
        metadata::carry(&copy, &existing)
            .and_then(|()| sys::copy_times(original, &copy))
            .map_err(|e| self.fail(rel, e))?;
        self.harvest.copied(rel, copy);
        Ok(())
    }

    fn copy_content(&self, original: &File, copy: File, rel: &Path) -> Result<File> {
        let mut stream = Stream::new(copy, &self.draft.path_of(rel), self.options.into());
        stream.copy_from(original, "carry over")?;
        Ok(stream.into_file())
    }

    /// Its content is complete: times and a mode that forbids writing can be set.
    fn finish(&self, rel: &Path) -> io::Result<()> {
        let original = open(&self.old.dir, rel)?.as_inode()?;
        let copy = open(&self.draft.stage.root.dir, rel)?.as_inode()?;
        metadata::carry(&copy, &original.existing()?)?;
        if self.below.touched.contains(rel) { Ok(()) } else { sys::copy_times(&original, &copy) }
    }
}

fn special(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidPath, "carry over the FIFO, socket or device", path)
}

fn take_link(from: &Dir, to: &Dir, name: &OsStr) -> io::Result<()> {
    let (stat, text) = (from.stat_at(name)?, from.read_link(name)?);
    to.symlink(name, text.as_os_str())?;
    to.liken_link(name, &stat, (from, name));
    Ok(())
}

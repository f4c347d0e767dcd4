//! Carrying over what the present version has and nobody replaced.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::content::ContentWriter;
use crate::atomic::metadata;
use crate::cancel::CancelToken;
use crate::dir::draft::{Draft, LowerTree};
use crate::dir::nature::refuse_if_lost;
use crate::dir::options::{Carry, DirOptions};
use crate::dir::pending::recover_pending_in;
use crate::dir::version::{LockedVersion, open_parent};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::options::SpecialFiles;
use crate::set::collector::{Collector, lock};
use crate::set::sync_request::GroupSync;
use crate::sys::{self, Dir, File, FileId, Kind};

/// Smaller files are copied faster than they are made to share blocks.
const WORTH_SHARING: u64 = 64 << 10;

/// Files that were carried over, to be made durable with those that the caller wrote.
pub(crate) struct CarriedFiles<'a> {
    pub(crate) collector: &'a Collector,
    pub(crate) sync: GroupSync,
    /// The path of each file, by its number in the collector.
    pub(crate) paths: &'a mut Vec<PathBuf>,
}

impl CarriedFiles<'_> {
    /// Takes the complete copy of a file.
    fn copied(&mut self, rel: &Path, copy: File) {
        self.paths.push(rel.to_owned());
        lock(self.collector).add(self.sync, self.paths.len() - 1, copy);
    }

    /// Takes another name of a file, which some other program may have written to without a sync.
    fn linked(&mut self, file: &File) -> io::Result<()> {
        match self.sync {
            GroupSync::None | GroupSync::SyncFs => Ok(()),
            _ => file.written_out(),
        }
    }
}

impl Draft {
    /// Carries over what is still missing.
    pub(crate) fn carry(&mut self, options: &DirOptions, files: CarriedFiles<'_>) -> Result<()> {
        let Some(lower) = self.lower.take() else { return Ok(()) };
        let Some(old) = self.old.take() else { return Ok(()) };
        let sharing = true;
        let (pending, twins) = (vec![(PathBuf::new(), false)], HashMap::new());
        let mut carry_over =
            CarryOver { draft: self, lower, old: &old, options, files, pending, twins, sharing };
        let done = carry_over.run();
        self.old = Some(old);
        done
    }
}

struct CarryOver<'a> {
    draft: &'a mut Draft,
    lower: LowerTree,
    old: &'a LockedVersion,
    options: &'a DirOptions,
    files: CarriedFiles<'a>,
    /// Directories whose entries are still to be carried over; also whether this has created each in the new version.
    pending: Vec<(PathBuf, bool)>,
    /// Files with several names, and where one of them was carried.
    twins: HashMap<FileId, PathBuf>,
    /// Files may share blocks here, as far as is known.
    sharing: bool,
}

impl CarryOver<'_> {
    fn run(&mut self) -> Result<()> {
        let mut done = Vec::new();
        while let Some((rel, made)) = self.pending.pop() {
            match self.visit(&rel)? {
                true => done.push(rel),
                false => self.forget_dir(&rel, made).map_err(|e| self.fail(&rel, e))?,
            }
        }
        // The root gets its metadata when the draft is complete.
        for rel in done.iter().skip(1).rev() {
            self.finish(rel).map_err(|e| self.fail(rel, e))?;
        }
        Ok(())
    }

    fn fail(&self, rel: &Path, e: io::Error) -> Error {
        Error::io("carry over", &self.draft.path_of(rel), e)
    }

    /// False if it isn't there any more.
    fn visit(&mut self, rel: &Path) -> Result<bool> {
        let fail = |rel: &Path, e| Error::io("carry over", &self.draft.path_of(rel), e);
        let from = match self.old.dir.open_beneath(rel) {
            Err(e) if sys::is_gone(&e) => return Ok(false),
            opened => Arc::new(opened.map_err(|e| fail(rel, e))?),
        };
        let stat = from.stat().map_err(|e| fail(rel, e))?;
        if stat.mount_root && !rel.as_os_str().is_empty() {
            return Err(Error::mount_point(&self.draft.path_of(rel), None));
        }
        let to = self.draft.stage.root.dir.open_beneath(rel).map_err(|e| fail(rel, e))?;
        if !rel.as_os_str().is_empty() {
            refuse_if_lost(&from, &to, &self.draft.path_of(rel))?;
            self.draft.keeps_metadata &= to.keep_flags_of(&from);
        }
        let entries = self.list(&from, rel)?;
        let is_listed = |wanted: &OsStr| entries.iter().any(|(name, _)| name == wanted);
        for (name, kind) in &entries {
            let (path, kind) = (rel.join(name), *kind);
            let whitened = self.lower.is_whitened(self.old, (&from, &to), &path, is_listed);
            if whitened.map_err(|e| self.fail(&path, e))? {
                continue;
            }
            CancelToken::check(self.options.set.cancel.as_ref(), &self.draft.target.path)?;
            self.take(&from, &to, name, kind, &path)?;
        }
        Ok(true)
    }

    /// The entries of a directory to carry over, once nothing is pending in it. What a crash left is no
    /// content, but for what a recovery has moved aside: that waits for a person.
    fn list(&self, from: &Arc<Dir>, rel: &Path) -> Result<Vec<(OsString, Option<Kind>)>> {
        let path = self.draft.path_of(rel);
        let list = || -> Result<(Vec<_>, Vec<_>)> {
            let entries: io::Result<Vec<_>> = from.entries().and_then(Iterator::collect);
            let entries = entries.map_err(|e| Error::io("carry over", &path, e))?;
            let is_content =
                |(name, _): &(OsString, _)| matches!(names::role_of(name), None | Some(Role::Quarantined));
            Ok(entries.into_iter().partition(is_content))
        };
        let (content, remnants) = list()?;
        let remnants: Vec<OsString> = remnants.into_iter().map(|(name, _)| name).collect();
        if recover_pending_in(from, &remnants, &path)? { Ok(list()?.0) } else { Ok(content) }
    }

    fn take(&mut self, from: &Dir, to: &Dir, name: &OsStr, kind: Option<Kind>, rel: &Path) -> Result<()> {
        let kind = match from.kind_of(name, kind) {
            Err(e) if sys::is_gone(&e) => return Ok(()),
            kind => kind.map_err(|e| self.fail(rel, e))?,
        };
        let taken = match kind {
            Kind::File => return self.take_file(from, to, name, rel),
            Kind::Dir => self.take_dir(to, rel),
            Kind::Symlink => take_link(from, to, name),
            Kind::Other => return self.pass_special(rel),
        };
        taken.map_err(|e| self.fail(rel, e))
    }

    fn pass_special(&self, rel: &Path) -> Result<()> {
        const OPERATION: &str = "carry over the FIFO, socket or device";
        match self.options.special_files {
            SpecialFiles::Skip => Ok(()),
            SpecialFiles::Refuse => {
                Err(Error::new(ErrorKind::InvalidPath, OPERATION, &self.draft.path_of(rel)))
            }
        }
    }

    fn take_dir(&mut self, to: &Dir, rel: &Path) -> io::Result<()> {
        let made = match self.draft.mirror(to, rel) {
            // Something was saved in it, or it was created.
            Err(e) if sys::already_exists(&e) => false,
            made => made?,
        };
        if made {
            self.draft.dirs.push(rel.to_owned());
        }
        self.pending.push((rel.to_owned(), made));
        Ok(())
    }

    /// The directory vanished since it was listed.
    fn forget_dir(&mut self, rel: &Path, made: bool) -> io::Result<()> {
        if made {
            self.draft.dirs.retain(|dir| dir != rel);
            open_parent(&self.draft.stage.root.dir, rel)?.rmdir(rel.file_name().unwrap_or_default())?;
        }
        Ok(())
    }

    fn take_file(&mut self, from: &Dir, to: &Dir, name: &OsStr, rel: &Path) -> Result<()> {
        if self.options.carry == Carry::HardLink {
            match from.link_into(name, to, name) {
                // Too many names, another user's file, one that may not change, another mount.
                Err(e) if sys::cannot_link(&e) || sys::crosses_devices(&e) => {}
                Err(e) if sys::is_not_found(&e) => return Ok(()),
                linked => {
                    let written = linked.and_then(|()| self.write_out(from, name));
                    return written.map_err(|e| self.fail(rel, e));
                }
            }
        }
        match from.open_file(name) {
            // It vanished since it was listed.
            Err(e) if sys::is_not_found(&e) => Ok(()),
            opened => self.copy(&opened.map_err(|e| self.fail(rel, e))?, to, name, rel),
        }
    }

    fn write_out(&mut self, from: &Dir, name: &OsStr) -> io::Result<()> {
        match from.open_file(name) {
            // A file that the caller may not open. Its programs can't have left writes without a sync in it either.
            Err(e) if sys::is_forbidden(&e) => Ok(()),
            Err(e) if sys::is_not_found(&e) => Ok(()),
            opened => self.files.linked(&opened?),
        }
    }

    fn copy(&mut self, original: &File, to: &Dir, name: &OsStr, rel: &Path) -> Result<()> {
        let fail = |e| Error::io("carry over", &self.draft.path_of(rel), e);
        let existing = original.existing().map_err(fail)?;
        if existing.stat.kind != Kind::File {
            return self.pass_special(rel);
        }
        if existing.stat.nlink > 1 {
            if let Some(twin) = self.twins.get(&existing.stat.id) {
                let parent = open_parent(&self.draft.stage.root.dir, twin).map_err(fail)?;
                return parent.link_into(twin.file_name().unwrap_or_default(), to, name).map_err(fail);
            }
            self.twins.insert(existing.stat.id, rel.to_owned());
        }
        let copy = to.create_new(name, existing.stat.mode & 0o700).map_err(fail)?;
        if existing.stat.is_encrypted {
            let stat = copy.stat().map_err(fail)?;
            metadata::check_encryption(&existing.stat, &stat).map_err(|e| self.fail(rel, e))?;
        }
        let worth = self.sharing && existing.stat.size >= WORTH_SHARING;
        let shared = worth && copy.share_content_of(original).map_err(fail)?;
        self.sharing &= !worth || shared;
        let copy = if shared { copy } else { self.copy_content(original, copy, rel)? };
        let is_kept = metadata::copy_metadata(&copy, &existing).map_err(|e| self.fail(rel, e))?;
        self.draft.keeps_metadata &= is_kept;
        let has_times = metadata::unless_refused(sys::copy_times(original, &copy));
        self.draft.keeps_metadata &= has_times.map_err(|e| self.fail(rel, e))?;
        self.files.copied(rel, copy);
        Ok(())
    }

    fn copy_content(&self, original: &File, copy: File, rel: &Path) -> Result<File> {
        let limits = (&self.options.set.of_internal_files()).into();
        let mut stream = ContentWriter::new(copy, &self.draft.path_of(rel), limits);
        stream.copy_from(original, "carry over")?;
        Ok(stream.into_file())
    }

    /// Its content is complete: times and a mode that forbids writing can be set.
    fn finish(&mut self, rel: &Path) -> io::Result<()> {
        let original = match self.old.dir.open_beneath(rel) {
            Err(e) if sys::is_gone(&e) => return Ok(()),
            opened => opened?.as_inode()?,
        };
        let copy = self.draft.stage.root.dir.open_beneath(rel)?.as_inode()?;
        self.draft.keeps_metadata &= metadata::copy_metadata(&copy, &original.existing()?)?;
        if !self.lower.touched.contains(rel) {
            self.draft.keeps_metadata &= metadata::unless_refused(sys::copy_times(&original, &copy))?;
        }
        Ok(())
    }
}

fn take_link(from: &Dir, to: &Dir, name: &OsStr) -> io::Result<()> {
    let (stat, text) = match (from.stat_at(name), from.read_link(name)) {
        // It vanished since it was listed.
        (Err(e), _) | (_, Err(e)) if sys::is_not_found(&e) => return Ok(()),
        (stat, text) => (stat?, text?),
    };
    to.symlink(name, text.as_os_str())?;
    to.copy_link_times(name, &stat, (from, name));
    Ok(())
}

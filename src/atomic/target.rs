//! From a path to the directory and name that a save will replace, checked before anything is
//! written.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::atomic::create_parents;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::refuse_ours;
use crate::options::{HardLinks, InPlace, Symlinks, WriteOptions};
use crate::sys::{self, Dir, File, FsKind, Kind, Stat, TargetMeta};

const SAVE: &str = "save to";
const FOLLOW: &str = "follow the link";

/// As many links as the kernel follows.
pub(crate) const MAX_LINKS: usize = 40;

/// Where a save goes. `dir` is the parent of the *resolved* name.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// The path as the caller gave it, for messages.
    pub(crate) path: PathBuf,
    /// The regular file (or, under [`Symlinks::Replace`], link) that stands there now.
    pub(crate) existing: Option<TargetMeta>,
    /// The file that will be replaced, held open: see [`Target::unpin_unless_needed`].
    pinned_old_inode: Option<Arc<File>>,
    /// A link led here, so that `dir` isn't the parent that the path names.
    pub(crate) followed: bool,
}

impl Target {
    /// A name in a directory, not looked at yet.
    pub(crate) fn new(dir: Arc<Dir>, name: OsString, path: &Path) -> Target {
        Target { dir, name, path: path.to_owned(), existing: None, pinned_old_inode: None, followed: false }
    }

    /// Steps 1 and 2: opens the parent, looks at the target, follows links as the options say, and refuses what
    /// can't be replaced.
    pub(crate) fn resolve(path: &Path, options: &WriteOptions) -> Result<Target> {
        Target::resolve_in(path, options, None)
    }

    /// As [`resolve`](Target::resolve), with the path's parent directory where it is open already.
    pub(crate) fn resolve_in(
        path: &Path,
        options: &WriteOptions,
        parent: Option<&Arc<Dir>>,
    ) -> Result<Target> {
        let (parent_path, name) = split(path)?;
        refuse_ours(SAVE, path, [name])?;
        let dir = match parent {
            Some(dir) => Arc::clone(dir),
            None => {
                let dir = open_parent(path, parent_path, options.create_parents)?;
                Arc::new(dir.with_patience(options.busy_timeout))
            }
        };
        let mut target = Target::new(dir, name.to_owned(), path);
        target.lookup(options)?;
        target.refuse_existing(options)?;
        target.resolve_links(options)?;
        refuse_ours(SAVE, path, [&*target.name])?;
        target.refuse_what_is_no_file(options)?;
        target.refuse_own_name_for_previous(options)?;
        Ok(target)
    }

    /// Where a file is to be read from, links followed. What can't be replaced may be read all the same, but for
    /// what is no file.
    pub(crate) fn resolve_to_read(path: &Path) -> Result<Target> {
        let options = WriteOptions::new().preserve_metadata(false);
        let (parent_path, name) = split(path)?;
        let dir = Arc::new(open_parent(path, parent_path, false)?);
        let mut target = Target::new(dir, name.to_owned(), path);
        target.lookup(&options)?;
        target.resolve_links(&options)?;
        match target.existing.as_ref().map(|existing| existing.stat.kind) {
            Some(Kind::Dir) => Err(Error::new(ErrorKind::IsADirectory, "read", path)),
            Some(Kind::Other) => {
                Err(Error::new(ErrorKind::InvalidPath, "read the FIFO, socket or device", path)
                    .because("it is not a regular file"))
            }
            Some(Kind::File | Kind::Symlink) => Ok(target),
            None => Err(Error::new(ErrorKind::NotFound, "read", path)),
        }
    }

    /// Looks and judges once more, before the content of a stream is published: much may have happened since
    /// it was opened. A link that has appeared is replaced, unless links are refused: what it leads to has not
    /// been chosen by the caller, and may be on another file system than the staged content.
    pub(crate) fn judge_again(&mut self, options: &WriteOptions) -> Result<()> {
        self.lookup(options)?;
        self.refuse_existing(options)?;
        self.refuse_link(options)?;
        self.refuse_what_is_no_file(options)
    }

    /// Step 2: looks at what stands at the name.
    fn lookup(&mut self, options: &WriteOptions) -> Result<()> {
        (self.existing, self.pinned_old_inode) =
            match self.dir.lookup_pinned(&self.name, !options.forget_metadata) {
                Ok((existing, held)) => (Some(existing), held.map(Arc::new)),
                Err(e) if sys::is_not_found(&e) => (None, None),
                Err(e) => return Err(Error::naming("inspect", &self.path, e)),
            };
        Ok(())
    }

    /// Step 8 frees the blocks of what is replaced, unless somebody holds it open. ext4 with `data=writeback`
    /// gives freed blocks away at once (`ext4_mb_clear_bb` in `fs/ext4/mballoc.c`), and a power cut before step
    /// 10 would bring the old name back with other files' bytes. So the old file is held until step 11, but
    /// only there: an NFS client that has the file open gives it another name *before* its own rename, and
    /// everybody sees the name missing meanwhile.
    pub(crate) fn unpin_unless_needed(&mut self, kind: FsKind) {
        if !sys::may_free_blocks_early(kind) {
            self.pinned_old_inode = None;
        }
    }

    /// Copies the target without the handle that keeps the replaced file's blocks.
    pub(crate) fn without_pin(&self) -> Target {
        Target { pinned_old_inode: None, ..self.clone() }
    }

    fn is_link(&self) -> bool {
        self.existing.as_ref().is_some_and(|existing| existing.stat.kind == Kind::Symlink)
    }

    fn resolve_links(&mut self, options: &WriteOptions) -> Result<()> {
        self.refuse_link(options)?;
        if options.symlinks == Symlinks::Replace {
            return Ok(());
        }
        for _ in 0..MAX_LINKS {
            if !self.is_link() {
                return Ok(());
            }
            self.follow_one(options)?;
        }
        let refused = Error::new(ErrorKind::InvalidPath, FOLLOW, &self.path);
        Err(refused.because("the links lead round in a circle"))
    }

    /// One step along a link, which the kernel would take too.
    fn follow_one(&mut self, options: &WriteOptions) -> Result<()> {
        let Some(link) = &self.existing else { return Ok(()) };
        let text = read_link(&self.dir, &self.name, &link.stat, &self.path)?;
        let Ok((parent, name)) = split(&text) else {
            // Such a link can only mean a directory, if anything.
            return Err(match self.dir.stat_through(&self.name) {
                Ok(_) => Error::new(ErrorKind::IsADirectory, "replace", &self.path),
                Err(_) => Error::new(ErrorKind::InvalidPath, FOLLOW, &self.path),
            });
        };
        let name = name.to_owned();
        if options.create_parents {
            // Before anything is created for it.
            refuse_ours(SAVE, &self.path, [&*name])?;
        }
        let dir = create_parents::open_at(&self.dir, parent, options.create_parents)
            .map_err(|e| Error::io(FOLLOW, &self.path, e))?;
        self.followed = true;
        let came_from = std::mem::replace(&mut self.dir, Arc::new(dir));
        let came_by = std::mem::replace(&mut self.name, name);
        self.lookup(options)?;
        if self.existing.is_none() {
            self.refuse_magic(&came_from, &came_by)?;
        }
        Ok(())
    }

    /// The text of a link in `/proc` may be no path: what it leads to exists all the same.
    fn refuse_magic(&self, came_from: &Dir, came_by: &OsStr) -> Result<()> {
        match came_from.stat_through(came_by) {
            Ok(stat) if stat.kind != Kind::Dir => Err(not_regular(&self.path)),
            _ => Ok(()),
        }
    }

    fn refuse_existing(&self, options: &WriteOptions) -> Result<()> {
        if options.create_new && self.existing.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "create", &self.path));
        }
        Ok(())
    }

    fn refuse_link(&self, options: &WriteOptions) -> Result<()> {
        if options.symlinks == Symlinks::Refuse && self.is_link() {
            let refused = Error::new(ErrorKind::InvalidPath, "save through the link", &self.path);
            return Err(refused.because("the options refuse links"));
        }
        Ok(())
    }

    fn refuse_what_is_no_file(&self, options: &WriteOptions) -> Result<()> {
        let Some(existing) = &self.existing else { return Ok(()) };
        match existing.stat.kind {
            Kind::Dir => Err(Error::new(ErrorKind::IsADirectory, "replace", &self.path)),
            Kind::Other => Err(not_regular(&self.path)),
            Kind::File | Kind::Symlink if existing.stat.mount_root && options.in_place == InPlace::Never => {
                Err(Error::mount_point(&self.path, None))
            }
            Kind::File if options.hard_links == HardLinks::Refuse => {
                self.refuse_other_names(&existing.stat, options)
            }
            Kind::File | Kind::Symlink => Ok(()),
        }
    }

    /// The previous version can't keep the name that the new one gets. By the resolved name: a link may have led here.
    fn refuse_own_name_for_previous(&self, options: &WriteOptions) -> Result<()> {
        if options.keep_previous.as_ref() == Some(&self.name) {
            return Err(own_name_for_previous(&self.path));
        }
        Ok(())
    }

    /// A crash may have left the old version with two names; see [`WriteOptions::keep_previous`].
    fn refuse_other_names(&self, stat: &Stat, options: &WriteOptions) -> Result<()> {
        let is_previous = |name: &OsString| matches!(self.dir.leads_to(name, stat.id), Ok(true));
        let ours = options.keep_previous.as_ref().is_some_and(is_previous);
        refuse_hard_links(self.existing.as_ref(), options, u64::from(ours), &self.path)
    }
}

pub(crate) const KEEP_PREVIOUS: &str = "keep the previous version of";

pub(crate) fn own_name_for_previous(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidPath, KEEP_PREVIOUS, path)
        .because("the name for it is that of the file itself")
}

fn not_regular(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidPath, "replace the FIFO, socket or device", path)
        .because("it is not a regular file")
}

/// Fails if the file that is to be replaced has other names than so many of ours, and the options mind.
pub(crate) fn refuse_hard_links(
    existing: Option<&TargetMeta>,
    options: &WriteOptions,
    ours: u64,
    path: &Path,
) -> Result<()> {
    let has_others = existing.is_some_and(|old| old.stat.kind == Kind::File && old.stat.nlink > 1 + ours);
    if options.hard_links == HardLinks::Refuse && has_others {
        return Err(Error::new(ErrorKind::HardLinked, "replace", path));
    }
    Ok(())
}

/// Where a link leads, in its own words. Whoever goes there takes one step, which the kernel would take, too.
pub(crate) fn read_link(dir: &Dir, name: &OsStr, link: &Stat, path: &Path) -> Result<PathBuf> {
    refuse_planted_link(dir, link, path)?;
    dir.read_link(name).map_err(|e| Error::io(FOLLOW, path, e))
}

/// In a directory like `/tmp`, a link of somebody else's may lead anywhere. The kernel's own
/// rule (`fs.protected_symlinks`), which can be off.
fn refuse_planted_link(dir: &Dir, link: &Stat, path: &Path) -> Result<()> {
    const STICKY_AND_WORLD_WRITABLE: u32 = 0o1002;
    let dir = dir.stat().map_err(|e| Error::io("inspect the directory of", path, e))?;
    let shared = dir.mode & STICKY_AND_WORLD_WRITABLE == STICKY_AND_WORLD_WRITABLE;
    if shared && link.uid != dir.uid && link.uid != sys::effective_uid() {
        return Err(Error::new(ErrorKind::PermissionDenied, "follow another user's link", path));
    }
    Ok(())
}

/// Refuses what no system takes for a path. An empty one would be the current directory to some calls, and is what a
/// variable gives that nobody has set; a NUL ends a path for the kernel, and what the standard library says of it is
/// an error without a number, which reads like one of the disk.
pub(crate) fn refuse_no_path(operation: &'static str, path: &Path) -> Result<()> {
    let invalid = |reason| Err(Error::new(ErrorKind::InvalidPath, operation, path).because(reason));
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        return invalid("the path is empty");
    }
    if bytes.contains(&0) {
        return invalid("the path contains a NUL character");
    }
    Ok(())
}

/// Parent and last component. `Path::file_name` is not enough: it passes over a trailing slash
/// and a trailing `.`.
pub(crate) fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    const OPERATION: &str = "use the path";
    refuse_no_path(OPERATION, path)?;
    let invalid = |reason| Error::new(ErrorKind::InvalidPath, OPERATION, path).because(reason);
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |b: &u8| std::path::is_separator(char::from(*b));
    let last = bytes.rsplit(is_separator).next().unwrap_or_default();
    if last.is_empty() {
        return Err(invalid("the path ends with a slash"));
    }
    match path.components().next_back() {
        Some(Component::Normal(name)) if last != b"." => Ok((path.parent().unwrap_or(Path::new("")), name)),
        _ => Err(invalid("the last part of the path is not a name")),
    }
}

fn open_parent(path: &Path, parent: &Path, create: bool) -> Result<Dir> {
    let opened = if create { create_parents::open_or_create(parent) } else { Dir::open(parent) };
    opened.map_err(|e| Error::naming("open the directory of", path, e))
}

/// Why [`is_inside`] says no.
pub(crate) const NOT_INSIDE: &str = "the path must be relative and consist of ordinary names";

/// A relative path of ordinary names only.
pub(crate) fn is_inside(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |b: &u8| std::path::is_separator(char::from(*b));
    // `components` passes over `a//b`, `a/.` and a trailing slash.
    let mut parts = bytes.split(is_separator);
    !bytes.contains(&0)
        && parts.all(|part| !part.is_empty() && part != b"." && part != b"..")
        && path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

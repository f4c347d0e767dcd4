//! The directories that a set saves into, and where each one's files are staged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::parent_sync::needs_parent_sync;
use crate::atomic::staged::{create_named_in, link_or_drop};
use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{Role, name_of};
use crate::options::WriteOptions;
use crate::options::durability::Durability;
use crate::set::spelling::may_differ;
use crate::set::staging_dir::StagingDir;
use crate::set::sync_request::{GroupSync, SyncRequest};
use crate::set::{CACHED_DIRS, OWN_STAGING_DIRS};
use crate::sys::{self, Dir, File, FileId, FsKind, Stat};

/// A directory that a set saves into.
#[derive(Debug)]
pub(crate) struct TargetDir {
    /// A path whose target lies in the directory, to open it by again.
    via: PathBuf,
    /// A link led from there to here.
    followed: bool,
    id: FileId,
    mount: (u64, Option<u64>),
    pub(crate) kind: FsKind,
    pub(crate) sync: GroupSync,
    /// The directory is synced after the renames.
    pub(crate) is_synced: bool,
    /// Replaced files are held open until then: see [`Target::unpin_unless_needed`].
    pub(crate) is_pinned: bool,
    staging: Option<StagingDir>,
}

#[derive(Debug)]
pub(crate) struct TargetDirs {
    options: WriteOptions,
    request: SyncRequest,
    all: Vec<TargetDir>,
    by_parent: HashMap<PathBuf, usize>,
    by_id: HashMap<FileId, usize>,
    /// The directories that have a staging directory, the oldest first.
    staging_hosts: Vec<usize>,
    cached: CachedDirs,
}

/// Where a staged file is: the target directory whose staging directory holds it, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedAt {
    pub(crate) host: usize,
    pub(crate) number: u64,
}

impl TargetDirs {
    pub(crate) fn new(options: &WriteOptions, request: SyncRequest) -> TargetDirs {
        let (all, by_parent, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        let (staging_hosts, cached) = (Vec::new(), CachedDirs::default());
        TargetDirs { options: options.clone(), request, all, by_parent, by_id, staging_hosts, cached }
    }

    pub(crate) fn get(&self, at: usize) -> &TargetDir {
        &self.all[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Resolves a path, with the parent from here if it is known.
    pub(crate) fn resolve(&mut self, path: &Path) -> Result<(usize, Target)> {
        let known = path.parent().and_then(|parent| self.by_parent.get(parent)).copied();
        let known = known.map(|at| self.open(at)).transpose()?;
        let target = Target::resolve_in(path, &self.options, known.as_ref())?;
        let fail = |e| Error::io("inspect the directory of", path, e);
        if let Some(at) = self.cached.find(&target.dir) {
            return Ok((at, target));
        }
        let stat = target.dir.stat().map_err(fail)?;
        let at = match self.by_id.get(&stat.id) {
            Some(&at) => at,
            None => self.add(&target, &stat).map_err(fail)?,
        };
        if !target.followed {
            let parent = path.parent().unwrap_or(Path::new(""));
            self.by_parent.insert(parent.to_owned(), at);
        }
        Ok((at, target))
    }

    fn add(&mut self, target: &Target, stat: &Stat) -> io::Result<usize> {
        let kind = sys::fs_kind(&*target.dir, stat)?;
        let sync = self.request.resolve(&target.dir, kind, stat);
        let (at, asked) = (self.all.len(), self.options.durability);
        self.cached.insert(at, &target.dir);
        self.by_id.insert(stat.id, at);
        self.all.push(TargetDir {
            via: target.path.clone(),
            followed: target.followed,
            id: stat.id,
            mount: stat.mount_key(),
            kind,
            sync,
            is_synced: needs_parent_sync(asked, kind, stat),
            is_pinned: asked != Durability::None && sys::frees_blocks_early(kind, stat),
            staging: None,
        });
        Ok(at)
    }

    /// A target directory, opened again if need be; it must still be the same one.
    pub(crate) fn open(&mut self, at: usize) -> Result<Arc<Dir>> {
        if let Some(dir) = self.cached.get(at) {
            return Ok(dir);
        }
        let dir = self.open_again(&self.all[at])?;
        self.cached.insert(at, &dir);
        Ok(dir)
    }

    fn open_again(&self, target_dir: &TargetDir) -> Result<Arc<Dir>> {
        let TargetDir { via, id, .. } = target_dir;
        let fail = |e| Error::io("open again the directory of", via, e);
        let dir = if target_dir.followed {
            let options = WriteOptions { create_new: false, create_parents: false, ..self.options.clone() };
            Target::resolve(via, &options)?.dir
        } else {
            let dir = Dir::open(via.parent().unwrap_or(Path::new(""))).map_err(fail)?;
            Arc::new(dir.with_patience(self.options.busy_timeout))
        };
        if dir.stat().map_err(fail)?.id != *id {
            return Err(Error::new(ErrorKind::NotFound, "find again the directory of", via));
        }
        Ok(dir)
    }

    /// Creates a staged file for a target in the directory `at`, with the first of the modes, or with the second one if others
    /// can see its name at once.
    pub(crate) fn create(
        &mut self,
        at: usize,
        target: &Target,
        modes: (u32, u32),
    ) -> Result<(StagedAt, File)> {
        self.try_create(at, target, modes).map_err(|e| Error::io("create a file beside", &target.path, e))
    }

    fn try_create(&mut self, at: usize, target: &Target, modes: (u32, u32)) -> io::Result<(StagedAt, File)> {
        let has_own = self.all[at].staging.is_some() || self.staging_hosts.len() < OWN_STAGING_DIRS;
        if let Some(host) = self.staging_host(at).filter(|_| !has_own) {
            match self.create_hosted(host, target, modes) {
                // The directory belongs to another project quota, say, and needs a staging directory of its own.
                Err(e) if sys::crosses_devices(&e) => {}
                created => return created,
            }
        }
        let (number, file) = self.staging_of(at, &target.dir)?.create_file(modes.0)?;
        Ok((StagedAt { host: at, number }, file))
    }

    /// Creates a staged file in the target's own directory, from which it inherits group and default ACL, and
    /// gives it at once a name in the staging directory of another.
    fn create_hosted(
        &mut self,
        host: usize,
        target: &Target,
        modes: (u32, u32),
    ) -> io::Result<(StagedAt, File)> {
        let Some(staging) = self.all[host].staging.as_mut() else {
            return Err(io::ErrorKind::CrossesDevices.into());
        };
        let number = staging.fresh_number();
        let name = name_of(number);
        let (unnamed, named) = modes;
        let unnamed = target.dir.create_unnamed(unnamed)?;
        let file = match unnamed.map_or(Ok(None), |file| link_or_drop(file, staging.dir(), &name))? {
            Some(file) => file,
            None => {
                let (temporary, file, _) = create_named_in(&target.dir, named)?;
                if let Some(temporary) = temporary {
                    target.dir.rename_into(temporary.as_name(), staging.dir(), &name)?;
                    temporary.keep();
                }
                file
            }
        };
        Ok((StagedAt { host, number }, file))
    }

    /// A directory with a staging directory from which files can be renamed into the directory `at`.
    fn staging_host(&self, at: usize) -> Option<usize> {
        self.staging_hosts.iter().copied().find(|&host| self.all[host].mount == self.all[at].mount)
    }

    fn staging_of(&mut self, at: usize, dir: &Arc<Dir>) -> io::Result<&mut StagingDir> {
        let staging = match self.all[at].staging.take() {
            Some(staging) => staging,
            None => {
                let staging = StagingDir::create(dir, Role::StagingDir)?;
                self.staging_hosts.push(at);
                staging
            }
        };
        Ok(self.all[at].staging.insert(staging))
    }

    /// A private directory that compares names as the directory `at` does, if there is one.
    pub(crate) fn staging_like(&self, at: usize, dir: &Dir) -> Option<&Dir> {
        let target_dir = &self.all[at];
        if let Some(own) = &target_dir.staging {
            return Some(own.dir());
        }
        let host = self.all[self.staging_host(at)?].staging.as_ref()?.dir();
        Some(host).filter(|host| !may_differ(dir, host, target_dir.kind))
    }

    /// The directory that a staged file is in.
    pub(crate) fn staging(&self, at: &StagedAt) -> Option<&Dir> {
        self.all[at.host].staging.as_ref().map(StagingDir::dir)
    }

    /// Leaves a staging directory for recovery: the outcome of a rename from it isn't known.
    pub(crate) fn keep(&mut self, at: &StagedAt) {
        if let Some(staging) = &mut self.all[at.host].staging {
            staging.keep(true);
        }
    }

    /// Removes all that is staged. The first error; what can be removed is.
    pub(crate) fn remove_staged(mut self) -> Result<()> {
        let mut removed = Ok(());
        for target_dir in &mut self.all {
            let Some(staging) = target_dir.staging.take() else { continue };
            let failed = |e| Error::io("remove what was staged for", &target_dir.via, e);
            removed = removed.and(staging.remove().map_err(failed));
        }
        removed
    }

    /// One directory of each file system that has to be synced as a whole, and a path there.
    pub(crate) fn file_systems(&self, adaptive_too: bool) -> Vec<(&Path, &Dir)> {
        let mut seen = Vec::new();
        let is_whole = |sync: GroupSync| sync == GroupSync::SyncFs || (adaptive_too && sync.may_sync_fs());
        let whole = self.all.iter().filter(|target_dir| is_whole(target_dir.sync));
        whole
            .filter_map(|target_dir| {
                // Opened before the first write, so that it sees every error since.
                let mut hosts = self.staging_hosts.iter().map(|&host| &self.all[host]);
                let staging = hosts.find(|host| host.id.dev == target_dir.id.dev)?.staging.as_ref()?;
                let new = !seen.contains(&target_dir.id.dev);
                seen.push(target_dir.id.dev);
                new.then_some((target_dir.via.as_path(), staging.dir()))
            })
            .collect()
    }
}

/// Open target directories, the one that was used last at the end.
#[derive(Debug, Default)]
struct CachedDirs(Vec<(usize, Arc<Dir>)>);

impl CachedDirs {
    fn get(&mut self, at: usize) -> Option<Arc<Dir>> {
        let found = self.0.iter().position(|(known, _)| *known == at)?;
        let entry = self.0.remove(found);
        let dir = Arc::clone(&entry.1);
        self.0.push(entry);
        Some(dir)
    }

    fn find(&self, dir: &Arc<Dir>) -> Option<usize> {
        self.0.iter().find(|(_, known)| Arc::ptr_eq(known, dir)).map(|(at, _)| *at)
    }

    fn insert(&mut self, at: usize, dir: &Arc<Dir>) {
        if self.0.len() == CACHED_DIRS {
            self.0.remove(0);
        }
        self.0.push((at, Arc::clone(dir)));
    }
}

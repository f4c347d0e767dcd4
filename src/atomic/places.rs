//! The directories that a set saves into, and where each one's files are staged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::Role;
use super::publish::{is_rename_synced, link_or_drop};
use super::stage;
use super::stage_dir::{StageDir, name_of};
use super::sync_set::{How, Wish};
use super::target::Target;
use crate::options::{Durability, WriteOptions};
use crate::sys::{self, Dir, File, FileId, FsKind, Stat};
use crate::{Error, ErrorKind, Result};

/// So many directories are held open, with a staging directory each. Files of further ones
/// are created where they belong, and wait under a name in one of these.
const NEAR: usize = 8;

/// A directory that a set saves into.
#[derive(Debug)]
pub(crate) struct Place {
    /// A path whose target lies in it, to open it by again.
    via: PathBuf,
    /// A link led from there to here.
    followed: bool,
    id: FileId,
    mount: Option<u64>,
    dir: Option<Arc<Dir>>,
    pub(crate) kind: FsKind,
    pub(crate) how: How,
    /// Its directory is synced after the renames.
    pub(crate) is_synced: bool,
    /// What is replaced has to be held until then.
    pub(crate) is_held: bool,
    stage: Option<StageDir>,
}

#[derive(Debug)]
pub(crate) struct Places {
    options: WriteOptions,
    wish: Wish,
    all: Vec<Place>,
    by_parent: HashMap<PathBuf, usize>,
    by_id: HashMap<FileId, usize>,
    /// Those with a staging directory, the oldest first.
    with_stage: Vec<usize>,
    /// The last one that was needed and is not held open.
    recent: Option<(usize, Arc<Dir>)>,
}

/// A staged file: the place whose staging directory it is in, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedAt {
    pub(crate) place: usize,
    pub(crate) number: u64,
}

impl Places {
    pub(crate) fn new(options: &WriteOptions, wish: Wish) -> Places {
        let (all, by_parent, by_id) = (Vec::new(), HashMap::new(), HashMap::new());
        let with_stage = Vec::new();
        Places { options: options.clone(), wish, all, by_parent, by_id, with_stage, recent: None }
    }

    pub(crate) fn get(&self, place: usize) -> &Place {
        &self.all[place]
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Resolves a path, with the parent from here if it is known.
    pub(crate) fn resolve(&mut self, path: &Path) -> Result<(usize, Target)> {
        let known = path.parent().and_then(|parent| self.by_parent.get(parent)).copied();
        let known = match known {
            Some(place) => Some(self.dir(place)?),
            None => None,
        };
        let target = Target::resolve_in(path, &self.options, known.as_ref())?;
        let fail = |e| Error::io("inspect the directory of", path, e);
        if let Some(place) = self.held(&target.dir) {
            return Ok((place, target));
        }
        let stat = target.dir.stat().map_err(fail)?;
        let place = match self.by_id.get(&stat.id) {
            Some(&place) => place,
            None => self.add(&target, &stat).map_err(fail)?,
        };
        if !target.followed {
            let parent = path.parent().unwrap_or(Path::new(""));
            self.by_parent.insert(parent.to_owned(), place);
        }
        Ok((place, target))
    }

    fn add(&mut self, target: &Target, stat: &Stat) -> io::Result<usize> {
        let kind = sys::fs_kind(&*target.dir, stat)?;
        let how = self.wish.how(&target.dir, kind, stat);
        let (place, asked) = (self.all.len(), self.options.durability);
        let near = place < NEAR;
        if !near {
            self.recent = Some((place, Arc::clone(&target.dir)));
        }
        self.by_id.insert(stat.id, place);
        self.all.push(Place {
            via: target.path.clone(),
            followed: target.followed,
            id: stat.id,
            mount: stat.mount,
            dir: near.then(|| Arc::clone(&target.dir)),
            kind,
            how,
            is_synced: is_rename_synced(asked, kind, stat),
            is_held: asked != Durability::None && sys::frees_blocks_early(kind, stat),
            stage: None,
        });
        Ok(place)
    }

    fn held(&self, dir: &Arc<Dir>) -> Option<usize> {
        if let Some((place, recent)) = &self.recent {
            if Arc::ptr_eq(recent, dir) {
                return Some(*place);
            }
        }
        let near = self.all.iter().take(NEAR);
        near.enumerate()
            .find(|(_, place)| place.dir.as_ref().is_some_and(|d| Arc::ptr_eq(d, dir)))
            .map(|(at, _)| at)
    }

    /// A place's directory, opened again if need be; it must still be the same one.
    pub(crate) fn dir(&mut self, place: usize) -> Result<Arc<Dir>> {
        if let Some(dir) = &self.all[place].dir {
            return Ok(Arc::clone(dir));
        }
        if let Some((recent, dir)) = &self.recent {
            if *recent == place {
                return Ok(Arc::clone(dir));
            }
        }
        let dir = self.open_again(&self.all[place])?;
        self.recent = Some((place, Arc::clone(&dir)));
        Ok(dir)
    }

    fn open_again(&self, place: &Place) -> Result<Arc<Dir>> {
        let Place { via, id, .. } = place;
        let fail = |e| Error::io("open again the directory of", via, e);
        let dir = if place.followed {
            let options = WriteOptions { create_new: false, create_parents: false, ..self.options.clone() };
            Target::resolve(via, &options)?.dir
        } else {
            Arc::new(Dir::open(via.parent().unwrap_or(Path::new(""))).map_err(fail)?)
        };
        if dir.stat().map_err(fail)?.id != *id {
            return Err(Error::new(ErrorKind::NotFound, "find again the directory of", via));
        }
        Ok(dir)
    }

    /// Creates a staged file for a target in `place`.
    pub(crate) fn create(&mut self, place: usize, target: &Target, mode: u32) -> Result<(StagedAt, File)> {
        self.try_create(place, target, mode).map_err(|e| Error::io("create a file beside", &target.path, e))
    }

    fn try_create(&mut self, place: usize, target: &Target, mode: u32) -> io::Result<(StagedAt, File)> {
        let lender = match &self.all[place] {
            place if place.dir.is_some() || place.stage.is_some() => None,
            far => self.lender(far),
        };
        if let Some(lender) = lender {
            match self.create_far(lender, target, mode) {
                // Such as another project quota: it needs a staging directory of its own.
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
                created => return created,
            }
        }
        let (number, file) = self.stage(place, &target.dir)?.create_file(mode)?;
        Ok((StagedAt { place, number }, file))
    }

    /// Created in its own directory, from which it inherits group and default ACL, and at once
    /// given a name in another's staging directory.
    fn create_far(&mut self, lender: usize, target: &Target, mode: u32) -> io::Result<(StagedAt, File)> {
        let Some(stage) = self.all[lender].stage.as_mut() else {
            return Err(io::ErrorKind::CrossesDevices.into());
        };
        let number = stage.fresh_number();
        let name = name_of(number);
        let unnamed = target.dir.create_unnamed(mode)?.filter(|file| file.can_be_linked(&target.dir));
        let file = match unnamed.map_or(Ok(None), |file| link_or_drop(file, stage.dir(), &name))? {
            Some(file) => file,
            None => {
                // Nobody else may open it before owner and group are right.
                let mode = if target.existing.is_some() { mode & 0o700 } else { mode };
                let (temporary, file, _) = stage::create_named(target, mode)?;
                if let Some(temporary) = temporary {
                    target.dir.rename_into(temporary.as_name(), stage.dir(), &name)?;
                    temporary.leave();
                }
                file
            }
        };
        Ok((StagedAt { place: lender, number }, file))
    }

    /// One with a staging directory that files of this one can be renamed from.
    fn lender(&self, of: &Place) -> Option<usize> {
        let can_lend = |place: &Place| place.id.dev == of.id.dev && place.mount == of.mount;
        self.all.iter().position(|place| place.stage.is_some() && can_lend(place))
    }

    fn stage(&mut self, place: usize, dir: &Arc<Dir>) -> io::Result<&mut StageDir> {
        let stage = match self.all[place].stage.take() {
            Some(stage) => stage,
            None => {
                let stage = StageDir::create(dir, Role::StageDir)?;
                self.with_stage.push(place);
                stage
            }
        };
        Ok(self.all[place].stage.insert(stage))
    }

    /// The directory that a staged file is in.
    pub(crate) fn staging(&self, at: &StagedAt) -> Option<&Dir> {
        self.all[at.place].stage.as_ref().map(StageDir::dir)
    }

    /// What became of a staged file isn't known: its staging directory stays for recovery.
    pub(crate) fn leave(&mut self, at: &StagedAt) {
        if let Some(stage) = &mut self.all[at.place].stage {
            stage.leave(true);
        }
    }

    /// One directory of each file system that has to be synced as a whole, and a path there.
    pub(crate) fn file_systems(&self, adaptive_too: bool) -> Vec<(&Path, &Dir)> {
        let mut seen = Vec::new();
        let is_whole = |how| {
            how == How::FileSystem || (adaptive_too && matches!(how, How::Adaptive | How::AdaptiveInTurn))
        };
        let whole = self.all.iter().filter(|place| is_whole(place.how));
        whole
            .filter_map(|place| {
                // Opened before the first write, so that it sees every error since.
                let mut stages = self.with_stage.iter().map(|&at| &self.all[at]);
                let stage = stages.find(|other| other.id.dev == place.id.dev)?.stage.as_ref()?;
                let new = !seen.contains(&place.id.dev);
                seen.push(place.id.dev);
                new.then_some((place.via.as_path(), stage.dir()))
            })
            .collect()
    }
}

//! Judging a record that a crash left, by what is there.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::beneath::Beneath;
use super::plan::{Action, Change, Facts, Plan};
use super::record::Checksum;
use super::stage_dir::name_of;
use crate::sys::{self, Dir, File, Fingerprint, Kind, Stat};

/// What to do about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Carry out what is left of it: the changes that are marked.
    Complete(Plan, Vec<bool>),
    /// It was never decided.
    RollBack(Plan),
    /// It can't be trusted.
    Quarantine,
}

/// What a change has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// To be done.
    Ready,
    Done,
    /// Something else was saved there since, or its directory is gone.
    Superseded,
    /// Neither the staged content is there, nor anything at its target.
    Nothing,
    /// The staged content isn't there, and what it was to replace is.
    Missing,
    /// The staged content is not what the record says.
    Damaged,
}

/// A change can only have been carried out if the decision was durable. Then all that was staged
/// was, too, and stays until everything is carried out. So if any content is in place, one that is
/// nowhere was deleted later; if none is, the decision never counted.
pub(crate) fn rule(root: &Arc<Dir>, plan: Plan) -> io::Result<Ruling> {
    let stage = trusted_stage(root, &plan)?;
    let mut scene = Scene { plan: &plan, stage, beneath: Beneath::new(root) };
    let mut statuses = Vec::with_capacity(plan.changes.len());
    for change in &plan.changes {
        statuses.push(scene.status(change)?);
    }
    let has = |wanted| statuses.contains(&wanted);
    let is_put = |change: &Change| matches!(change.action, Action::Put { .. });
    let in_place = plan.changes.iter().zip(&statuses).any(|(c, s)| *s == Status::Done && is_put(c));
    if has(Status::Damaged) || (has(Status::Missing) && in_place) {
        return Ok(Ruling::Quarantine);
    }
    if has(Status::Missing) || (has(Status::Nothing) && !in_place) {
        return Ok(Ruling::RollBack(plan));
    }
    let ready = statuses.iter().map(|status| *status == Status::Ready).collect();
    Ok(Ruling::Complete(plan, ready))
}

/// As only a writer of ours makes it; otherwise it counts as none.
fn trusted_stage(root: &Dir, plan: &Plan) -> io::Result<Option<Dir>> {
    if plan.stage.is_empty() {
        return Ok(None);
    }
    let Some(dir) = absent(root.open_child(&plan.stage))? else { return Ok(None) };
    let ours = is_only_ours(&dir.stat()?);
    Ok(ours.then_some(dir))
}

/// Nobody else can have made it, or changed what is in it.
pub(super) fn is_only_ours(stat: &Stat) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    stat.uid == sys::effective_uid() && stat.mode & WRITABLE_BY_OTHERS == 0
}

struct Scene<'a> {
    plan: &'a Plan,
    stage: Option<Dir>,
    beneath: Beneath,
}

impl Scene<'_> {
    fn status(&mut self, change: &Change) -> io::Result<Status> {
        let now = match self.beneath.parent_of(&change.path) {
            Ok((dir, name)) => absent(sys::fingerprint(&dir, name))?,
            Err(e) if sys::is_gone(&e) && self.can_make_parent_of(&change.path)? => None,
            Err(e) if sys::is_gone(&e) => return Ok(Status::Superseded),
            Err(e) => return Err(e),
        };
        let untouched = is_untouched(now, change.before);
        match (&change.action, now) {
            (Action::Remove, None) => Ok(Status::Done),
            (Action::Put { content, .. }, Some(now)) if now.ino == content.ino => Ok(Status::Done),
            _ if !untouched => Ok(Status::Superseded),
            (Action::Remove, Some(_)) => Ok(Status::Ready),
            (Action::Put { number, content }, now) => match self.staged(*number)? {
                Some(file) if matches(&file, content)? => Ok(Status::Ready),
                Some(_) => Ok(Status::Damaged),
                None if now.is_some() => Ok(Status::Missing),
                None => Ok(Status::Nothing),
            },
        }
    }

    /// Is its directory, as far as it is missing, one that the plan creates?
    fn can_make_parent_of(&mut self, path: &Path) -> io::Result<bool> {
        for dir in path.ancestors().skip(1) {
            match self.beneath.dir(dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if sys::is_gone(&e) => return Ok(false),
                opened => return opened.map(|_| true),
            }
            if !self.plan.dirs.iter().any(|planned| planned == dir) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn staged(&self, number: u64) -> io::Result<Option<File>> {
        self.stage.as_ref().map_or(Ok(None), |stage| absent(stage.open_file(&name_of(number))))
    }
}

fn matches(file: &File, content: &Facts) -> io::Result<bool> {
    let stat = file.stat()?;
    Ok(stat.kind == Kind::File && stat.size == content.size && checksum(file)? == content.sum)
}

/// The checksum of a file's content.
pub(crate) fn checksum(file: &File) -> io::Result<u64> {
    let (mut sum, mut at, mut chunk) = (Checksum::new(), 0, vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut chunk, at)? {
            0 => return Ok(sum.value()),
            read => {
                sum.add(chunk.get(..read).unwrap_or_default());
                at += read as u64;
            }
        }
    }
}

/// Nothing was saved there since. What was deleted may be put back.
pub(super) fn is_untouched(now: Option<Fingerprint>, before: Option<Fingerprint>) -> bool {
    match (now, before) {
        (None, _) => true,
        (Some(_), None) => false,
        // A directory is never what a change was about.
        (Some(now), Some(before)) => !now.is_dir && now.ino == before.ino && now.is_no_later_than(before),
    }
}

/// None for what isn't there, or is something that we never put there.
pub(super) fn absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if sys::is_gone(&e) => Ok(None),
        found => found.map(Some),
    }
}

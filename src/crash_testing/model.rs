//! Which units a crash may take: the models.

use crate::crash_testing::units::{Kind, Unit, Units};
use crate::sys::recorder::{Event, Fate, Node, Step};

/// What a file system may do with operations that were not synced.
///
/// `docs/crash-model.md` in the source repository says where each is stricter or weaker than ext4,
/// XFS and btrfs, and why.
///
/// ```
/// use durafile::crash_testing::{CrashTest, Model};
///
/// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let any_order = test.run(|_, _| Ok(()))?;
/// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let journal = test.model(Model::OrderedJournal).run(|_, _| Ok(()))?;
/// assert!(journal.states <= any_order.states);
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Model {
    /// Power loss on a file system that promises no more than POSIX does: any subset of what was
    /// not synced survives, in any order, and writes are torn. What holds here holds everywhere.
    #[default]
    Unordered,
    /// Power loss on a file system with one totally ordered journal (ext4, XFS): changes of names
    /// and metadata survive in order, up to some point; data that was written out and waited
    /// for is there if anything later in the journal is.
    OrderedJournal,
    /// The process dies and the system goes on: everything that was done survives.
    ProcessDeath,
}

/// The certainty about a unit after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Kept,
    Lost,
    Open,
}

/// One way in which the units before a crash may stand.
pub(crate) type Standings = Vec<Standing>;

/// All ways in which the units of the first `point` operations may stand if the crash comes
/// right after these.
pub(crate) fn standings(model: Model, units: &Units, log: &[Event], point: usize) -> Vec<Standings> {
    let before = units.all.partition_point(|unit| unit.op < point);
    let units = units.all.get(..before).unwrap_or_default();
    let log = log.get(..point).unwrap_or_default();
    match model {
        Model::Unordered => vec![unordered(units, log)],
        Model::OrderedJournal => journaled(units, log),
        Model::ProcessDeath => vec![vec![Standing::Kept; units.len()]],
    }
}

/// Crash points that no later one covers: a crash before an operation that only adds a unit is
/// also a crash after it, with that unit lost. Left are those before a sync or an
/// acknowledgment, and the end.
pub(crate) fn points(model: Model, log: &[Event]) -> Vec<usize> {
    let narrows = |event: &Event| match event {
        Event::Did(step, _) => step.is_sync() || model == Model::ProcessDeath,
        Event::Ack(_) => true,
    };
    (0..=log.len()).filter(|&at| log.get(at).is_none_or(narrows)).collect()
}

fn works(fate: Fate) -> bool {
    matches!(fate, Fate::Done | Fate::ReplyLost(_))
}

fn unordered(units: &[Unit], log: &[Event]) -> Standings {
    let mut standings = vec![Standing::Open; units.len()];
    for (op, event) in log.iter().enumerate() {
        let Event::Did(step, fate) = event else { continue };
        let before = units.partition_point(|unit| unit.op < op);
        match (step, fate) {
            (Step::SyncFile { node } | Step::SyncDir { node }, fate) if works(*fate) => {
                keep(units, &mut standings, before, |unit| unit.node() == *node);
            }
            (Step::SyncFs, fate) if works(*fate) => keep(units, &mut standings, before, |_| true),
            (Step::SyncFile { node }, Fate::Dropped(_)) => lose(units, &mut standings, before, *node),
            _ => {}
        }
    }
    standings
}

/// Keeps the chosen units, and those that they need.
fn keep(units: &[Unit], standings: &mut Standings, before: usize, chosen: impl Fn(&Unit) -> bool) {
    let mut needed = vec![false; before];
    for number in (0..before).rev() {
        let (Some(unit), Some(standing)) = (units.get(number), standings.get_mut(number)) else { continue };
        let wanted = needed.get(number).copied().unwrap_or_default() || chosen(unit);
        if wanted && *standing == Standing::Open {
            *standing = Standing::Kept;
            for &need in unit.needs() {
                needed[need] = true;
            }
        }
    }
}

/// The dirty data of a file is forgotten.
fn lose(units: &[Unit], standings: &mut Standings, before: usize, node: Node) {
    for (unit, standing) in units.iter().zip(standings).take(before) {
        let data = matches!(unit.kind, Kind::Write { .. }) && unit.node() == node;
        if data && *standing == Standing::Open {
            *standing = Standing::Lost;
        }
    }
}

/// The journal is cut after each of its operations that no sync has committed yet.
fn journaled(units: &[Unit], log: &[Event]) -> Vec<Standings> {
    let sync_at =
        |op: &usize| matches!(log.get(*op), Some(Event::Did(step, fate)) if step.is_sync() && works(*fate));
    let committed = (0..log.len()).rev().find(sync_at).unwrap_or(0);
    let later =
        units.iter().filter(|unit| unit.is_journaled() && unit.op >= committed).map(|unit| unit.op + 1);
    let mut cuts: Vec<usize> = std::iter::once(committed).chain(later).collect();
    cuts.dedup();
    let data = unordered(units, log);
    let standing = |unit: &Unit, data: Standing, cut: usize| match data {
        _ if unit.is_journaled() && unit.op < cut => Standing::Kept,
        _ if unit.is_journaled() => Standing::Lost,
        Standing::Open if is_on_device(unit, units, log, cut) => Standing::Kept,
        data => data,
    };
    let all = |cut| units.iter().zip(&data).map(|(unit, data)| standing(unit, *data, cut)).collect();
    cuts.into_iter().map(all).collect()
}

/// Data that was written out and waited for is in the device's cache. Whatever makes the device
/// flush later makes it durable: a sync of anything, or a commit of the journal.
fn is_on_device(unit: &Unit, units: &[Unit], log: &[Event], cut: usize) -> bool {
    let Kind::Write { node, offset, data } = &unit.kind else { return false };
    let end = offset + data.len() as u64;
    let waited = |op: &usize| match log.get(*op) {
        Some(Event::Did(Step::WriteOut { node: written, offset: from, len, wait: true }, fate)) => {
            works(*fate) && written == node && from <= offset && end <= from.saturating_add(*len)
        }
        _ => false,
    };
    let Some(waited) = (unit.op..log.len()).find(waited) else { return false };
    let synced =
        |op: usize| matches!(log.get(op), Some(Event::Did(step, fate)) if step.is_sync() && works(*fate));
    (waited..log.len()).any(synced)
        || units.iter().any(|later| later.is_journaled() && waited < later.op && later.op < cut)
}

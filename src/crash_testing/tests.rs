//! Goal: the models find what real file systems were seen to do, and nothing in the protocols
//! that hold there.
//!
//! Method: the protocols of `docs/crash-model.md`, which were tried on a power-loss rig on ext4,
//! XFS and btrfs, written down as logs; each state is judged from the outside.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::sync::Arc;

use crate::crash_testing::disk::{Body, Disk, Inode, ROOT};
use crate::crash_testing::model::Model;
use crate::crash_testing::states::States;
use crate::crash_testing::trace::Trace;
use crate::sys::recorder::{Access, Birth, Event, Fate, Node, Step};

const OLD: &[u8] = b"old";
/// Three blocks.
const NEW: [u8; 10_000] = [b'n'; 10_000];
const TARGET: Node = 1;
/// The directory `folder`, and the file `target` in it.
const FOLDER: Node = 2;
const INSIDE: Node = 3;

fn inode(body: Body) -> Inode {
    Inode { body, access: Access::default(), xattrs: Default::default() }
}

fn file(content: &[u8]) -> Inode {
    inode(Body::File(Arc::new(content.to_vec())))
}

/// `target` and `folder/target`, both old.
fn initial() -> Disk {
    let root = [("target", TARGET), ("folder", FOLDER)].map(|(name, node)| (OsString::from(name), node));
    let folder = [(OsString::from("target"), INSIDE)];
    Disk {
        origin: Arc::from(std::path::Path::new("/nowhere")),
        inodes: HashMap::from([
            (ROOT, inode(Body::Dir)),
            (TARGET, file(OLD)),
            (FOLDER, inode(Body::Dir)),
            (INSIDE, file(OLD)),
        ]),
        entries: HashMap::from([(ROOT, root.into()), (FOLDER, folder.into())]),
    }
}

/// A protocol, written down call by call.
struct Script(Vec<Event>);

impl Script {
    fn did(&mut self, step: Step) -> &mut Script {
        self.0.push(Event::Did(step, Fate::Done));
        self
    }

    fn create(&mut self, dir: Node, name: &str, node: Node) -> &mut Script {
        self.did(Step::Create { dir, name: name.into(), node, birth: Birth::default() })
    }

    fn unnamed(&mut self, node: Node) -> &mut Script {
        self.did(Step::CreateUnnamed { node, birth: Birth::default() })
    }

    fn mkdir(&mut self, name: &str, node: Node) -> &mut Script {
        self.did(Step::Mkdir { dir: ROOT, name: name.into(), node, birth: Birth::default() })
    }

    fn write(&mut self, node: Node) -> &mut Script {
        self.did(Step::Write { node, offset: 0, data: NEW.as_slice().into() })
    }

    fn write_out(&mut self, node: Node, wait: bool) -> &mut Script {
        self.did(Step::WriteOut { node, offset: 0, len: NEW.len() as u64, wait })
    }

    fn sync(&mut self, node: Node) -> &mut Script {
        self.did(Step::SyncFile { node })
    }

    fn sync_dir(&mut self, node: Node) -> &mut Script {
        self.did(Step::SyncDir { node })
    }

    fn link(&mut self, node: Node, name: &str) -> &mut Script {
        self.did(Step::LinkUnnamed { node, dir: ROOT, name: name.into() })
    }

    fn rename(&mut self, from: (Node, &str), to: (Node, &str)) -> &mut Script {
        self.did(Step::Rename { dir: from.0, from: from.1.into(), to_dir: to.0, to: to.1.into() })
    }

    fn exchange(&mut self, from: &str, to: &str) -> &mut Script {
        self.did(Step::Exchange { dir: ROOT, from: from.into(), to_dir: ROOT, to: to.into() })
    }

    fn ack(&mut self) {
        self.0.push(Event::Ack("saved".into()));
    }
}

/// The faults of the disks that a crash may leave: torn, lost, missing, twice.
fn findings(model: Model, protocol: fn(&mut Script), path: &[&str]) -> BTreeSet<char> {
    let mut script = Script(Vec::new());
    protocol(&mut script);
    let trace = Trace { initial: initial(), log: script.0 };
    let states = States::new(&trace, model, 10_000, 0);
    assert!(states.units.impossible.is_empty(), "the protocol makes no sense: {:?}", states.units.impossible);
    let mut found = BTreeSet::new();
    for point in states.points() {
        let acked = !trace.acked(point).is_empty();
        let at = states.at(point);
        assert!(!at.sampled);
        for choices in at.all {
            found.extend(finding(&states.disk(&choices), path, acked));
        }
    }
    found
}

fn finding(disk: &Disk, path: &[&str], acked: bool) -> Option<char> {
    let mut node = ROOT;
    for name in path {
        match disk.entries.get(&node).and_then(|entries| entries.get(std::ffi::OsStr::new(name))) {
            Some(child) => node = *child,
            None => return Some('M'),
        }
    }
    let names = disk.entries.values().flat_map(|entries| entries.values()).filter(|&&n| n == node).count();
    let Body::File(content) = &disk.inodes[&node].body else { return Some('M') };
    match content.as_slice() {
        _ if names > 1 => Some('2'),
        now if now == OLD && acked => Some('L'),
        now if now == OLD || now == NEW => None,
        _ => Some('T'),
    }
}

#[track_caller]
fn judge(protocol: fn(&mut Script), unordered: &str, journal: &str) {
    judge_at(&["target"], protocol, unordered, journal);
}

#[track_caller]
fn judge_at(path: &[&str], protocol: fn(&mut Script), unordered: &str, journal: &str) {
    assert_eq!(findings(Model::Unordered, protocol, path), unordered.chars().collect(), "unordered");
    assert_eq!(findings(Model::OrderedJournal, protocol, path), journal.chars().collect(), "journal");
    assert!(!findings(Model::ProcessDeath, protocol, path).contains(&'L'), "process death");
}

#[test]
fn writing_in_place_tears() {
    judge(|s| s.did(Step::Truncate { node: TARGET, len: 0 }).write(TARGET).sync(TARGET).ack(), "T", "T");
}

#[test]
fn a_rename_without_any_sync_tears_and_loses() {
    judge(|s| s.create(ROOT, "tmp", 9).write(9).rename((ROOT, "tmp"), (ROOT, "target")).ack(), "LT", "LT");
}

#[test]
fn a_rename_with_a_directory_sync_alone_tears() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).rename((ROOT, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    };
    judge(protocol, "T", "T");
}

#[test]
fn a_rename_with_a_file_sync_alone_loses() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).sync(9).rename((ROOT, "tmp"), (ROOT, "target")).ack();
    };
    judge(protocol, "L", "L");
}

#[test]
fn a_file_sync_after_the_rename_tears() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).rename((ROOT, "tmp"), (ROOT, "target")).sync(9).ack();
    };
    judge(protocol, "LT", "T");
}

#[test]
fn both_syncs_hold() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9)
            .write(9)
            .sync(9)
            .rename((ROOT, "tmp"), (ROOT, "target"))
            .sync_dir(ROOT)
            .ack();
    };
    judge(protocol, "", "");
    let unnamed = |s: &mut Script| {
        s.unnamed(9)
            .write(9)
            .sync(9)
            .link(9, "tmp")
            .rename((ROOT, "tmp"), (ROOT, "target"))
            .sync_dir(ROOT)
            .ack();
    };
    judge(unnamed, "", "");
}

#[test]
fn a_file_system_sync_does_for_both() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).did(Step::SyncFs);
        s.rename((ROOT, "tmp"), (ROOT, "target")).did(Step::SyncFs).ack();
    };
    judge(protocol, "", "");
}

#[test]
fn a_single_flush_holds_only_with_an_ordered_journal() {
    let protocol = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).write_out(9, true);
        s.rename((ROOT, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    };
    judge(protocol, "T", "");
    let without_waiting = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write(9).write_out(9, false);
        s.rename((ROOT, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    };
    judge(without_waiting, "T", "T");
    let too_early = |s: &mut Script| {
        s.create(ROOT, "tmp", 9).write_out(9, true).write(9);
        s.rename((ROOT, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    };
    judge(too_early, "T", "T");
}

#[test]
fn a_file_moved_between_directories_has_two_names_if_only_one_is_synced() {
    let protocol = |s: &mut Script| {
        s.create(FOLDER, "tmp", 9).write(9).sync(9).sync_dir(FOLDER);
        s.rename((FOLDER, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    };
    judge(protocol, "2", "");
}

#[test]
fn a_directory_swap_by_two_renames_leaves_the_name_missing() {
    let protocol = |s: &mut Script| {
        s.mkdir("stage", 8).create(8, "target", 9).write(9).sync(9).sync_dir(8).sync_dir(ROOT);
        s.rename((ROOT, "folder"), (ROOT, "past")).sync_dir(ROOT);
        s.rename((ROOT, "stage"), (ROOT, "folder")).sync_dir(ROOT).ack();
    };
    judge_at(&["folder", "target"], protocol, "M", "M");
}

#[test]
fn an_exchange_of_directories_holds_if_all_that_is_new_was_synced() {
    let synced = |s: &mut Script| {
        s.mkdir("stage", 8).create(8, "target", 9).write(9).sync(9).sync_dir(8);
        s.exchange("stage", "folder").sync_dir(ROOT).ack();
    };
    judge_at(&["folder", "target"], synced, "", "");
    let files_not_synced = |s: &mut Script| {
        s.mkdir("stage", 8).create(8, "target", 9).write(9).sync_dir(8);
        s.exchange("stage", "folder").sync_dir(ROOT).ack();
    };
    judge_at(&["folder", "target"], files_not_synced, "T", "T");
    let directory_not_synced = |s: &mut Script| {
        s.mkdir("stage", 8).create(8, "target", 9).write(9).sync(9);
        s.exchange("stage", "folder").sync_dir(ROOT).ack();
    };
    judge_at(&["folder", "target"], directory_not_synced, "M", "");
}

#[test]
fn a_sync_that_failed_once_makes_nothing_durable_any_more() {
    let mut script = Script(Vec::new());
    script.create(ROOT, "tmp", 9).write(9);
    script.0.push(Event::Did(Step::SyncFile { node: 9 }, Fate::Dropped(5)));
    script.0.push(Event::Did(Step::SyncFile { node: 9 }, Fate::Lied));
    script.rename((ROOT, "tmp"), (ROOT, "target")).sync_dir(ROOT).ack();
    let trace = Trace { initial: initial(), log: script.0 };
    let states = States::new(&trace, Model::Unordered, 100, 0);
    let last = states.at(trace.log.len()).all;
    let held: Vec<_> = last.iter().map(|choices| finding(&states.disk(choices), &["target"], true)).collect();
    assert_eq!(held, [Some('T')], "the dropped data never comes back");
}

#[test]
fn what_survives_is_closed_under_dependency() {
    let mut script = Script(Vec::new());
    script.mkdir("made", 8).create(8, "a", 9).did(Step::Unlink { dir: 8, name: "a".into() });
    script.did(Step::Rmdir { dir: ROOT, name: "made".into() });
    script.create(ROOT, "made", 10);
    let trace = Trace { initial: initial(), log: script.0 };
    let states = States::new(&trace, Model::Unordered, 100, 0);
    let all = states.at(trace.log.len()).all;
    for choices in &all {
        let signs: String = choices.iter().map(|choice| choice.sign()).collect();
        let ordered = !signs.starts_with("0") || !signs[3..].contains('1');
        assert!(ordered, "{signs}: removed or replaced what was never made");
        assert!(&signs[3..4] == "0" || &signs[2..3] == "1", "{signs}: removed with something in it");
    }
    assert_eq!(all.len(), 2 * 3 + 1 + 1, "{all:?}");
}

#[test]
fn a_sample_is_the_same_for_the_same_seed_and_keeps_the_extremes() {
    let mut script = Script(Vec::new());
    for number in 0..20 {
        script.create(ROOT, &format!("f{number}"), 10 + number).write(10 + number);
    }
    let trace = Trace { initial: initial(), log: script.0 };
    let sample = |seed| States::new(&trace, Model::Unordered, 50, seed).at(trace.log.len());
    let one = sample(1);
    assert!(one.sampled && one.all.len() == 50);
    assert_eq!(one.all, sample(1).all);
    assert_ne!(one.all, sample(2).all);
    let signs: Vec<String> =
        one.all.iter().map(|choices| choices.iter().map(|choice| choice.sign()).collect()).collect();
    assert!(signs.contains(&"0".repeat(40)) && signs.contains(&"1".repeat(40)));
}

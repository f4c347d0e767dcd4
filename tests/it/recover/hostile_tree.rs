//! A hostile tree out of bytes, and what a recovery may make of it. The body of the test
//! `hostile_trees_test` and of the fuzz target `recover`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use durafile::{AtomicDir, Batch, Recovery, RecoveryOptions, Transaction, is_remnant, recover};

use crate::support::forged::{self, Record, name_of};

/// Bytes that decide; when they are used up, zeros.
struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn some(&mut self, most: usize) -> &'a [u8] {
        let len = self.below(most).min(self.0.len());
        let (some, rest) = self.0.split_at(len);
        self.0 = rest;
        some
    }
}

const ORDINARY: [(&str, &str); 3] = [("a", "first"), ("folder/b", "second"), ("folder/deep/c", "third")];

/// What records may name, good and bad.
const PATHS: [&str; 12] = [
    "a",
    "folder/b",
    "folder/deep/c",
    "new",
    "folder/new",
    "missing/new",
    "../outside/canary",
    "link/canary",
    "/etc/hostname",
    "",
    "folder",
    "a/b",
];

/// Whose things recovery may not touch.
const STRANGER: u32 = 65534;

struct Scene {
    root: PathBuf,
    outside: PathBuf,
    /// Where nobody else can create a name, another user's remnant is one that was given away, and goes.
    is_shared: bool,
    /// What records that are whole, and not another user's, are about.
    named: Vec<PathBuf>,
    /// One of these was spoilt before it was sealed: nobody knows what it is about.
    is_wild: bool,
    /// What belongs to another user.
    theirs: Vec<PathBuf>,
}

/// Builds the tree that these bytes stand for, and recovers it.
pub(crate) fn run(data: &[u8]) -> Recovery {
    run_in(data, false)
}

/// The same; everybody may create names in it if it is shared.
pub(crate) fn run_in(data: &[u8], is_shared: bool) -> Recovery {
    // In memory, where there is such a place: nothing here is about durability.
    let memory = Path::new("/dev/shm");
    let home = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
    let [root, outside] = ["root", "outside"].map(|name| home.path().join(name));
    fs::create_dir_all(root.join("folder/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "outside").unwrap();
    fs::create_dir(outside.join(forged::name('b', 1))).unwrap();
    ORDINARY.iter().for_each(|(path, content)| fs::write(root.join(path), content).unwrap());
    fs::write(root.join("linked"), "has other names").unwrap();
    let mut dice = Dice(data);
    let live = Live::begin(&root, &mut dice);
    if is_shared {
        for folder in [&root, &root.join("folder")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    let theirs = Vec::new();
    let mut scene = Scene { root, outside, is_shared, named: Vec::new(), is_wild: false, theirs };
    for _ in 0..=dice.below(8) {
        scene.add(&mut dice);
    }
    let recovery = scene.recover_and_check();
    live.end();
    recovery
}

/// Writers at work beside the recovery.
struct Live {
    root: PathBuf,
    sets: Option<(AtomicDir, Batch)>,
    change: Option<Transaction>,
}

impl Live {
    fn begin(root: &Path, dice: &mut Dice<'_>) -> Live {
        let mut live = Live { root: root.to_owned(), sets: None, change: None };
        match dice.below(6) {
            4 => {
                let (mut next, mut batch) = (AtomicDir::create(root.join("live")).unwrap(), Batch::new());
                next.write("b", "live").unwrap();
                batch.write(root.join("batched"), "live").unwrap();
                live.sets = Some((next, batch));
            }
            5 => {
                let mut change = Transaction::begin(root).unwrap();
                change.write("live", "live").unwrap();
                change.write("batched", "live").unwrap();
                live.change = Some(change);
            }
            _ => {}
        }
        live
    }

    /// They were not disturbed.
    fn end(self) {
        let mut written = Vec::new();
        if let Some((next, batch)) = self.sets {
            let _ = next.commit().unwrap();
            let _ = batch.commit().unwrap();
            written = vec!["live/b", "batched"];
        }
        if let Some(change) = self.change {
            let _ = change.commit().unwrap();
            written = vec!["live", "batched"];
        }
        written.iter().for_each(|path| assert_eq!(fs::read(self.root.join(path)).unwrap(), b"live"));
    }
}

impl Scene {
    fn add(&mut self, dice: &mut Dice<'_>) {
        let folder = self.root.join(dice.pick(&["", "", "folder"]));
        let mark = forged::name(dice.pick(&forged::LETTERS), dice.below(6) as u128);
        let at = folder.join(&mark);
        // Of two things at one name the first stays.
        let made = match dice.below(10) {
            0 | 1 => return self.add_journal(&folder, dice),
            2 | 3 => return self.add_swap(&folder, dice),
            4 => fs::create_dir(&at).and_then(|()| fs::write(at.join(name_of(0)), dice.some(9))),
            5 => fs::create_dir(&at).and_then(|()| symlink(&self.outside, at.join("link"))),
            6 => fs::File::create_new(&at).and_then(|mut file| file.write_all(dice.some(40))),
            7 => symlink(dice.pick(&["a", "../outside", "../outside/canary", "nowhere", "."]), &at),
            8 => return drop(symlink(&self.outside, folder.join("link"))),
            // Of one that no record names: a last name left would be trusted the second time.
            _ => return drop(fs::hard_link(self.root.join("linked"), &at)),
        };
        if made.is_err() {
            return;
        }
        if dice.one_in(4) && fs::symlink_metadata(&at).is_ok_and(|found| !found.is_symlink()) {
            let mode = dice.pick(&[0o000, 0o400, 0o666, 0o777, 0o1777, 0o2755]);
            let _ = fs::set_permissions(&at, fs::Permissions::from_mode(mode));
        }
        self.may_be_given_away(at, dice);
    }

    /// It takes root: another user's things are left out elsewhere.
    fn may_be_given_away(&mut self, at: PathBuf, dice: &mut Dice<'_>) -> bool {
        let given = dice.one_in(4) && lchown(&at, Some(STRANGER), Some(STRANGER)).is_ok();
        if given {
            self.theirs.push(at);
        }
        given
    }

    /// The record of a transaction: consistent with what is there, or not at all.
    fn add_journal(&mut self, folder: &Path, dice: &mut Dice<'_>) {
        let (stage, passing) =
            (forged::name('x', dice.below(4) as u128), forged::name('p', dice.below(4) as u128));
        let (mut record, mut named) = (Record::new(b't'), Vec::new());
        record.name(if dice.one_in(5) {
            dice.pick(&PATHS)
        } else if dice.one_in(4) {
            ""
        } else {
            &stage
        });
        record.name(if dice.one_in(5) { dice.pick(&PATHS) } else { &passing });
        let dirs = dice.below(2);
        record.number(dirs as u64);
        (0..dirs).for_each(|_| record.name(dice.pick(&["missing", "../outside/made", "folder"])));
        let changes = dice.below(4);
        record.number(changes as u64);
        for number in 0..changes as u64 {
            let path = dice.pick(&PATHS);
            record.name(path);
            named.push(folder.join(path));
            let found = fs::symlink_metadata(folder.join(path)).ok().filter(|_| !dice.one_in(4));
            record.number(u64::from(found.is_some()));
            record.number(found.as_ref().map_or(1, MetadataExt::ino));
            record.number(found.as_ref().map_or(0, MetadataExt::size));
            record.number(found.as_ref().map_or(u64::MAX, |found| found.mtime() as u64));
            record.number(found.as_ref().map_or(0, |found| found.mtime_nsec() as u64));
            if dice.one_in(3) {
                record.number(2);
                continue;
            }
            let content = dice.some(20);
            let _ = fs::create_dir(folder.join(&stage));
            let staged = folder.join(&stage).join(name_of(number));
            let ino = fs::write(&staged, content)
                .and_then(|()| fs::metadata(&staged))
                .map_or(7, |found| found.ino());
            for number in [1, number, ino, content.len() as u64, forged::checksum(content)] {
                record.number(number);
            }
        }
        self.put(record, named, folder.join(forged::name('j', dice.below(4) as u128)), dice);
    }

    /// The record of a swap of directories.
    fn add_swap(&mut self, folder: &Path, dice: &mut Dice<'_>) {
        let target = dice.pick(&["folder", "deep", "new", "a", "..", "../outside", ""]);
        let names = [('d', 0), ('o', 1), ('d', 2)].map(|(letter, number)| forged::name(letter, number));
        let mut record = Record::new(b'd');
        record.name(target);
        for name in &names {
            record.name(if dice.one_in(8) { dice.pick(&PATHS) } else { name });
            if dice.one_in(2) {
                let _ = fs::create_dir(folder.join(name))
                    .and_then(|()| fs::write(folder.join(name).join("b"), "tree"));
            }
        }
        let found = fs::symlink_metadata(folder.join(target)).ok().filter(|_| !dice.one_in(3));
        record.number(u64::from(found.is_some()));
        let was =
            found.map_or([0; 3], |found| [found.ino(), found.mtime() as u64, found.mtime_nsec() as u64]);
        was.into_iter().for_each(|number| record.number(number));
        let at = if dice.one_in(6) { forged::name('r', 3) } else { forged::for_target('r', target) };
        let named = names.iter().map(String::as_str).chain([target]).map(|name| folder.join(name)).collect();
        self.put(record, named, folder.join(at), dice);
    }

    /// Writes a record, as it is or spoilt, before it is sealed or after.
    fn put(&mut self, mut record: Record, named: Vec<PathBuf>, at: PathBuf, dice: &mut Dice<'_>) {
        let is_wild = dice.one_in(3);
        if is_wild {
            spoil(&mut record.0, dice);
        }
        let Ok(mut file) = fs::File::create_new(&at) else { return };
        // Now and then as in a tree that was copied.
        let own = if dice.one_in(4) { 1 } else { file.metadata().unwrap().ino() };
        forged::seal(&mut record.0, own);
        let whole = record.0.clone();
        if dice.one_in(3) {
            spoil(&mut record.0, dice);
        }
        if file.write_all(&record.0).is_err() {
            return;
        }
        let mode = dice.pick(&[0o600, 0o600, 0o600, 0o666]);
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        if !self.may_be_given_away(at, dice) && record.0 == whole {
            self.is_wild |= is_wild;
            self.named.extend(named);
        }
    }

    fn recover_and_check(&self) -> Recovery {
        let outside = state_of(&self.outside);
        let theirs: Vec<_> = self.theirs.iter().map(|path| state_of(path)).collect();
        let _ = RecoveryOptions::new().dry_run(true).run(&self.root).unwrap();
        let first = recover(&self.root).unwrap_or_else(|e| panic!("{e}: {:?}", e.io_error()));
        let second = recover(&self.root).unwrap_or_else(|e| panic!("{e}: {:?}", e.io_error()));
        let all = [second.removed(), second.completed(), second.rolled_back(), second.quarantined()];
        assert!(all.iter().all(|list| list.is_empty()), "{first:?}, then {second:?}");
        assert_eq!(state_of(&self.outside), outside);
        if self.is_wild {
            return first;
        }
        let is_named = |path: &Path| self.named.iter().any(|named| path.starts_with(named));
        // A lock file may be anybody's, and is empty.
        let lock = forged::name('l', 0)[..12].to_owned();
        let is_lock =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&lock));
        let stays = |path: &PathBuf| !is_named(path) && self.is_shared && !is_lock(path);
        for (path, before) in self.theirs.iter().zip(theirs).filter(|(path, _)| stays(path)) {
            assert_eq!(state_of(path), before, "another user's: {first:?}");
        }
        for (path, content) in ORDINARY.map(|(path, content)| (self.root.join(path), content)) {
            let found = fs::read_to_string(&path).ok();
            assert!(found.as_deref() == Some(content) || is_named(&path), "{path:?}: {first:?}");
        }
        let settled = [first.completed(), first.rolled_back()].concat();
        assert!(settled.iter().all(|path| self.named.contains(path)), "by no record: {first:?}");
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(is_remnant);
        assert!(first.removed().iter().chain(first.quarantined()).all(is_ours), "{first:?}");
        first
    }
}

/// What is at a path and below it: anything that somebody could have done to it shows.
fn state_of(path: &Path) -> Vec<(PathBuf, Vec<i64>, Vec<u8>)> {
    let Ok(found) = fs::symlink_metadata(path) else { return Vec::new() };
    let is_own = [found.ino() as i64, i64::from(found.mode()), i64::from(found.uid()), found.nlink() as i64];
    let changed = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    let content = if found.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    let mut all = vec![(path.to_owned(), [is_own, changed].concat(), content)];
    if found.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| all.extend(state_of(&entry.path())));
    }
    all.sort();
    all
}

fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice<'_>) {
    let at = (dice.below(256) * 7) % bytes.len().max(1);
    match dice.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, dice.byte()),
        2 => bytes.extend(dice.some(16)),
        _ => bytes[at] ^= 1 << dice.below(8),
    }
}

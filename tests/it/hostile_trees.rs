//! A hostile tree out of bytes, and what a recovery may make of it. The body of the test
//! `recover_hostile` and of the fuzz target `recover`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use durafile::{RecoveryOptions, is_remnant, recover};

use crate::marks;

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
        let (some, rest) = self.0.split_at(self.below(most).min(self.0.len()));
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

struct Scene {
    root: PathBuf,
    outside: PathBuf,
    /// A record that is whole was put there: then it decides about files.
    has_record: bool,
}

/// Builds the tree that these bytes stand for, and recovers it.
pub(crate) fn run(data: &[u8]) {
    // In memory, where there is such a place: nothing here is about durability.
    let memory = Path::new("/dev/shm");
    let home = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
    let [root, outside] = ["root", "outside"].map(|name| home.path().join(name));
    fs::create_dir_all(root.join("folder/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "outside").unwrap();
    fs::create_dir(outside.join(marks::name('b', 1))).unwrap();
    ORDINARY.iter().for_each(|(path, content)| fs::write(root.join(path), content).unwrap());
    fs::write(root.join("linked"), "has other names").unwrap();
    let mut scene = Scene { root, outside, has_record: false };
    let mut dice = Dice(data);
    for _ in 0..=dice.below(8) {
        scene.add(&mut dice);
    }
    scene.recover_and_check();
}

impl Scene {
    fn add(&mut self, dice: &mut Dice<'_>) {
        let folder = self.root.join(dice.pick(&["", "", "folder"]));
        let mark = marks::name(dice.pick(&marks::LETTERS), dice.below(6) as u128);
        let at = folder.join(&mark);
        // Of two things at one name the first stays.
        let _ = match dice.below(10) {
            0 | 1 => self.add_journal(&folder, dice),
            2 | 3 => self.add_swap(&folder, dice),
            4 => fs::create_dir(&at).and_then(|()| fs::write(at.join(name_of(0)), dice.some(9))),
            5 => fs::create_dir(&at).and_then(|()| symlink(&self.outside, at.join("link"))),
            6 => fs::File::create_new(&at).and_then(|mut file| file.write_all(dice.some(40))),
            7 => symlink(dice.pick(&["a", "../outside", "../outside/canary", "nowhere", "."]), &at),
            8 => symlink(&self.outside, folder.join("link")),
            // Of one that no record names: a last name left would be trusted the second time.
            _ => fs::hard_link(self.root.join("linked"), &at),
        };
        if dice.one_in(4) && fs::symlink_metadata(&at).is_ok_and(|found| !found.is_symlink()) {
            let mode = dice.pick(&[0o000, 0o400, 0o666, 0o777, 0o1777, 0o2755]);
            // Not of what is ordinary, too.
            if fs::metadata(&at).is_ok_and(|found| found.is_dir() || found.nlink() == 1) {
                let _ = fs::set_permissions(&at, fs::Permissions::from_mode(mode));
            }
        }
    }

    /// The record of a transaction: consistent with what is there, or not at all.
    fn add_journal(&mut self, folder: &Path, dice: &mut Dice<'_>) -> std::io::Result<()> {
        let (stage, passing) =
            (marks::name('x', dice.below(4) as u128), marks::name('s', dice.below(4) as u128));
        let mut record = Record::new(b't');
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
            let found = fs::symlink_metadata(folder.join(path)).ok().filter(|_| !dice.one_in(4));
            record.number(u64::from(found.is_some()));
            record.number(found.as_ref().map_or(1, MetadataExt::ino));
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
            for number in [1, number, ino, content.len() as u64, marks::checksum(content)] {
                record.number(number);
            }
        }
        self.put(record, &folder.join(marks::name('j', dice.below(4) as u128)), dice)
    }

    /// The record of a swap of directories.
    fn add_swap(&mut self, folder: &Path, dice: &mut Dice<'_>) -> std::io::Result<()> {
        let target = dice.pick(&["folder", "deep", "new", "a", "..", "../outside", ""]);
        let names = [('d', 0), ('o', 1), ('d', 2)].map(|(letter, number)| marks::name(letter, number));
        let mut record = Record::new(b'd');
        record.name(target);
        for name in &names {
            record.name(if dice.one_in(8) { dice.pick(&PATHS) } else { name });
            if dice.one_in(2) {
                let _ = fs::create_dir(folder.join(name))
                    .and_then(|()| fs::write(folder.join(name).join("b"), "tree"));
            }
        }
        let at = if dice.one_in(6) { marks::name('r', 3) } else { marks::for_target('r', target) };
        self.put(record, &folder.join(at), dice)
    }

    /// Writes a record, as it is or spoilt, before it is sealed or after.
    fn put(&mut self, mut record: Record, at: &Path, dice: &mut Dice<'_>) -> std::io::Result<()> {
        if dice.one_in(3) {
            spoil(&mut record.0, dice);
        }
        marks::seal(&mut record.0);
        let whole = record.0.clone();
        if dice.one_in(3) {
            spoil(&mut record.0, dice);
        }
        self.has_record |= record.0 == whole;
        fs::File::create_new(at)?.write_all(&record.0)?;
        fs::set_permissions(at, fs::Permissions::from_mode(dice.pick(&[0o600, 0o600, 0o600, 0o666])))
    }

    fn recover_and_check(&self) {
        let before = self.outside_now();
        let inode = fs::metadata(self.outside.join("canary")).unwrap();
        let _ = RecoveryOptions::new().dry_run(true).run(&self.root).unwrap();
        let first = recover(&self.root).unwrap_or_else(|e| panic!("{e}: {:?}", e.io_error()));
        let second = recover(&self.root).unwrap_or_else(|e| panic!("{e}: {:?}", e.io_error()));
        assert!(second.is_clean(), "{first:?}, then {second:?}");
        assert_eq!(self.outside_now(), before);
        let now = fs::metadata(self.outside.join("canary")).unwrap();
        assert_eq!((now.ino(), now.mode(), now.nlink()), (inode.ino(), inode.mode(), inode.nlink()));
        assert_eq!(fs::read(self.outside.join("canary")).unwrap(), b"outside");
        if self.has_record {
            return;
        }
        for (path, content) in ORDINARY {
            assert_eq!(
                fs::read_to_string(self.root.join(path)).ok().as_deref(),
                Some(content),
                "{path}: {first:?}"
            );
        }
        let settled = [first.completed(), first.rolled_back()].concat();
        assert!(settled.is_empty(), "without a whole record: {settled:?}");
        let is_ours = |path: &PathBuf| path.file_name().is_some_and(is_remnant);
        assert!(first.removed().iter().chain(first.quarantined()).all(is_ours), "{first:?}");
    }

    fn outside_now(&self) -> Vec<PathBuf> {
        let mut names: Vec<_> =
            fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }
}

fn name_of(number: u64) -> String {
    format!("{number:0>48}")
}

struct Record(Vec<u8>);

impl Record {
    fn new(kind: u8) -> Record {
        let mut bytes = b"durafile".to_vec();
        bytes.push(kind);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend([0; 8]);
        Record(bytes)
    }

    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn name(&mut self, name: &str) {
        self.number(name.len() as u64);
        self.0.extend(name.as_bytes());
    }
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

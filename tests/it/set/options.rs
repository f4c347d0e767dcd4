//! Goal: files of a set are saved as single files are, where the options say so. Method: each option in each kind of
//! set, through the public interface; what is refused is looked for before anything was touched.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use durafile::{
    AtomicDir, Batch, CancelToken, Carry, DirOptions, Durability, ErrorKind, HardLinks, InPlace,
    SpecialFiles, Symlinks, SyncStrategy, Transaction, TransactionOptions, WriteOptions,
};
use fs_err as fs;

use crate::support::{best, chmod, dir, expect_pass, job, mode, names, refused, strace, this_test};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap()
}

fn begin(root: &Path, files: WriteOptions) -> Transaction {
    TransactionOptions::new().files(files).begin(root).unwrap()
}

fn update(target: &Path, files: WriteOptions) -> AtomicDir {
    DirOptions::new().files(files).update(target).unwrap()
}

/// Long ago, so that a file that is written again has another time.
fn make_old(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

fn inode_and_time(path: &Path) -> (u64, SystemTime) {
    let found = fs::metadata(path).unwrap();
    (found.ino(), found.modified().unwrap())
}

#[test]
fn options_that_a_set_decides_as_a_whole_are_refused_before_anything_is_made() {
    let home = dir();
    let files = WriteOptions::new;
    for refused_options in [
        files().durability(Durability::Data),
        files().create_new(true),
        files().create_parents(true),
        files().symlinks(Symlinks::Replace),
        files().single_flush(true),
        files().cancel(&CancelToken::new()),
        files().keep_previous("old"),
        files().in_place(InPlace::Fallback),
        files().undo_dir("undo"),
        files().busy_timeout(Duration::ZERO),
    ] {
        let target = home.path().join("above/target");
        let options = DirOptions::new().create_parents(true).files(refused_options.clone());
        refused(options.create(&target), ErrorKind::Unsupported);
        refused(options.update(&target), ErrorKind::Unsupported);
        let options = TransactionOptions::new().create_parents(true).files(refused_options);
        let error = refused(options.begin(&target), ErrorKind::Unsupported);
        assert!(format!("{error:?}").contains("`files` does not take the option"), "{error:?}");
        assert!(names(home.path()).is_empty(), "nothing may be made");
    }
}

#[test]
fn permissions_and_metadata_are_those_that_were_asked_for() {
    let home = dir();
    let root = home.path().join("root");
    let asked = WriteOptions::new().permissions(Permissions::from_mode(0o640));
    let forgets = WriteOptions::new().preserve_metadata(false);
    for is_dir in [false, true] {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        for name in ["asked", "forgotten", "carried"] {
            fs::write(root.join(name), "old").unwrap();
            chmod(root.join(name), 0o600);
        }
        let save = |name: &str, files: &WriteOptions| {
            if is_dir {
                let mut next = update(&root, files.clone());
                next.write(name, "new").unwrap();
                next.commit().unwrap();
            } else {
                let mut change = begin(&root, files.clone());
                change.write(name, "new").unwrap();
                change.commit().unwrap();
            }
        };
        save("asked", &asked);
        save("new", &asked);
        save("forgotten", &forgets);
        fs::write(home.path().join("plain"), "").unwrap();
        let plain = mode(home.path().join("plain"));
        let modes = ["asked", "new", "forgotten", "carried"].map(|name| mode(root.join(name)));
        assert_eq!(modes, [0o640, 0o640, plain, 0o600], "of a directory: {is_dir}");
    }
}

#[test]
fn the_size_limit_is_that_of_the_callers_files_alone() {
    let home = dir();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("large"), "longer than the limit").unwrap();
    let files = WriteOptions::new().size_limit(4);

    let mut change = begin(&root, files.clone());
    refused(change.write("a", "12345"), ErrorKind::TooLarge);
    // The record is larger than the limit, too.
    change.write("a", "1234").unwrap();
    change.write("b", "1234").unwrap();
    change.commit().unwrap();

    let mut next = update(&root, files.clone());
    refused(next.write("c", "12345"), ErrorKind::TooLarge);
    next.write("c", "1234").unwrap();
    next.commit().unwrap();
    assert_eq!(read(root.join("large")), "longer than the limit");
    assert_eq!(names(&root), ["a", "b", "c", "large"]);

    let mut next = update(&root, files);
    let mut stream = next.create_file("d").unwrap();
    assert_eq!(ErrorKind::of(&stream.write_all(b"12345").unwrap_err()), ErrorKind::TooLarge);
    drop(stream);
    refused(next.commit(), ErrorKind::TooLarge);
}

#[test]
fn a_file_with_other_names_is_left_alone_if_the_options_say_so() {
    let home = dir();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("single"), "old").unwrap();
    fs::write(root.join("twin"), "old").unwrap();
    fs::hard_link(root.join("twin"), home.path().join("other name")).unwrap();
    let files = WriteOptions::new().hard_links(HardLinks::Refuse);

    let mut change = begin(&root, files.clone());
    refused(change.write("twin", "new"), ErrorKind::HardLinked);
    change.write("single", "1").unwrap();
    change.commit().unwrap();
    for carry in [Carry::Copy, Carry::HardLink] {
        let options = DirOptions::new().carry(carry).files(files.clone());
        let mut next = options.update(&root).unwrap();
        refused(next.write("twin", "new"), ErrorKind::HardLinked);
        next.write("single", "2").unwrap();
        // A link that was made to carry the file over is none of its names.
        next.staging();
        next.write("single", "3").unwrap();
        next.discard().unwrap();
        let next = options.update(&root).unwrap();
        next.staging();
        let mut next = next;
        next.write("single", "4").unwrap();
        if carry == Carry::HardLink {
            refused(next.write("twin", "new"), ErrorKind::HardLinked);
        }
        next.discard().unwrap();
    }
    assert_eq!([read(root.join("single")), read(root.join("twin"))], ["1", "old"]);
    // By default the other name keeps the old content.
    let mut change = begin(&root, WriteOptions::new());
    change.write("twin", "new").unwrap();
    change.commit().unwrap();
    assert_eq!(read(home.path().join("other name")), "old");
}

#[test]
fn unchanged_files_of_a_transaction_keep_inode_and_time() {
    for strategy in [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem] {
        let home = dir();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("d")).unwrap();
        for name in ["bytes", "d/stream", "d/json", "differs", "longer"] {
            fs::write(at(name), if name == "d/json" { "[1]\n" } else { "same" }).unwrap();
            make_old(&at(name));
        }
        let before = ["bytes", "d/stream", "d/json"].map(|name| inode_and_time(&at(name)));
        let files = WriteOptions::new().skip_unchanged(true);
        #[cfg(feature = "json")]
        let files = files.final_newline(true);
        let options = TransactionOptions::new().sync(strategy).files(files);
        let put = |change: &mut Transaction| {
            change.write("bytes", "same").unwrap();
            let mut stream = change.create_file("d/stream").unwrap();
            stream.write_all(b"same").unwrap();
            stream.finish().unwrap();
            #[cfg(feature = "json")]
            change.write_json("d/json", &[1]).unwrap();
            #[cfg(not(feature = "json"))]
            change.write("d/json", "[1]\n").unwrap();
        };
        let mut change = options.begin(home.path()).unwrap();
        put(&mut change);
        let committed = change.commit().unwrap();
        assert!(committed.is_unchanged());
        assert_eq!(committed.durability(), best(home.path()));

        let mut change = options.begin(home.path()).unwrap();
        put(&mut change);
        change.write("differs", "new ").unwrap();
        change.write("longer", "longer").unwrap();
        change.write("new", "new").unwrap();
        assert!(!change.commit().unwrap().is_unchanged());
        assert_eq!(["bytes", "d/stream", "d/json"].map(|name| inode_and_time(&at(name))), before);
        assert_eq!(["differs", "longer", "new"].map(|name| read(at(name))), ["new ", "longer", "new"]);
        assert_eq!(names(home.path()), ["bytes", "d", "differs", "longer", "new"]);
    }
}

/// Saved meanwhile by another program: by a rename, in place with the same length, or removed.
const MEANWHILE: [fn(&Path); 3] = [
    |path| {
        fs::write(path.with_extension("new"), "theirs").unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    },
    |path| {
        fs::write(path, "THEY").unwrap();
        make_old(path);
    },
    |path| fs::remove_file(path).unwrap(),
];

#[test]
fn whether_a_file_is_unchanged_is_decided_at_the_commit() {
    for (case, meanwhile) in MEANWHILE.iter().enumerate() {
        for strategy in [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem] {
            let home = dir();
            let path = home.path().join("file");
            let files = WriteOptions::new().skip_unchanged(true);
            let reset = || {
                fs::write(&path, "same").unwrap();
                make_old(&path);
            };

            reset();
            let mut batch = Batch::new().options(files.clone()).sync(strategy);
            batch.write(&path, "same").unwrap();
            meanwhile(&path);
            assert!(!batch.commit().unwrap()[0].is_unchanged(), "batch, case {case}");
            assert_eq!(read(&path), "same", "batch, case {case}");

            reset();
            let mut change =
                TransactionOptions::new().sync(strategy).files(files.clone()).begin(&home).unwrap();
            change.write("file", "same").unwrap();
            change.write("other", "new").unwrap();
            meanwhile(&path);
            assert!(!change.commit().unwrap().is_unchanged(), "transaction, case {case}");
            assert_eq!(read(&path), "same", "transaction, case {case}");

            reset();
            let mut next = DirOptions::new().sync(strategy).files(files.clone()).update(&home).unwrap();
            next.write("file", "same").unwrap();
            meanwhile(&path);
            next.commit().unwrap();
            assert_eq!(read(&path), "same", "directory, case {case}");
        }
    }
}

#[test]
fn what_becomes_the_same_before_the_commit_is_unchanged() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut change = begin(home.path(), WriteOptions::new().skip_unchanged(true));
    change.write("file", "new").unwrap();
    fs::write(&path, "new").unwrap();
    make_old(&path);
    let before = inode_and_time(&path);
    assert!(change.commit().unwrap().is_unchanged());
    assert_eq!(inode_and_time(&path), before);
}

#[test]
fn unchanged_files_of_a_directory_are_carried_over() {
    for (carry, with_tools) in [(Carry::Copy, false), (Carry::HardLink, false), (Carry::HardLink, true)] {
        let home = dir();
        let target = home.path().join("target");
        fs::create_dir(&target).unwrap();
        for name in ["same", "differs"] {
            fs::write(target.join(name), "old").unwrap();
            make_old(&target.join(name));
        }
        let before = inode_and_time(&target.join("same"));
        let files = WriteOptions::new().skip_unchanged(true);
        let mut next = DirOptions::new().carry(carry).files(files).update(&target).unwrap();
        next.write("same", "old").unwrap();
        next.write("differs", "new").unwrap();
        next.write("added", "new").unwrap();
        if with_tools {
            fs::write(next.staging().join("theirs"), "new").unwrap();
        }
        next.commit().unwrap();
        let after = inode_and_time(&target.join("same"));
        assert_eq!(after.1, before.1, "the time, {carry:?}");
        assert_eq!(after.0 == before.0, carry == Carry::HardLink, "the inode, {carry:?}");
        assert_eq!(["same", "differs", "added"].map(|name| read(target.join(name))), ["old", "new", "new"]);
    }
}

#[test]
fn missing_parents_are_made_only_if_the_options_say_so() {
    let home = dir();
    let target = home.path().join("a/b/target");
    let error = refused(AtomicDir::create(&target), ErrorKind::NotFound);
    assert_eq!(error.path(), target);
    refused(Transaction::begin(&target), ErrorKind::NotFound);
    let mut new = DirOptions::new().create_parents(true).create(&target).unwrap();
    new.write("file", "1").unwrap();
    assert_eq!(new.commit().unwrap().durability(), best(home.path()));
    assert_eq!(read(target.join("file")), "1");

    let root = home.path().join("c/d/root");
    let mut change = TransactionOptions::new().create_parents(true).begin(&root).unwrap();
    change.write("file", "2").unwrap();
    assert_eq!(change.commit().unwrap().durability(), best(home.path()));
    assert_eq!(read(root.join("file")), "2");

    // What a link leads to is made, too.
    symlink("e/f/target", home.path().join("link")).unwrap();
    let mut new = DirOptions::new().create_parents(true).create(home.path().join("link")).unwrap();
    new.write("file", "3").unwrap();
    new.commit().unwrap();
    assert_eq!(read(home.path().join("e/f/target/file")), "3");
}

#[test]
fn special_files_are_left_out_if_the_options_say_so() {
    let home = dir();
    let target = home.path().join("target");
    fs::create_dir_all(target.join("inside")).unwrap();
    fs::write(target.join("file"), "carried").unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let permissions = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, target.join("inside/fifo"), fifo, permissions, 0).unwrap();
    std::os::unix::net::UnixListener::bind(target.join("socket")).unwrap();
    for carry in [Carry::Copy, Carry::HardLink] {
        let options = DirOptions::new().carry(carry).special_files(SpecialFiles::Refuse);
        refused(options.update(&target).unwrap().commit(), ErrorKind::InvalidPath);
    }
    DirOptions::new().special_files(SpecialFiles::Skip).update(&target).unwrap().commit().unwrap();
    assert_eq!(names(&target), ["file", "inside"]);
    assert!(names(target.join("inside")).is_empty());
}

#[cfg(feature = "json")]
#[test]
fn json_ends_with_a_newline_and_is_indented_if_the_options_say_so() {
    let home = dir();
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    let plain = WriteOptions::new().final_newline(true);
    for (options, expected) in [(plain.clone(), "[1]\n"), (plain.pretty(true), "[\n  1\n]\n")] {
        options.write_json(home.path().join("single"), &[1]).unwrap();
        let mut batch = Batch::new().options(options.clone());
        batch.write_json(home.path().join("batch"), &[1]).unwrap();
        batch.commit().unwrap();
        let mut change = begin(&root, options.clone());
        change.write_json("transaction", &[1]).unwrap();
        change.commit().unwrap();
        let mut next = update(&root, options.clone());
        next.write_json("dir", &[1]).unwrap();
        next.commit().unwrap();
        for path in ["single", "batch", "root/transaction", "root/dir"] {
            assert_eq!(read(home.path().join(path)), expected, "{path}");
        }
    }
    // The newline counts.
    let limited = WriteOptions::new().final_newline(true).size_limit(3);
    refused(limited.write_json(home.path().join("single"), &[2]), ErrorKind::TooLarge);
}

/// Goal: a file whose metadata is not kept has that of a new file, in whichever way it is staged. Method: more directories than
/// have a staging directory of their own, where links are refused.
#[test]
fn a_file_of_a_hosted_directory_has_the_mode_of_a_new_one_if_no_metadata_is_kept() {
    let test = this_test!();
    let paths =
        |home: &std::path::Path| (0..12).map(|n| home.join(n.to_string()).join("file")).collect::<Vec<_>>();
    if let Some((home, _)) = job(&test) {
        let mut batch = Batch::new().options(WriteOptions::new().preserve_metadata(false));
        for path in paths(&home) {
            batch.write(path, "new").unwrap();
        }
        batch.commit().unwrap();
        return;
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    for path in paths(home.path()) {
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "old").unwrap();
    }
    let new = mode(&paths(home.path())[0]);
    let fault = "inject=linkat:error=EPERM";
    expect_pass(&strace::faulty(&[fault], &test, home.path(), "").output().unwrap());
    for path in paths(home.path()) {
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", new), "{path:?}");
    }
}

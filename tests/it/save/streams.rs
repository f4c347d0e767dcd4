//! Goal: a stream is read and cut like a file, may be written to by its descriptor, and gets its name at the end, with
//! the rights that any new file there gets; a previous version is kept, and other names are minded, when that is asked
//! for. Method: each rule by itself, with and without files that have no name, and every refusal leaves nothing.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use durafile::{
    AtomicFile, Batch, ErrorKind, HardLinks, InPlace, Symlinks, TargetState, WriteOptions, recover,
};
use fs_err as fs;

use crate::support::{
    as_user, chmod, chown, dir, in_child, is_root, mode, names, public_dir, skip, this_test,
};

fn refused(result: durafile::Result<durafile::Committed>, kind: ErrorKind) {
    let e = result.unwrap_err();
    assert_eq!((e.kind(), e.target()), (kind, TargetState::Unchanged), "{e:?}");
}

#[test]
fn read_write_and_seek_share_one_position() {
    let home = dir();
    let mut stream = AtomicFile::create(home.path().join("file")).unwrap();
    stream.write_all(b"hello world").unwrap();
    let mut rest = String::new();
    assert_eq!(stream.read_to_string(&mut rest).unwrap(), 0, "the position is at the end");
    stream.seek(SeekFrom::Start(6)).unwrap();
    let mut word = [0; 2];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"wo");
    stream.write_all(b"RLD!").unwrap();
    stream.rewind().unwrap();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello woRLD!");
    stream.commit().unwrap();
    assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "hello woRLD!");
}

#[test]
fn content_is_cut_off_and_extended() {
    let home = dir();
    let path = home.path().join("file");
    let mut stream = AtomicFile::create(&path).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.set_len(2).unwrap();
    stream.write_all(b"!").unwrap();
    stream.set_len(8).unwrap();
    stream.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"he\0\0\0!\0\0");
    let mut stream = WriteOptions::new().size_limit(10).open(&path).unwrap();
    assert_eq!(stream.set_len(11).unwrap_err().kind(), ErrorKind::TooLarge);
    refused(stream.commit(), ErrorKind::TooLarge);
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn a_length_that_no_file_can_have_is_refused_and_the_stream_goes_on() {
    let home = dir();
    let path = home.path().join("file");
    let mut stream = AtomicFile::create(&path).unwrap();
    stream.write_all(b"one").unwrap();
    for bytes in [u64::MAX, 1 << 63] {
        let e = stream.set_len(bytes).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooLarge, "{e:?}");
        assert!(!e.hint().contains("health"), "{}", e.hint());
    }
    stream.write_all(b" two").unwrap();
    stream.commit().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
    // What passes the caller's own limit publishes nothing, however long it is.
    let mut stream = WriteOptions::new().size_limit(10).open(&path).unwrap();
    assert_eq!(stream.set_len(u64::MAX).unwrap_err().kind(), ErrorKind::TooLarge);
    refused(stream.commit(), ErrorKind::TooLarge);
}

#[test]
fn what_is_written_by_the_descriptor_counts() {
    let home = dir();
    let path = home.path().join("file");
    let by_descriptor = |options: &WriteOptions, text: &[u8]| {
        let mut stream = options.open(&path).unwrap();
        stream.write_all(b"by us").unwrap();
        stream.flush().unwrap();
        rustix::io::pwrite(stream.as_fd(), text, 5).unwrap();
        stream.commit()
    };
    by_descriptor(&WriteOptions::new(), b", and by others").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"by us, and by others");
    let before = fs::metadata(&path).unwrap().ino();
    let same = by_descriptor(&WriteOptions::new().skip_unchanged(true), b", and by others").unwrap();
    assert!(same.is_unchanged() && fs::metadata(&path).unwrap().ino() == before);
    let other = by_descriptor(&WriteOptions::new().skip_unchanged(true), b", and BY others").unwrap();
    assert!(!other.is_unchanged());
    refused(by_descriptor(&WriteOptions::new().size_limit(8), b" too long"), ErrorKind::TooLarge);
}

#[test]
fn a_stream_without_a_name_has_no_commit_but_one_with_a_path() {
    let home = dir();
    let mut stream = WriteOptions::new().open_in(home.path()).unwrap();
    assert_eq!(stream.path(), home.path());
    stream.write_all(b"x").unwrap();
    refused(stream.commit(), ErrorKind::InvalidPath);
    assert!(names(home.path()).is_empty());
    let stream = WriteOptions::new().open_in(home.path()).unwrap();
    stream.discard().unwrap();
    assert!(WriteOptions::new().open_in("").is_err_and(|e| e.kind() == ErrorKind::InvalidPath));
    let absent = WriteOptions::new().open_in(home.path().join("absent"));
    assert!(absent.is_err_and(|e| e.kind() == ErrorKind::NotFound));
    // The options are judged against the path that is given at the end.
    fs::write(home.path().join("there"), "old").unwrap();
    let stream = WriteOptions::new().create_new(true).open_in(home.path()).unwrap();
    refused(stream.commit_as(home.path().join("there")), ErrorKind::AlreadyExists);
    let mut stream = AtomicFile::create(home.path().join("first")).unwrap();
    stream.write_all(b"moved").unwrap();
    stream.commit_as(home.path().join("second")).unwrap();
    assert_eq!(names(home.path()), ["second", "there"]);
}

#[test]
fn another_file_system_is_told_and_nothing_is_left() {
    let (home, shm) = (dir(), Path::new("/dev/shm"));
    if !shm.is_dir() || fs::metadata(shm).unwrap().dev() == fs::metadata(home.path()).unwrap().dev() {
        return skip("there is no second file system");
    }
    let there = tempfile::tempdir_in(shm).unwrap();
    let stream = WriteOptions::new().open_in(home.path()).unwrap();
    refused(stream.commit_as(there.path().join("file")), ErrorKind::CrossDevice);
    assert!(names(home.path()).is_empty() && names(there.path()).is_empty());
}

/// A new file has the rights of any new file in its directory, and until then nobody else opens it.
#[test]
fn a_name_at_the_end_brings_the_rights_of_its_directory() {
    if !is_root() {
        return skip("only root can give directories away");
    }
    in_child(&this_test!(), "umask 002", |home| {
        let (store, far) = (home.join("store"), home.join("far"));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&far).unwrap();
        chown(&far, 0, 2002);
        chmod(&far, 0o2775);
        let at_once = WriteOptions::new().open_in(&store).unwrap();
        let staged = rustix::fs::fstat(at_once.as_fd()).unwrap();
        assert_eq!(staged.st_mode & 0o777, 0o600);
        at_once.commit_as(far.join("new")).unwrap();
        let found = fs::metadata(far.join("new")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o664, 2002));
        WriteOptions::new().open_in(&store).unwrap().commit_as(store.join("new")).unwrap();
        assert_eq!(mode(store.join("new")), 0o664);
        // A replaced file stays what it was, and what is asked for is what it gets.
        chmod(far.join("new"), 0o640);
        WriteOptions::new().open_in(&store).unwrap().commit_as(far.join("new")).unwrap();
        assert_eq!(mode(far.join("new")), 0o640);
        let asked = WriteOptions::new().permissions(std::fs::Permissions::from_mode(0o604));
        asked.open_in(&store).unwrap().commit_as(far.join("asked")).unwrap();
        let found = fs::metadata(far.join("asked")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o604, 2002));
    });
    // The group of a directory that the caller is no member of.
    let home = public_dir();
    let (store, far) = (home.path().join("store"), home.path().join("far"));
    for (dir, gid) in [(&store, 1001), (&far, 2002)] {
        fs::create_dir(dir).unwrap();
        chown(dir, 1001, gid);
    }
    chmod(&far, 0o2775);
    as_user(1001, 1001, || {
        let mut stream = WriteOptions::new().open_in(&store).unwrap();
        stream.write_all(b"content").unwrap();
        stream.commit_as(far.join("new")).unwrap();
    });
    let found = fs::metadata(far.join("new")).unwrap();
    assert_eq!((found.gid(), fs::read(far.join("new")).unwrap().as_slice()), (2002, b"content".as_slice()));
    assert!(names(&store).is_empty());
}

#[test]
fn the_previous_version_keeps_a_name() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    let options = WriteOptions::new().keep_previous("notes.old");
    options.write(at("notes"), "one").unwrap();
    assert_eq!(names(home.path()), ["notes"], "nothing was replaced");
    let first = fs::metadata(at("notes")).unwrap().ino();
    options.write(at("notes"), "two").unwrap();
    assert_eq!(fs::metadata(at("notes.old")).unwrap().ino(), first, "it is the very file");
    let mut stream = options.open(at("notes")).unwrap();
    stream.write_all(b"three").unwrap();
    stream.commit().unwrap();
    assert_eq!(fs::read_to_string(at("notes.old")).unwrap(), "two");
    // What changes nothing leaves it alone.
    assert!(options.clone().skip_unchanged(true).write(at("notes"), "three").unwrap().is_unchanged());
    assert_eq!(fs::read_to_string(at("notes.old")).unwrap(), "two");
    // A crash between the two renames leaves both names, which count as one file.
    fs::remove_file(at("notes.old")).unwrap();
    fs::hard_link(at("notes"), at("notes.old")).unwrap();
    let strict = options.clone().hard_links(HardLinks::Refuse);
    strict.write(at("notes"), "four").unwrap();
    assert_eq!(fs::read_to_string(at("notes.old")).unwrap(), "three");
    assert_eq!(names(home.path()), ["notes", "notes.old"]);
    for bad in ["", ".", "..", "a/b", "a/", "/a", "a\0b"] {
        refused(WriteOptions::new().keep_previous(bad).write(at("notes"), "x"), ErrorKind::InvalidPath);
    }
    refused(WriteOptions::new().keep_previous("notes").write(at("notes"), "x"), ErrorKind::InvalidPath);
    fs::create_dir(at("folder")).unwrap();
    refused(WriteOptions::new().keep_previous("folder").write(at("notes"), "x"), ErrorKind::IsADirectory);
    assert_eq!(fs::read_to_string(at("notes")).unwrap(), "four");
    assert!(recover(home.path()).unwrap().is_clean());
}

#[test]
fn a_previous_version_can_not_keep_the_name_of_the_file_itself() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    let options = WriteOptions::new().keep_previous("file");
    // A new file, too: the next save would be refused anyway.
    refused(options.write(at("file"), "new"), ErrorKind::InvalidPath);
    fs::write(at("file"), "old").unwrap();
    fs::hard_link(at("file"), at("other name")).unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    for name in ["file", "link"] {
        refused(options.write(at(name), "new"), ErrorKind::InvalidPath);
        refused(options.update(at(name), |_| Ok(b"new".to_vec())), ErrorKind::InvalidPath);
        assert_eq!(options.open(at(name)).unwrap_err().kind(), ErrorKind::InvalidPath);
        let stream = options.open_in(home.path()).unwrap();
        refused(stream.commit_as(at(name)), ErrorKind::InvalidPath);
    }
    // Where the link itself is replaced, its name is the one that counts.
    let replacing = options.clone().symlinks(Symlinks::Replace);
    refused(replacing.clone().keep_previous("link").write(at("link"), "new"), ErrorKind::InvalidPath);
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "old");
    assert_eq!(names(home.path()), ["file", "link", "other name"]);
}

#[test]
fn an_update_minds_the_name_for_the_previous_version() {
    let home = dir();
    fs::create_dir(home.path().join("folder")).unwrap();
    let path = home.path().join("folder/file");
    fs::write(&path, "old").unwrap();
    for bad in ["../file", "sub/file", "a\0b"] {
        let options = WriteOptions::new().keep_previous(bad);
        refused(options.update(&path, |_| Ok(b"new".to_vec())), ErrorKind::InvalidPath);
    }
    assert_eq!(names(home.path()), ["folder"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn a_previous_version_stays_beside_the_file_that_a_link_leads_to() {
    let home = dir();
    fs::create_dir(home.path().join("far")).unwrap();
    fs::write(home.path().join("far/file"), "one").unwrap();
    std::os::unix::fs::symlink("far/file", home.path().join("link")).unwrap();
    WriteOptions::new().keep_previous("before").write(home.path().join("link"), "two").unwrap();
    assert_eq!(fs::read_to_string(home.path().join("far/before")).unwrap(), "one");
}

#[test]
fn other_names_of_a_file_are_minded_when_asked() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "old").unwrap();
    fs::hard_link(at("file"), at("other")).unwrap();
    let strict = WriteOptions::new().hard_links(HardLinks::Refuse);
    refused(strict.write(at("file"), "new"), ErrorKind::HardLinked);
    assert_eq!(strict.open(at("file")).unwrap_err().kind(), ErrorKind::HardLinked);
    let mut batch = Batch::new().options(strict.clone());
    assert_eq!(batch.write(at("file"), "new").unwrap_err().kind(), ErrorKind::HardLinked);
    // It comes while a stream is open.
    fs::write(at("single"), "old").unwrap();
    let stream = strict.open(at("single")).unwrap();
    fs::hard_link(at("single"), at("second")).unwrap();
    refused(stream.commit(), ErrorKind::HardLinked);
    durafile::write(at("file"), "new").unwrap();
    assert_eq!(fs::read_to_string(at("other")).unwrap(), "old");
}

#[test]
fn a_batch_refuses_what_only_single_saves_do() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let (_, version) = durafile::read_version(&path).unwrap();
    for options in [
        WriteOptions::new().keep_previous("previous"),
        WriteOptions::new().in_place(InPlace::Fallback),
        WriteOptions::new().undo_dir(home.path()),
        WriteOptions::new().expect(&version),
    ] {
        let mut batch = Batch::new().options(options);
        let e = batch.write(&path, "new").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e:?}");
    }
    assert_eq!(names(home.path()), ["file"]);
}

//! Goal: rules 10, 11 and 13 of a save: the same bytes reach the disk as were given, however
//! they come; limits hold while streaming; unchanged content is left alone. Method: sizes around
//! every likely buffer, seeks checked against `std::fs::File`, readers that misbehave.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use durafile::{AtomicFile, ErrorKind, TargetState, WriteOptions};
use fs_err as fs;

use crate::support::{best, dir, names, refused};

/// Bytes without a short period, so that a block out of place shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

const SIZES: [usize; 17] = [
    0, 1, 511, 4095, 4096, 4097, 8191, 8192, 8193, 65_535, 65_536, 65_537, 131_072, 262_145, 1_048_575,
    1_048_577, 3_000_000,
];

#[test]
fn every_size_arrives_whole_by_every_way_of_writing() {
    let dir = dir();
    let path = dir.path().join("file");
    for size in SIZES {
        let bytes = pattern(size);
        durafile::write(&path, &bytes).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "write, {size}");

        fs::write(&path, pattern(size + 5000)).unwrap();
        WriteOptions::new().write_from(&path, &bytes[..]).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "write_from, {size}");

        for chunk in [7, 1000, 8192, 70_000] {
            let mut file = AtomicFile::create(&path).unwrap();
            for piece in bytes.chunks(chunk.max(size / 2000)) {
                file.write_all(piece).unwrap();
            }
            file.commit().unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "{chunk}, {size}");
        }
    }
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn seeking_behaves_as_in_any_file() {
    let dir = dir();
    let path = dir.path().join("file");
    let mut file = AtomicFile::create(&path).unwrap();
    let mut model = tempfile::tempfile().unwrap();
    let steps: [(SeekFrom, usize); 15] = [
        (SeekFrom::Start(0), 10),
        (SeekFrom::Start(2), 3),
        (SeekFrom::Current(1), 1),
        (SeekFrom::End(0), 20_000),
        (SeekFrom::End(-15_000), 100),
        (SeekFrom::Current(-50), 10),
        (SeekFrom::End(9_000), 1),
        (SeekFrom::Start(300_000), 70_000),
        (SeekFrom::Start(0), 1),
        (SeekFrom::Current(0), 9_000),
        (SeekFrom::End(-1), 1),
        // Writing nothing makes a file no longer, wherever it stands.
        (SeekFrom::End(500), 0),
        (SeekFrom::End(2), 1),
        (SeekFrom::Start(1_000_000), 0),
        (SeekFrom::End(0), 1),
    ];
    for (number, (to, length)) in steps.into_iter().enumerate() {
        assert_eq!(file.seek(to).unwrap(), model.seek(to).unwrap(), "step {number}");
        let piece = vec![number as u8 + 1; length];
        // `write_all` would not even ask.
        assert_eq!(file.write(&[]).unwrap(), 0);
        file.write_all(&piece).unwrap();
        model.write_all(&piece).unwrap();
        assert_eq!(file.stream_position().unwrap(), model.stream_position().unwrap());
        if number % 3 == 0 {
            file.flush().unwrap();
        }
    }
    // Before the start there is nothing, and asking does no harm.
    for to in [SeekFrom::Current(-2_000_000), SeekFrom::End(-2_000_000)] {
        let error = file.seek(to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    file.commit().unwrap();
    let mut expected = Vec::new();
    model.rewind().unwrap();
    model.read_to_end(&mut expected).unwrap();
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn nothing_shows_before_commit_and_nothing_stays_after_discard_or_drop() {
    let dir = dir();
    let path = dir.path().join("file");
    for old in [None, Some("old")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let before = names(&dir);
        for ending in 0..4 {
            let mut file = AtomicFile::create(&path).unwrap();
            file.write_all(&pattern(100_000)).unwrap();
            file.flush().unwrap();
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
            match ending {
                0 => file.discard().unwrap(),
                1 => drop(file),
                2 => {
                    let unwound = std::thread::spawn(move || {
                        let _held = file;
                        std::panic::resume_unwind(Box::new("while it was open"));
                    });
                    assert!(unwound.join().is_err());
                }
                _ => drop(AtomicFile::create(&path).unwrap()),
            }
            assert_eq!(names(&dir), before, "ending {ending}");
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
        }
    }
}

/// Hands out its content in small pieces, interrupted before each.
struct Stuttering<'a>(&'a [u8], bool);

impl Read for Stuttering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(self.0.len()).min(100);
        let (now, later) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

#[test]
fn a_reader_may_stutter_be_interrupted_or_lie_about_its_length() {
    let dir = dir();
    let path = dir.path().join("file");
    let bytes = pattern(50_001);
    let options = WriteOptions::new();
    options.clone().write_from(&path, Stuttering(&bytes, false)).unwrap();
    assert!(fs::read(&path).unwrap() == bytes);

    // Files in /proc say that they are empty.
    let source = std::fs::File::open("/proc/self/maps").unwrap();
    assert_eq!(source.metadata().unwrap().len(), 0);
    options.clone().write_from(&path, source).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 100);

    // A file that is read from its middle gives its rest.
    let from = dir.path().join("from");
    fs::write(&from, &bytes).unwrap();
    let mut source = std::fs::File::open(&from).unwrap();
    source.seek(SeekFrom::Start(50_000)).unwrap();
    options.write_from(&path, source).unwrap();
    assert!(fs::read(&path).unwrap() == bytes[50_000..]);
}

#[test]
fn a_reader_that_claims_more_than_it_was_asked_for_is_refused_and_not_believed() {
    struct Boasting;
    impl Read for Boasting {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len() + 1)
        }
    }
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    refused(WriteOptions::new().write_from(&path, Boasting), ErrorKind::Reader);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn a_reader_that_fails_publishes_nothing_and_is_named_as_the_cause() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the cable fell out"))
        }
    }
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    for good in [0, 100, 300_000] {
        let bytes = pattern(good);
        let source = (&bytes[..]).chain(Failing);
        let saved = WriteOptions::new().write_from(&path, source);
        let error = refused(saved, ErrorKind::Reader);
        let cause = error.io_error().unwrap().to_string();
        assert_eq!(cause, "the cable fell out");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(&dir), ["file"]);
    }
}

#[test]
fn a_size_limit_is_enforced_while_streaming_and_publishes_nothing() {
    let dir = dir();
    let path = dir.path().join("file");
    let limit = |bytes| WriteOptions::new().size_limit(bytes);
    for old in [None, Some("old")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let before = names(&dir);
        for allowed in [0, 1, 4096, 100_000] {
            let over = pattern(allowed + 1);
            let limit = limit(allowed as u64);
            let text = format!("{:#}", limit.clone().write(&path, &over).unwrap_err());
            assert!(text.contains(&format!("longer than the limit of {allowed} bytes")), "{text}");
            refused(limit.clone().write(&path, &over), ErrorKind::TooLarge);
            refused(limit.clone().write_from(&path, &over[..]), ErrorKind::TooLarge);
            // It would never end, were the limit only looked at afterwards.
            refused(limit.clone().write_from(&path, io::repeat(1)), ErrorKind::TooLarge);
            let mut file = limit.clone().open(&path).unwrap();
            for byte in &over {
                // The refusal may come with any of these, or with the commit.
                let _ = file.write_all(std::slice::from_ref(byte));
            }
            refused(file.commit(), ErrorKind::TooLarge);

            let mut file = limit.open(&path).unwrap();
            file.seek(SeekFrom::Start(allowed as u64)).unwrap();
            let _ = file.write_all(b"x");
            refused(file.commit(), ErrorKind::TooLarge);

            assert_eq!(names(&dir), before);
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
        }
    }
}

#[test]
fn a_size_limit_counts_the_file_and_not_the_writes() {
    let dir = dir();
    let path = dir.path().join("file");
    for allowed in [0, 1, 4096, 100_000] {
        let bytes = pattern(allowed);
        let limit = WriteOptions::new().size_limit(allowed as u64);
        limit.clone().write(&path, &bytes).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        limit.clone().write_from(&path, &bytes[..]).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        let mut file = limit.open(&path).unwrap();
        for _ in 0..3 {
            file.rewind().unwrap();
            file.write_all(&bytes).unwrap();
        }
        file.commit().unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn a_write_that_failed_poisons_the_file() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut file = WriteOptions::new().size_limit(10).open(&path).unwrap();
    file.write_all(b"12345").unwrap();
    assert!(file.write_all(&pattern(1_000_000)).is_err());
    // Even a later write that fits does not heal it.
    let _ = file.rewind();
    let _ = file.write_all(b"fits");
    let error = refused(file.commit(), ErrorKind::TooLarge);
    assert_eq!(error.path(), path);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(&dir), ["file"]);
}

fn stamp(path: &Path) -> (u64, i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.ino(), found.mtime(), found.mtime_nsec())
}

#[test]
fn skip_unchanged_keeps_inode_and_mtime_of_identical_content() {
    let dir = dir();
    let (path, link) = (dir.path().join("file"), dir.path().join("link"));
    symlink("file", &link).unwrap();
    let options = WriteOptions::new().skip_unchanged(true);
    for size in [0, 1, 4096, 300_001] {
        let bytes = pattern(size);
        fs::write(&path, &bytes).unwrap();
        let before = stamp(&path);
        for way in 0..4 {
            let committed = match way {
                0 => options.clone().write(&path, &bytes),
                1 => options.clone().write_from(&path, &bytes[..]),
                2 => options.clone().write(&link, &bytes),
                _ => {
                    let mut file = options.clone().open(&path).unwrap();
                    file.write_all(&bytes).unwrap();
                    file.commit()
                }
            }
            .unwrap();
            assert!(committed.is_unchanged(), "{size}, way {way}");
            assert_eq!(committed.durability(), best(&dir));
            assert_eq!(stamp(&path), before);
        }
        assert_eq!(names(&dir), ["file", "link"]);
    }
}

#[test]
fn skip_unchanged_saves_whatever_differs() {
    let dir = dir();
    let path = dir.path().join("file");
    let options = WriteOptions::new().skip_unchanged(true);
    let long = pattern(200_000);
    let mut last_byte = long.clone();
    *last_byte.last_mut().unwrap() ^= 1;
    let mut first_byte = long.clone();
    first_byte[0] ^= 1;
    let contents: [&[u8]; 6] = [b"", b"x", &long, &last_byte, &first_byte, &long[..199_999]];
    for before in contents {
        for after in contents.iter().filter(|after| **after != before) {
            for streamed in [false, true] {
                fs::write(&path, before).unwrap();
                let old = stamp(&path).0;
                let committed = if streamed {
                    let mut file = options.clone().open(&path).unwrap();
                    file.write_all(after).unwrap();
                    file.commit().unwrap()
                } else {
                    options.clone().write(&path, after).unwrap()
                };
                assert!(!committed.is_unchanged());
                assert!(fs::read(&path).unwrap() == *after);
                assert_ne!(stamp(&path).0, old, "it must not be changed in place");
            }
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(!options.write(&path, "").unwrap().is_unchanged());
    assert_eq!(names(&dir), ["file"]);
}

fn document() -> BTreeMap<String, Vec<Option<f64>>> {
    (0..500).map(|n| (format!("key \"{n}\" é\n"), vec![None, Some(n as f64 / 3.0)])).collect()
}

#[test]
fn json_is_saved_as_serde_json_writes_it() {
    let dir = dir();
    let path = dir.path().join("file.json");
    let value = document();
    durafile::write_json(&path, &value).unwrap();
    assert!(fs::read(&path).unwrap() == serde_json::to_vec(&value).unwrap());
    let pretty = WriteOptions::new().pretty(true);
    pretty.write_json(&path, &value).unwrap();
    assert!(fs::read(&path).unwrap() == serde_json::to_vec_pretty(&value).unwrap());
    for edge in [serde_json::json!(null), serde_json::json!({}), serde_json::json!("")] {
        durafile::write_json(&path, &edge).unwrap();
        assert_eq!(fs::read(&path).unwrap(), serde_json::to_vec(&edge).unwrap());
    }
    let again = WriteOptions::new().skip_unchanged(true);
    let committed = again.write_json(&path, &serde_json::json!("")).unwrap();
    assert!(committed.is_unchanged());
}

#[test]
fn json_that_cannot_be_written_publishes_nothing() {
    let dir = dir();
    let path = dir.path().join("file.json");
    fs::write(&path, "old").unwrap();
    // Only strings and numbers can be keys in JSON; the first entry is written before it shows.
    let broken: Vec<BTreeMap<Vec<u8>, u8>> = vec![BTreeMap::new(), BTreeMap::from([(vec![1, 2], 3)])];
    let error = refused(durafile::write_json(&path, &broken), ErrorKind::Serialize);
    assert!(std::error::Error::source(&error).is_some());

    // A limit met inside the serialiser keeps its own kind.
    let limit = WriteOptions::new().size_limit(1000);
    let error = refused(limit.write_json(&path, &document()), ErrorKind::TooLarge);
    assert_eq!(error.target(), TargetState::Unchanged);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(&dir), ["file.json"]);
}

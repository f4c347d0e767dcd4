//! Judging a file whose overwriting was interrupted, and writing its old content back.

use std::io;

use crate::journal::checksum::Checksum;
use crate::journal::encoding::{self, Unusable};
use crate::overwrite::record::{CHUNK, SECTOR, UndoRecord, within};
use crate::sys::{self, File};

/// An undo copy, open.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) record: UndoRecord,
    pub(super) file: File,
    /// Where the old content begins in it.
    content_at: u64,
}

impl Undo {
    pub(super) fn read(file: File) -> io::Result<Result<Undo, Unusable>> {
        let (record, content_at) = encoding::read_leading(&file)?;
        Ok(UndoRecord::decode(&record).map(|record| Undo { record, file, content_at }))
    }

    /// Is the old content there, and whole?
    pub(super) fn is_sound(&self) -> io::Result<bool> {
        let mut sum = Checksum::new();
        self.each_chunk(|_, old| {
            sum.add(old);
            Ok(())
        })?;
        let is_whole = sum.len() == self.record.old_len && sum.value() == self.record.old_sum;
        Ok(is_whole && self.file.stat()?.size == self.content_at.saturating_add(self.record.old_len))
    }

    /// Can the save that this copy is of have left the file so? Each piece of it is the old or the new one. Beyond the
    /// end of the shorter content there may also be zeros: the file has its new length there, and not yet what belongs
    /// there.
    pub(super) fn explains(&self, file: &File) -> io::Result<bool> {
        let (record, len) = (&self.record, file.stat()?.size);
        if !is_length_between(record, len) {
            return Ok(false);
        }
        let (mut now, mut old) = (vec![0; CHUNK as usize], vec![0; CHUNK as usize]);
        let (shorter, mut number, mut at) = (record.old_len.min(record.new_len), 0, 0);
        while at < len {
            let end = len.min(at + CHUNK);
            let size = (end - at) as usize;
            let (now, old) =
                (now.get_mut(..size).unwrap_or_default(), old.get_mut(..size).unwrap_or_default());
            if file.read_full(now, at)? < size {
                return Ok(false);
            }
            self.read_old(old, at)?;
            for piece in record.pieces(at..end) {
                let (now, old) = (within(now, at, &piece), within(old, at, &piece));
                let is_gap = piece.start >= shorter && now.iter().all(|&byte| byte == 0);
                if now != old && !is_gap && !record.is_new(number, piece.end, now) {
                    return Ok(false);
                }
                number += 1;
            }
            at = end;
        }
        Ok(true)
    }

    /// Writes the old content back. Every block is written, though it may look right: after a failed sync what reads
    /// right need not be on the disk. Makes it durable.
    pub(super) fn restore(&self, file: &File) -> io::Result<()> {
        self.each_chunk(|at, old| file.write_full(old, at))?;
        let now = file.stat()?;
        if now.size != self.record.old_len {
            file.truncate(self.record.old_len)?;
        }
        if now.mode != self.record.mode {
            match file.set_mode(self.record.mode) {
                // It was not this save that changed it: only the file's owner may.
                Err(e) if sys::is_denied(&e) => {}
                set => set?,
            }
        }
        file.sync()
    }

    /// The old content, zeros beyond its end.
    fn read_old(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let left = self.record.old_len.saturating_sub(at).min(into.len() as u64) as usize;
        let (old, beyond) = into.split_at_mut(left);
        beyond.fill(0);
        match self.file.read_full(old, self.content_at + at)? < left {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }

    /// Passes the old content on, as far as it is there.
    fn each_chunk(&self, mut pass: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut chunk, mut at) = (vec![0; CHUNK as usize], 0);
        while at < self.record.old_len {
            let size = (self.record.old_len - at).min(CHUNK) as usize;
            let wanted = chunk.get_mut(..size).unwrap_or_default();
            let read = self.file.read_full(wanted, self.content_at + at)?;
            let old = wanted.get(..read).unwrap_or_default();
            if old.is_empty() {
                return Ok(());
            }
            pass(at, old)?;
            at += read as u64;
        }
        Ok(())
    }
}

/// A file that grows or shrinks may have any length between, in whole sectors.
fn is_length_between(record: &UndoRecord, len: u64) -> bool {
    let (old, new) = (record.old_len, record.new_len);
    len == old || len == new || (old.min(new)..old.max(new)).contains(&len) && len % SECTOR == 0
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::overwrite::record::sums_of;
    use crate::sys::Dir;

    /// Sectors that differ from each other and from zeros.
    fn content(first: u8, len: u64) -> Vec<u8> {
        (0..len).map(|at| first + (at / SECTOR) as u8).collect()
    }

    struct Scene {
        undo: Undo,
        file: File,
        old: Vec<u8>,
        new: Vec<u8>,
        _home: tempfile::TempDir,
    }

    impl Scene {
        fn new(old_len: u64, new_len: u64) -> Scene {
            let home = tempfile::tempdir().unwrap();
            let dir = Dir::open(home.path()).unwrap();
            let create = |name: &str| dir.create_new(name.as_ref(), 0o600).unwrap();
            let (copy, file, staged) = (create("copy"), create("file"), create("staged"));
            let (old, new) = (content(1, old_len), content(101, new_len));
            staged.write_full(&new, 0).unwrap();
            let record = UndoRecord {
                target: "file".into(),
                ino: 0,
                mode: 0o600,
                is_mount_point: false,
                old_len,
                old_sum: Checksum::of(&old),
                new_len,
                new_sums: sums_of(&staged, new_len, old_len).unwrap(),
            };
            copy.write_full(&[record.encode(), old.clone()].concat(), 0).unwrap();
            let undo = Undo::read(copy).unwrap().unwrap();
            assert!(undo.is_sound().unwrap());
            Scene { undo, file, old, new, _home: home }
        }

        fn holds(&self, content: &[u8]) {
            self.file.write_full(content, 0).unwrap();
            self.file.truncate(content.len() as u64).unwrap();
        }

        /// Every content of this length whose pieces are old, new or, beyond the shorter one, zeros.
        fn mixtures(&self, len: u64) -> Vec<Vec<u8>> {
            let shorter = self.undo.record.old_len.min(self.undo.record.new_len);
            let mut all = vec![Vec::new()];
            for piece in self.undo.record.pieces(0..len) {
                let part = |of: &[u8]| of.get(usize_range(&piece)).map(<[u8]>::to_vec);
                let gap = (piece.start >= shorter).then(|| vec![0; usize_range(&piece).len()]);
                let parts: Vec<_> = [part(&self.old), part(&self.new), gap].into_iter().flatten().collect();
                all =
                    all.iter().flat_map(|head| parts.iter().map(|part| [&head[..], part].concat())).collect();
            }
            all
        }
    }

    fn usize_range(range: &Range<u64>) -> Range<usize> {
        range.start as usize..range.end as usize
    }

    const LENGTHS: [u64; 6] = [0, 20, 512, 700, 1024, 1500];

    /// Whatever sectors of either content a crash leaves, in whatever length, is taken for what it is; and with one
    /// byte changed it is not.
    #[test]
    fn each_subset_of_sectors_is_explained_and_no_later_save_is() {
        for (old_len, new_len) in LENGTHS.into_iter().flat_map(|old| LENGTHS.map(|new| (old, new))) {
            let scene = Scene::new(old_len, new_len);
            let between = (0..=1500).filter(|len| is_length_between(&scene.undo.record, *len));
            for len in between.collect::<Vec<_>>() {
                for mut mixture in scene.mixtures(len) {
                    let what = || format!("{old_len} to {new_len}, at {len}");
                    scene.holds(&mixture);
                    assert!(scene.undo.explains(&scene.file).unwrap(), "{}", what());
                    if let Some(byte) = mixture.get_mut(len as usize / 2) {
                        *byte = 250;
                        scene.holds(&mixture);
                        assert!(!scene.undo.explains(&scene.file).unwrap(), "{}, changed", what());
                    }
                }
                scene.undo.restore(&scene.file).unwrap();
                let mut now = vec![0; 2000];
                let read = scene.file.read_full(&mut now, 0).unwrap();
                assert_eq!(now[..read], scene.old, "{old_len} to {new_len}, from {len}");
            }
        }
    }

    #[test]
    fn a_length_that_no_crash_leaves_is_a_later_save() {
        let scene = Scene::new(700, 1500);
        for len in [0, 512, 699, 701, 1023, 1025, 1499, 1501, 5000] {
            scene.holds(&content(101, len));
            assert!(!scene.undo.explains(&scene.file).unwrap(), "{len}");
        }
        scene.holds(&scene.new);
        assert!(scene.undo.explains(&scene.file).unwrap());
    }

    #[test]
    fn a_damaged_copy_is_told() {
        let Scene { undo, old, .. } = Scene::new(700, 20);
        let last = undo.content_at + 699;
        undo.file.write_full(&[old[699] ^ 1], last).unwrap();
        assert!(!undo.is_sound().unwrap(), "a bit");
        undo.file.write_full(&[old[699]], last).unwrap();
        assert!(undo.is_sound().unwrap());
        undo.file.truncate(last).unwrap();
        assert!(!undo.is_sound().unwrap(), "too short");
    }
}

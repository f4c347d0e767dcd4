//! Recordings that arrive in pieces.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use durafile::{CancelToken, WriteOptions};

use crate::audio::head::Head;
use crate::failure::{Failure, Outcome};
use crate::item::Held;
use crate::layout::{Layout, RecordingId};

/// The largest piece.
pub(crate) const MAX_BYTES: u64 = 256 << 10;
/// More of them are no recording.
pub(crate) const MAX_CHUNKS: u32 = 100_000;

/// Those that are not there, of the first `count`: the first few.
pub(crate) fn missing(layout: &Layout, id: &RecordingId, count: u32) -> Outcome<Vec<u32>> {
    let mut missing = Vec::new();
    for number in 0..count {
        if !crate::item::exists(&layout.chunk(id, number))? {
            missing.push(number);
            if missing.len() == 10 {
                break;
            }
        }
    }
    Ok(missing)
}

/// Puts the pieces together, in constant memory, as a recording that was not there before.
pub(crate) fn assemble(
    layout: &Layout,
    id: &RecordingId,
    count: u32,
    size_limit: u64,
    cancel: &CancelToken,
) -> durafile::Result<()> {
    let paths = (0..count).map(|number| layout.chunk(id, number));
    let options = WriteOptions::new().create_new(true).size_limit(size_limit).cancel(cancel);
    options.write_from(layout.waiting(id), Pieces { paths, open: None }).map(drop)
}

/// Refuses pieces that can't be a WAV file together, by their first bytes.
pub(crate) fn check_head(layout: &Layout, id: &RecordingId, count: u32) -> Outcome {
    let paths = (0..count).map(|number| layout.chunk(id, number));
    let mut pieces = Pieces { paths, open: None };
    let (mut head, mut piece) = (Head::default(), [0; 16]);
    loop {
        match pieces.read(&mut piece).map_err(Failure::Disk)? {
            0 => return head.end(),
            len => head.add(piece.get(..len).unwrap_or_default())?,
        }
        if head.is_complete() {
            return Ok(());
        }
    }
}

/// The pieces one after the other.
struct Pieces<I> {
    paths: I,
    open: Option<fs_err::File>,
}

impl<I: Iterator<Item = PathBuf>> Read for Pieces<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                match file.read(buf)? {
                    0 => self.open = None,
                    len => return Ok(len),
                }
            }
            match self.paths.next() {
                Some(path) => self.open = Some(fs_err::File::open(path)?),
                None => return Ok(0),
            }
        }
    }
}

pub(crate) fn remove(layout: &Layout, id: &RecordingId) -> Outcome {
    match fs_err::remove_dir_all(layout.chunk_set(id)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::Disk(e)),
        _ => Ok(()),
    }
}

/// Removes the sets to which nothing was added for so long.
pub(crate) fn sweep(layout: &Layout, max_age: Duration) -> Outcome {
    for id in layout.in_chunks()? {
        if !is_older(layout, &id, max_age)? {
            continue;
        }
        // Whoever puts the pieces together holds the lock of the recording.
        if let Some(_held) = Held::try_take(layout.lock(&id))? {
            if is_older(layout, &id, max_age)? {
                remove(layout, &id)?;
                tracing::info!(%id, "removed chunks that were never put together");
            }
        }
    }
    Ok(())
}

/// Each new piece, and each that is sent again, changes the directory.
fn is_older(layout: &Layout, id: &RecordingId, max_age: Duration) -> Outcome<bool> {
    let changed = match fs_err::metadata(layout.chunk_set(id)).and_then(|found| found.modified()) {
        Ok(changed) => changed,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Failure::Disk(e)),
    };
    Ok(SystemTime::now().duration_since(changed).is_ok_and(|age| age > max_age))
}

//! A recording in a file, so that one state of it can be tried again.
//!
//! A line of text, then the pages of the disk at the beginning, then the entries.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::device::disk::{Disk, PAGE};
use crate::device::recording::{Entry, Recording};

const MAGIC: &[u8; 8] = b"powercut";
const END: u64 = u64::MAX;

pub fn save(recording: &Recording, about: &str, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(MAGIC)?;
    bytes(&mut out, about.as_bytes())?;
    number(&mut out, recording.unit as u64)?;
    number(&mut out, recording.base.size())?;
    for (offset, page) in recording.base.written() {
        number(&mut out, offset)?;
        out.write_all(page)?;
    }
    number(&mut out, END)?;
    for entry in &recording.log {
        match entry {
            Entry::Write { offset, data } => {
                number(&mut out, 1)?;
                number(&mut out, *offset)?;
                bytes(&mut out, data)?;
            }
            Entry::Zero { offset, length } => {
                number(&mut out, 2)?;
                number(&mut out, *offset)?;
                number(&mut out, *length)?;
            }
            Entry::Flush { covers } => {
                number(&mut out, 3)?;
                number(&mut out, *covers as u64)?;
            }
            Entry::Mark(text) => {
                number(&mut out, 4)?;
                bytes(&mut out, text.as_bytes())?;
            }
        }
    }
    number(&mut out, END)?;
    out.into_inner()?.sync_all()
}

pub fn load(path: &Path) -> io::Result<(Recording, String)> {
    let mut from = BufReader::new(File::open(path)?);
    let mut magic = [0; 8];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a recording of this rig"));
    }
    let about = text(&mut from)?;
    let unit = take(&mut from)? as usize;
    let mut base = Disk::new(take(&mut from)?);
    let mut page = [0; PAGE];
    loop {
        match take(&mut from)? {
            END => break,
            offset => from.read_exact(&mut page).map(|()| base.write(offset, &page))?,
        }
    }
    let mut recording = Recording::new(base, unit);
    loop {
        recording.log.push(match take(&mut from)? {
            1 => {
                let offset = take(&mut from)?;
                let mut data = vec![0; take(&mut from)? as usize];
                from.read_exact(&mut data)?;
                Entry::Write { offset, data: data.into() }
            }
            2 => Entry::Zero { offset: take(&mut from)?, length: take(&mut from)? },
            3 => Entry::Flush { covers: take(&mut from)? as usize },
            4 => Entry::Mark(text(&mut from)?),
            _ => return Ok((recording, about)),
        });
    }
}

fn number(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn bytes(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    number(out, data.len() as u64)?;
    out.write_all(data)
}

fn take(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn text(from: &mut impl Read) -> io::Result<String> {
    let mut bytes = vec![0; take(from)? as usize];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

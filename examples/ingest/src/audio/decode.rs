//! Reads a WAV file from its beginning to its end, once, in constant memory but for the blocks.

// The errors of `fs_err` have no number, and it is needed here.
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{BLOCKS_PER_SECOND, Block, Signal};
use crate::failure::{Failure, Invalid, Outcome};
use crate::stage::Watch;

const MIN_BYTES: u64 = 100;
const MIN_SECONDS: u64 = 1;
const MAX_SECONDS: u64 = 2 * 60 * 60;
/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// The SHA-256 of the file, in hexadecimal digits. A file that can't be a recording is refused here.
pub(crate) fn identify(path: &Path, watch: &Watch) -> Outcome<String> {
    // Before it is opened: a FIFO would keep us waiting.
    let found = fs::metadata(path).map_err(|e| unreadable(path, e))?;
    if !found.is_file() {
        return Err(Failure::Invalid(Invalid::NotWav, None));
    }
    let mut file = fs::File::open(path).map_err(|e| unreadable(path, e))?;
    if found.len() < MIN_BYTES {
        return Err(Failure::Invalid(Invalid::TooSmall, None));
    }
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        watch.check()?;
        match file.read(&mut chunk).map_err(|e| unreadable(path, e))? {
            0 => break,
            len => digest.update(chunk.get(..len).unwrap_or_default()),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Decodes every sample; a file that is cut off is refused.
pub(crate) fn decode(path: &Path, watch: &Watch) -> Outcome<Signal> {
    let refused = |e| refused(path, e);
    let file = fs::File::open(path).map_err(|e| unreadable(path, e))?;
    let mut reader = WavReader::new(BufReader::with_capacity(CHUNK, file)).map_err(refused)?;
    let spec = reader.spec();
    if spec.sample_rate == 0 || spec.channels == 0 {
        return Err(Failure::Invalid(Invalid::NotWav, None));
    }
    let mut meter = Meter::new(spec);
    match spec.sample_format {
        SampleFormat::Float => {
            for sample in reader.samples::<f32>() {
                // Damaged files have samples that are no numbers.
                let sample = sample.map_err(refused)?;
                meter.add(if sample.is_finite() { sample } else { 0.0 }, watch)?;
            }
        }
        SampleFormat::Int => {
            let full_scale = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            for sample in reader.samples::<i32>() {
                meter.add(sample.map_err(refused)? as f32 / full_scale, watch)?;
            }
        }
    }
    meter.finish()
}

fn refused(path: &Path, e: hound::Error) -> Failure {
    match e {
        // The end that comes too early is another one of these.
        hound::Error::IoError(io) if io.raw_os_error().is_some() => unreadable(path, io),
        other => Failure::Invalid(Invalid::NotWav, Some(other)),
    }
}

/// Whose fault it is: of this file, of which a block is damaged or which leads nowhere, or of the machine.
fn unreadable(path: &Path, e: io::Error) -> Failure {
    let leads_nowhere = || matches!(e.kind(), io::ErrorKind::NotFound) && path.is_symlink();
    match Errno::from_io_error(&e) {
        Some(Errno::IO | Errno::LOOP) => Failure::Input(e),
        _ if leads_nowhere() => Failure::Input(e),
        _ => Failure::Disk(e),
    }
}

/// Sums samples up into blocks.
struct Meter {
    spec: WavSpec,
    channel: u16,
    frames: u64,
    /// The frame at which the present block ends.
    block_end: u64,
    block: Block,
    samples: u32,
    sum: f64,
    blocks: Vec<Block>,
}

impl Meter {
    fn new(spec: WavSpec) -> Meter {
        let mut meter = Meter {
            spec,
            channel: 0,
            frames: 0,
            block_end: 0,
            block: Block::default(),
            samples: 0,
            sum: 0.0,
            blocks: Vec::new(),
        };
        meter.block_end = meter.end_of(0);
        meter
    }

    /// Where the block of this number ends; a hundred of them make exactly one second.
    fn end_of(&self, block: u64) -> u64 {
        ((block + 1) * u64::from(self.spec.sample_rate)).div_ceil(BLOCKS_PER_SECOND)
    }

    fn add(&mut self, sample: f32, watch: &Watch) -> Outcome {
        if self.samples == 0 {
            self.block = Block { min: sample, max: sample, power: 0.0 };
        }
        self.block.min = self.block.min.min(sample);
        self.block.max = self.block.max.max(sample);
        self.sum += f64::from(sample) * f64::from(sample);
        self.samples += 1;
        self.channel += 1;
        if self.channel < self.spec.channels {
            return Ok(());
        }
        self.channel = 0;
        self.frames += 1;
        while self.frames >= self.block_end {
            self.end_block();
            watch.check()?;
            if self.frames > MAX_SECONDS * u64::from(self.spec.sample_rate) {
                return Err(Failure::Invalid(Invalid::TooLong, None));
            }
        }
        Ok(())
    }

    /// Below 100 Hz a block may have no sample of its own: it repeats the last.
    fn end_block(&mut self) {
        if self.samples > 0 {
            self.block.power = (self.sum / f64::from(self.samples)) as f32;
        }
        self.blocks.push(self.block);
        (self.samples, self.sum) = (0, 0.0);
        self.block_end = self.end_of(self.blocks.len() as u64);
    }

    fn finish(mut self) -> Outcome<Signal> {
        if self.frames < MIN_SECONDS * u64::from(self.spec.sample_rate) {
            return Err(Failure::Invalid(Invalid::TooShort, None));
        }
        if self.frames > MAX_SECONDS * u64::from(self.spec.sample_rate) {
            return Err(Failure::Invalid(Invalid::TooLong, None));
        }
        if self.samples > 0 {
            self.end_block();
        }
        Ok(Signal {
            sample_rate: self.spec.sample_rate,
            channels: self.spec.channels,
            bits_per_sample: self.spec.bits_per_sample,
            float: self.spec.sample_format == SampleFormat::Float,
            frames: self.frames,
            blocks: self.blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::failure::Remedy;

    #[test]
    fn only_a_damaged_recording_is_to_blame_itself() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("recording");
        let gone = unreadable(&path, Errno::NOENT.into());
        assert_eq!((gone.kind(), gone.remedy()), ("not_found", Remedy::Wait), "the disk has vanished");
        for machine in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::STALE] {
            assert_eq!(unreadable(&path, machine.into()).remedy(), Remedy::Wait, "{machine:?}");
        }
        for damage in [Errno::IO, Errno::LOOP] {
            assert_eq!(unreadable(&path, damage.into()).kind(), "unreadable", "{damage:?}");
        }
        let within = |e: io::Error| refused(&path, hound::Error::IoError(e));
        assert_eq!(within(Errno::IO.into()).kind(), "unreadable");
        assert_eq!(within(Errno::MFILE.into()).remedy(), Remedy::Wait);
        assert_eq!(within(io::ErrorKind::UnexpectedEof.into()).kind(), "not_a_wav");
        symlink("nowhere", &path).unwrap();
        assert_eq!(unreadable(&path, Errno::NOENT.into()).kind(), "unreadable");
    }
}

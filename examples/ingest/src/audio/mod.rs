//! From a WAV file to levels, silences and a picture.

pub(crate) mod analysis;
pub(crate) mod decode;
pub(crate) mod head;
pub(crate) mod picture;

/// Blocks in a second. What is kept of the samples is one block for each 10 ms.
pub(crate) const BLOCKS_PER_SECOND: u64 = 100;

/// Ten milliseconds, over all channels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Block {
    pub(crate) min: f32,
    pub(crate) max: f32,
    /// The mean of the squares.
    pub(crate) power: f32,
}

/// A recording, decoded and made small: two hours take less than 9 MB, whatever the sample rate.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) sample_rate: u32,
    pub(crate) channels: u16,
    pub(crate) bits_per_sample: u16,
    pub(crate) float: bool,
    /// Samples in each channel.
    pub(crate) frames: u64,
    pub(crate) blocks: Vec<Block>,
}

impl Signal {
    pub(crate) fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.sample_rate)
    }
}

/// Decibels below full scale; digital silence has a floor, for JSON knows no infinity.
pub(crate) fn dbfs_of_power(power: f64) -> f64 {
    const FLOOR: f64 = -120.0;
    let db = if power > 0.0 { (10.0 * power.log10()).max(FLOOR) } else { FLOOR };
    // Full scale is 0.0: what rounds to it from below must not be written as -0.0.
    (db * 100.0).round() / 100.0 + 0.0
}

//! Levels, loudness by the second, and silent spans.

use serde::{Deserialize, Serialize};

use super::{BLOCKS_PER_SECOND, Block, Signal, dbfs_of_power};
use crate::failure::Outcome;
use crate::stage::Watch;

/// What is quieter is silence.
const SILENT_DBFS: f64 = -50.0;
/// Shorter pauses belong to speech.
const MIN_SILENT_SECONDS: f64 = 0.5;

/// The content of `result.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    pub(crate) sha256: String,
    pub(crate) duration_seconds: f64,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u16,
    pub(crate) bits_per_sample: u16,
    pub(crate) float: bool,
    pub(crate) levels: Levels,
    /// The level of each second, in dBFS (RMS).
    pub(crate) loudness_per_second: Vec<f64>,
    pub(crate) silence: Silence,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Levels {
    pub(crate) peak_dbfs: f64,
    pub(crate) rms_dbfs: f64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Silence {
    pub(crate) threshold_dbfs: f64,
    pub(crate) min_seconds: f64,
    pub(crate) total_seconds: f64,
    pub(crate) spans: Vec<Span>,
}

/// In seconds from the beginning.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

pub(crate) fn analyse(signal: &Signal, sha256: &str, watch: &Watch) -> Outcome<Report> {
    let peak = signal.blocks.iter().map(|b| f64::from(b.max.abs().max(b.min.abs()))).fold(0.0, f64::max);
    watch.check()?;
    let mut loudness_per_second = Vec::new();
    for second in signal.blocks.chunks(BLOCKS_PER_SECOND as usize) {
        watch.check()?;
        loudness_per_second.push(dbfs_of_power(mean_power(second)));
    }
    let spans = silent_spans(&signal.blocks, signal.seconds());
    Ok(Report {
        sha256: sha256.to_owned(),
        duration_seconds: signal.seconds(),
        sample_rate: signal.sample_rate,
        channels: signal.channels,
        bits_per_sample: signal.bits_per_sample,
        float: signal.float,
        levels: Levels {
            peak_dbfs: dbfs_of_power(peak * peak),
            rms_dbfs: dbfs_of_power(mean_power(&signal.blocks)),
        },
        loudness_per_second,
        silence: Silence {
            threshold_dbfs: SILENT_DBFS,
            min_seconds: MIN_SILENT_SECONDS,
            // The sum of nothing is -0.0.
            total_seconds: spans.iter().fold(0.0, |sum, span| sum + span.end - span.start),
            spans,
        },
    })
}

fn mean_power(blocks: &[Block]) -> f64 {
    let sum: f64 = blocks.iter().map(|block| f64::from(block.power)).sum();
    if blocks.is_empty() { 0.0 } else { sum / blocks.len() as f64 }
}

fn silent_spans(blocks: &[Block], end: f64) -> Vec<Span> {
    let limit = 10f64.powf(SILENT_DBFS / 10.0);
    let at = |block: usize| (block as f64 / BLOCKS_PER_SECOND as f64).min(end);
    let (mut spans, mut began) = (Vec::new(), None);
    let silences = blocks.iter().map(|block| f64::from(block.power) < limit);
    // One more that is loud ends a silence at the end.
    for (index, silent) in silences.chain([false]).enumerate() {
        match (began, silent) {
            (None, true) => began = Some(index),
            (Some(first), false) => {
                let span = Span { start: at(first), end: at(index) };
                if span.end - span.start >= MIN_SILENT_SECONDS {
                    spans.push(span);
                }
                began = None;
            }
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(levels: &[(usize, f32)]) -> Vec<Block> {
        let block = |level: f32| Block { min: -level, max: level, power: level * level };
        levels.iter().flat_map(|(count, level)| vec![block(*level); *count]).collect()
    }

    #[test]
    fn silences_are_found_at_the_beginning_in_the_middle_and_at_the_end() {
        let levels = [(60, 0.0), (100, 0.5), (49, 0.0), (10, 0.5), (100, 0.001), (1, 0.5), (50, 0.0)];
        let blocks = blocks(&levels);
        let found = silent_spans(&blocks, blocks.len() as f64 / 100.0);
        let wanted = [(0.0, 0.6), (2.19, 3.19), (3.2, 3.7)];
        assert_eq!(found, wanted.map(|(start, end)| Span { start, end }));
    }

    #[test]
    fn levels_have_a_floor_and_a_ceiling() {
        assert_eq!(dbfs_of_power(0.0), -120.0);
        assert_eq!(dbfs_of_power(1.0), 0.0);
        assert_eq!(dbfs_of_power(0.25), -6.02);
        assert!(dbfs_of_power(0.9999).is_sign_positive(), "zero has no sign");
    }
}

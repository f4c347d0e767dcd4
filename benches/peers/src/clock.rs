//! Rounds in which everybody has a turn, and what is made of their times.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::ground::Ground;

/// What one method took, in all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    pub(crate) taken: Vec<Duration>,
    pub(crate) flushes: Vec<u64>,
}

impl Times {
    /// Times `job`, and counts the flushes that the device got meanwhile.
    pub(crate) fn measure(&mut self, ground: &Ground, job: impl FnOnce() -> Outcome) -> Outcome {
        let before = ground.device_flushes();
        let start = Instant::now();
        job()?;
        self.taken.push(start.elapsed());
        if let (Some(before), Some(after)) = (before, ground.device_flushes()) {
            self.flushes.push(after - before);
        }
        Ok(())
    }

    pub(crate) fn median(&self) -> Duration {
        middle(&self.taken).unwrap_or_default()
    }

    /// The median; `None` where the device doesn't count, or others use it too.
    pub(crate) fn median_flushes(&self) -> Option<u64> {
        middle(&self.flushes)
    }

    /// How often this fits into the time of `base`.
    pub(crate) fn speed(&self, base: &Times) -> f64 {
        base.median().div_duration_f64(self.median())
    }

    /// The same by the fastest round of each: what a busy machine disturbs least.
    pub(crate) fn best_speed(&self, base: &Times) -> f64 {
        let best = |times: &Times| times.taken.iter().min().copied().unwrap_or_default();
        best(base).div_duration_f64(best(self))
    }

    /// Half of the rounds lie between these two, as ratios to `base` in the same round.
    pub(crate) fn speed_spread(&self, base: &Times) -> (f64, f64) {
        let mut ratios: Vec<f64> =
            self.taken.iter().zip(&base.taken).map(|(own, base)| base.div_duration_f64(*own)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| ratios.get(ratios.len() * quarter / 4).copied().unwrap_or_default();
        (at(1), at(3))
    }
}

fn middle<T: Copy + Ord>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// A new order for each round, so that nobody always comes after the same neighbour. The same in
/// each run.
#[derive(Debug)]
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            order.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
        order
    }
}

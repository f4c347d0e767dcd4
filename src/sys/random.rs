//! Random bits for names.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// 128 bits that nobody can predict. On Linux the kernel is asked each time, so that a forked child, which has
/// a copy of all that this process knows, gets others.
pub(crate) fn random_bits() -> u128 {
    #[cfg(target_os = "linux")]
    if let Some(bits) = bits_of_the_kernel() {
        return bits;
    }
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    hashed(std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed), now.as_nanos())
}

/// Random bits from the kernel, without ever waiting for them. None where a sandbox or an old kernel refuses, or the
/// system has only just started.
#[cfg(target_os = "linux")]
fn bits_of_the_kernel() -> Option<u128> {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bits = [0; size_of::<u128>()];
    let got = super::unix::retry(|| getrandom(&mut bits, GetRandomFlags::NONBLOCK)).ok()?;
    (got == bits.len()).then_some(u128::from_ne_bytes(bits))
}

/// SipHash under keys from the operating system, which are asked for once.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Asks for the keys, so that every save after the first makes the same system calls.
pub(crate) fn prepare_random_bits() {
    LazyLock::force(&KEYS);
}

/// New for each input. A forked child has the keys and the counter of its parent, but not its number.
fn hashed(process: u32, count: u64, now: u128) -> u128 {
    let half = |number: u8| {
        let mut hasher = KEYS.build_hasher();
        hasher.write_u8(number);
        hasher.write_u32(process);
        hasher.write_u64(count);
        hasher.write_u128(now);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_kernel_a_forked_child_gets_other_bits_and_so_does_the_next_call() {
        let bits = [hashed(1, 0, 7), hashed(2, 0, 7), hashed(1, 1, 7), hashed(1, 0, 8)];
        let halves: std::collections::HashSet<u64> =
            bits.iter().flat_map(|&bits| [bits as u64, (bits >> 64) as u64]).collect();
        assert_eq!(halves.len(), 8);
    }
}

//! Sizes as people write them.

/// A number of bytes, with a unit or without: `5000`, `64KiB`, `3 MB`, `1.5GB`. Units count in thousands;
/// those with an `i` count in 1024s, as do the bare letters `K`, `M`, `G`, `T` (as in `head -c` and `dd`).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number of bytes, such as 5000, 64KiB or 3MB".to_owned();
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor(unit.trim()).ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    // Exact where a float would not be: 1.5GB is 1500000000.
    let places = u32::try_from(part.len()).ok().filter(|places| *places <= 12).ok_or_else(wrong)?;
    let part: u64 = part.parse().map_err(|_| wrong())?;
    let part = u128::from(part) * u128::from(factor) / 10u128.pow(places);
    let bytes = u128::from(whole) * u128::from(factor) + part;
    u64::try_from(bytes).map_err(|_| "that is more than any file can hold".to_owned())
}

fn factor(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    })
}

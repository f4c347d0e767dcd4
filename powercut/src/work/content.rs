//! What the workloads save: each version of each file has its own bytes, and says which it is.

use std::fs;
use std::path::Path;

use crate::random::Random;

/// From inline to many extents, and odd.
const LENGTHS: [usize; 9] = [40, 700, 3_000, 4_096, 5_001, 12_000, 30_000, 70_001, 200_000];

pub fn of(version: u32, name: &str) -> Vec<u8> {
    let mut random = Random::named(u64::from(version), name);
    let length = LENGTHS[random.below(LENGTHS.len() as u64) as usize];
    let mut content = format!("version {version} of {name}\n").into_bytes();
    // Never zero: a hole is not mistaken for content.
    content.extend((0..length).map(|_| (random.below(255) + 1) as u8));
    content
}

/// The same as JSON: what `write_json` makes of `json_value`.
pub fn json_of(version: u32, name: &str) -> Vec<u8> {
    let (version, name, text) = json_value(version, name);
    format!("[{version},\"{name}\",\"{text}\"]").into_bytes()
}

pub fn json_value(version: u32, name: &str) -> (u32, String, String) {
    let mut random = Random::named(u64::from(version), name);
    let length = LENGTHS[random.below(LENGTHS.len() as u64) as usize];
    let text = (0..length).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
    (version, name.to_owned(), text)
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Missing,
    Complete(u32),
    Torn(String),
}

pub fn find(path: &Path, name: &str) -> Found {
    find_as(path, name, of, |data| {
        let line = data.split(|byte| *byte == b'\n').next()?;
        std::str::from_utf8(line).ok()?.strip_prefix("version ")?.split(' ').next()?.parse().ok()
    })
}

pub fn find_json(path: &Path, name: &str) -> Found {
    find_as(path, name, json_of, |data| {
        let number = data.strip_prefix(b"[")?.split(|byte| *byte == b',').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    })
}

fn find_as(
    path: &Path,
    name: &str,
    content: impl Fn(u32, &str) -> Vec<u8>,
    version: impl Fn(&[u8]) -> Option<u32>,
) -> Found {
    let data = match fs::read(path) {
        Ok(data) => data,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Missing,
        Err(e) => return Found::Torn(e.to_string()),
    };
    match version(&data) {
        Some(version) if content(version, name) == data => Found::Complete(version),
        Some(version) => Found::Torn(format!("{} bytes, broken, of version {version}", data.len())),
        None if data.iter().all(|byte| *byte == 0) => Found::Torn(format!("{} bytes of zeros", data.len())),
        None => Found::Torn(format!("{} bytes of nothing known", data.len())),
    }
}

//! Where everything is, and the only way from a name that came from outside to a path.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// The name of a recording: lower-case letters, digits and inner hyphens, 80 at most. Whoever has
/// one can make a path of it without looking again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct RecordingId(String);

impl RecordingId {
    const MAX: usize = 80;

    pub(crate) fn parse(text: &str) -> Option<RecordingId> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        let fits = !text.is_empty() && text.len() <= Self::MAX;
        (fits && edges && text.chars().all(plain)).then(|| RecordingId(text.to_owned()))
    }

    /// A new one that reminds of `name`. Nothing of `name` but letters and digits gets into it.
    pub(crate) fn for_name(name: &str) -> RecordingId {
        let stem = name.strip_suffix(".wav").unwrap_or(name);
        let mut slug = String::new();
        for c in stem.chars().flat_map(char::to_lowercase) {
            if slug.len() >= 40 {
                break;
            }
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug = slug.trim_end_matches('-');
        let slug = if slug.is_empty() { "recording" } else { slug };
        RecordingId(format!("{slug}-{:016x}", random()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Different at each call; that nobody else has it is checked when the file is created.
fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// The data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    const DIRS: [&str; 6] = ["inbox", "chunks", "done", "failed", "results", "locks"];

    pub(crate) fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// Makes what is missing.
    pub(crate) fn create(root: &Path) -> Outcome<Layout> {
        let layout = Layout::new(root);
        for dir in layout.dirs() {
            // Also what an earlier start created that was cut short here.
            durafile::create_dir_all(&dir).map_err(|e| Failure::Disk(e.into()))?;
        }
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every directory that has to be there, and writable.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        Self::DIRS.iter().map(|name| self.root.join(name)).collect()
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.root.join("inbox")
    }

    pub(crate) fn waiting(&self, id: &RecordingId) -> PathBuf {
        wav(self.inbox(), id)
    }

    pub(crate) fn done(&self, id: &RecordingId) -> PathBuf {
        wav(self.root.join("done"), id)
    }

    pub(crate) fn failed(&self, id: &RecordingId) -> PathBuf {
        wav(self.root.join("failed"), id)
    }

    pub(crate) fn failed_dir(&self) -> PathBuf {
        self.root.join("failed")
    }

    pub(crate) fn chunk_sets(&self) -> PathBuf {
        self.root.join("chunks")
    }

    pub(crate) fn chunk_set(&self, id: &RecordingId) -> PathBuf {
        self.chunk_sets().join(id.as_str())
    }

    pub(crate) fn chunk(&self, id: &RecordingId, number: u32) -> PathBuf {
        self.chunk_set(id).join(format!("{number:06}"))
    }

    /// The result of a content, whatever its recordings are called.
    pub(crate) fn result(&self, sha256: &str) -> PathBuf {
        self.root.join("results").join(sha256)
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn lock(&self, id: &RecordingId) -> PathBuf {
        self.locks().join(format!("{id}.lock"))
    }

    /// No id has a dot, so that the two kinds of locks can't be mixed up.
    pub(crate) fn content_lock(&self, sha256: &str) -> PathBuf {
        self.locks().join(format!("sha256.{sha256}.lock"))
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger.sqlite")
    }

    pub(crate) fn heartbeat(&self) -> PathBuf {
        self.root.join("heartbeat")
    }

    /// The recordings in a folder of them, sorted; other files are nobody's business.
    pub(crate) fn recordings(dir: &Path) -> Outcome<Vec<RecordingId>> {
        ids(dir, ".wav")
    }

    /// The recordings of which there are chunks.
    pub(crate) fn in_chunks(&self) -> Outcome<Vec<RecordingId>> {
        ids(&self.chunk_sets(), "")
    }
}

fn ids(dir: &Path, suffix: &str) -> Outcome<Vec<RecordingId>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(Failure::Disk)? {
        let name = entry.map_err(Failure::Disk)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(suffix));
        found.extend(stem.and_then(RecordingId::parse));
    }
    found.sort();
    Ok(found)
}

fn wav(dir: PathBuf, id: &RecordingId) -> PathBuf {
    dir.join(format!("{id}.wav"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_leads_out_of_its_folder() {
        for bad in ["", ".", "..", "a/b", "../a", "a.wav", "-a", "a-", "A", "ä", "a b", "a\0", "a%2fb"] {
            assert_eq!(RecordingId::parse(bad), None, "{bad:?}");
        }
        assert_eq!(RecordingId::parse(&"a".repeat(81)), None);
        assert!(RecordingId::parse(&"a".repeat(80)).is_some());
        assert!(RecordingId::parse("talk-2026-11-22").is_some());
    }

    #[test]
    fn every_name_makes_a_valid_id_of_its_own() {
        for name in ["", "Team Meeting.wav", "../../etc/passwd", "\0\n", "🎤", "ÄÖÜ", &"x".repeat(1000)]
        {
            let (one, two) = (RecordingId::for_name(name), RecordingId::for_name(name));
            assert_ne!(one, two);
            assert_eq!(RecordingId::parse(one.as_str()), Some(one));
        }
        assert!(RecordingId::for_name("Team Meeting.wav").as_str().starts_with("team-meeting-"));
    }
}

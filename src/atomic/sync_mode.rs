//! Step 6: what is done to the content of one file before a name leads to it.
//!
//! | durability | `single_flush` | journal totally ordered, directory can be synced | what is done |
//! | --- | --- | --- | --- |
//! | `None` | any | any | [`None`](FileSync::None), on a network file system [`Fsync`](FileSync::Fsync) |
//! | `Data` | any | any | [`Fsync`](FileSync::Fsync) |
//! | `Full` | no | any | [`Fsync`](FileSync::Fsync) |
//! | `Full` | yes | no | [`Fsync`](FileSync::Fsync) |
//! | `Full` | yes | yes | [`WriteOut`](FileSync::WriteOut) |
//!
//! How the files of a set share this work is another question: see `set::sync_request`.

use std::io;

use crate::options::durability::Durability;
use crate::sys::{self, Dir, File, FsKind, Stat};

/// The work that makes the content of one file durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSync {
    /// Nothing: the save is atomic against the death of the process only.
    None,
    /// `fsync`: content and metadata are durable before the rename, since a crash may else leave the new
    /// name with torn content.
    Fsync,
    /// The data is written out and waited for. The flush that makes the rename durable covers it, because
    /// the journal commits both in order (docs/protocols.md, "Single flush").
    WriteOut,
}

impl FileSync {
    /// The work for a save into `dir`; `stat` is of any file of the mount that `kind` describes.
    pub(crate) fn resolve(
        durability: Durability,
        single_flush: bool,
        dir: &Dir,
        (kind, stat): (FsKind, &Stat),
    ) -> FileSync {
        // With `Data` no flush follows, and none can follow where the directory can't be synced.
        let flush_follows = durability == Durability::Full && dir.can_be_synced();
        match durability {
            // A server that is full says so when the data arrives there, which may be after the rename.
            Durability::None if kind.remote => FileSync::Fsync,
            Durability::None => FileSync::None,
            _ if single_flush && flush_follows && sys::has_ordered_journal(kind, stat) => FileSync::WriteOut,
            _ => FileSync::Fsync,
        }
    }

    pub(crate) fn perform(self, file: &File) -> io::Result<()> {
        match self {
            FileSync::None => Ok(()),
            FileSync::Fsync => file.sync(),
            FileSync::WriteOut => file.written_out(),
        }
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;
    use crate::sys::{Family, Kind};

    #[test]
    fn only_a_local_file_is_not_synced_at_all() {
        let dir = Dir::open("/".as_ref()).unwrap();
        let stat = dir.stat().unwrap();
        assert_eq!(stat.kind, Kind::Dir);
        let work = |durability, remote| {
            let kind = FsKind { memory_backed: false, remote, family: Family::Other };
            FileSync::resolve(durability, true, &dir, (kind, &stat))
        };
        for (durability, remote, expected) in [
            (Durability::None, false, FileSync::None),
            (Durability::None, true, FileSync::Fsync),
            (Durability::Data, false, FileSync::Fsync),
            (Durability::Full, false, FileSync::Fsync),
            (Durability::Full, true, FileSync::Fsync),
        ] {
            assert_eq!(work(durability, remote), expected, "{durability:?}, remote: {remote}");
        }
    }
}

//! Finding the newest record.
//!
//! Records are numbered without gaps and never deleted, so the newest is the one whose successor isn't there. The hint says
//! where to begin to look; it may be old, missing or nonsense, and only costs requests then.

use object_store::ObjectMeta;

use crate::bucket::Bucket;
use crate::error::{ErrorKind, Result};
use crate::record::Record;

/// A hint is a number.
const MAX_HINT: u64 = 64;

impl Bucket {
    /// The newest record, or what holds before there is one.
    pub(crate) async fn newest(&self) -> Result<Record> {
        Ok(self.newest_and_meta().await?.0)
    }

    pub(crate) async fn newest_and_meta(&self) -> Result<(Record, Option<ObjectMeta>)> {
        let hinted = self.hinted().await?;
        let start = match hinted {
            Some(found) => found,
            None => match self.listed(0).await? {
                Some(found) => found,
                None => return Ok((Record::origin(), None)),
            },
        };
        let (record, meta) = self.forward(start).await?;
        Ok((record, Some(meta)))
    }

    /// The record that the hint names.
    async fn hinted(&self) -> Result<Option<(Record, ObjectMeta)>> {
        let hint = match self.read(&self.layout.hint(), MAX_HINT).await {
            // Whoever may not read this may not read anything; a refused listing doesn't say so.
            Err(e) if e.kind() == ErrorKind::Store && !e.is_transient() => return Err(e),
            hint => hint.unwrap_or(None),
        };
        let seq = hint.and_then(|small| std::str::from_utf8(&small.bytes).ok()?.parse().ok());
        match seq {
            None | Some(0) => Ok(None),
            Some(seq) => self.record(seq).await,
        }
    }

    /// The last of the records after this one, as a listing shows them.
    async fn listed(&self, after: u64) -> Result<Option<(Record, ObjectMeta)>> {
        let found = self.list(&self.layout.records(), Some(&self.layout.record(after))).await?;
        let last = found.iter().filter_map(|meta| self.layout.seq_of(&meta.location)).max();
        match last {
            Some(seq) => self.record(seq).await,
            None => Ok(None),
        }
    }

    /// From a record to the newest. A listing only jumps ahead: what counts is that no successor is there.
    async fn forward(&self, start: (Record, ObjectMeta)) -> Result<(Record, ObjectMeta)> {
        let mut at = start;
        while let Some(next) = self.record(at.0.seq + 1).await? {
            at = self.listed(next.0.seq).await?.unwrap_or(next);
        }
        Ok(at)
    }

    /// All records after this one, in order.
    pub(crate) async fn after(&self, seq: u64) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        while let Some((record, _)) = self.record(seq + 1 + records.len() as u64).await? {
            records.push(record);
        }
        Ok(records)
    }

    /// Leaves a hint. It decides nothing, so failing is no matter.
    pub(crate) async fn leave_hint(&self, seq: u64) {
        let _ = self.write(&self.layout.hint(), seq.to_string().into()).await;
    }
}

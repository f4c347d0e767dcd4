//! The commit point: creating the next record, and finding out what became of that.

use bytes::Bytes;

use crate::ambient::Ambient;
use crate::bucket::Bucket;
use crate::error::{Error, Result, is_refusal};
use crate::record::{MAX_RECORD, Record};

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is there.
    Mine,
    /// Another one has its number, and always will.
    Taken,
}

impl Bucket {
    /// Creates a record.
    ///
    /// No answer but success is believed. Clients repeat a request whose answer was lost, and then report their own success
    /// as "exists already"; S3 says the same when two requests met and neither won. So after any error the record is read:
    /// if it is byte for byte this one, session included, it is mine; if it is another, that one won; if there is none,
    /// nobody has won yet, and creating it again is safe, because it is the same record.
    pub(crate) async fn commit(&self, record: &Record, ambient: &Ambient) -> Result<Outcome> {
        let path = self.layout.record(record.seq);
        let mine = Bytes::from(record.to_bytes());
        let mut attempt = 0;
        loop {
            let Err(error) = self.create(&path, mine.clone()).await else { return Ok(Outcome::Mine) };
            match self.try_read(&path, MAX_RECORD).await {
                Ok(Some(there)) if there.bytes == mine => return Ok(Outcome::Mine),
                Ok(_) => return Ok(Outcome::Taken),
                // The store refused, and nothing is there.
                Err(object_store::Error::NotFound { .. }) if is_refusal(&error) => {
                    return Err(Error::store("create", &path, error));
                }
                Err(_) => {}
            }
            attempt += 1;
            if attempt == ambient.attempts() {
                return Err(Error::unknown(&path, error));
            }
            ambient.pause(attempt).await;
        }
    }
}

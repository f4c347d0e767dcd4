//! From a version's number to what it consists of.

use crate::bucket::{Bucket, no_such_version};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Manifest;

impl Bucket {
    /// The number and the manifest of a version, or of the newest.
    pub(crate) async fn resolve(&self, version: Option<u64>) -> Result<(u64, Manifest)> {
        loop {
            let newest = self.newest().await?;
            let number = version.unwrap_or(newest.version);
            if newest.version == 0 {
                return Err(Error::new(ErrorKind::NotFound, "nothing was published here yet"));
            }
            if number < newest.floor || number == 0 || number > newest.version {
                return Err(no_such_version(number, &newest));
            }
            let record = match self.record(number).await? {
                Some((record, _)) if record.publishes() => record,
                // What only collects is no version.
                Some(_) => return Err(no_such_version(number, &newest)),
                None => return Err(self.missing(&self.layout.record(number))),
            };
            // A record of a version has a manifest.
            let Some(from) = &record.manifest else { return Err(no_such_version(number, &newest)) };
            if let Some(manifest) = self.manifest(from).await? {
                return Ok((number, manifest));
            }
            if !self.is_collected(number).await? {
                return Err(self.missing(&self.layout.data(&from.key)));
            }
            // The newest that was, isn't any more; a version that was asked for by its number is gone.
        }
    }

    /// Was the version collected by now? A collector says so before it deletes anything.
    pub(crate) async fn is_collected(&self, version: u64) -> Result<bool> {
        Ok(version < self.newest().await?.floor)
    }
}

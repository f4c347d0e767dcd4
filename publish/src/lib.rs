//! Directories, published whole to object storage and pulled whole elsewhere.
//!
//! ```
//! use std::sync::Arc;
//!
//! use durafile_publish::object_store::memory::InMemory;
//! use durafile_publish::{PublishOptions, Published, PullOptions};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let (model, replica) = (dir.path().join("model"), dir.path().join("replica"));
//! # std::fs::create_dir(&model)?;
//! # std::fs::write(model.join("weights"), "0.5")?;
//! let place = Published::new(Arc::new(InMemory::new()), "models/main");
//! let published = place.publish(&model, &PublishOptions::new()).await?;
//! let pulled = place.pull(&replica, &PullOptions::new()).await?;
//! assert_eq!(pulled.version, published.version);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What is guaranteed
//!
//! On the condition that the store creates objects atomically, which [`Published::check_store`] tries out:
//!
//! - Versions are totally ordered, each with a number of its own.
//! - A version whose publish was acknowledged is never lost, until it is collected.
//! - A pull gives exactly one version, each byte verified by a hash.
//! - A publisher or a puller that is killed at any moment leaves the old or the new, never a mixture.
//! - Collecting never takes anything from a version that is kept, whoever publishes at the same time and however slowly.
//!
//! # What is not
//!
//! - Hashes find damage, not forgery: whoever may write to the bucket decides what is pulled. What a manifest says is believed only
//!   as far as it can't lead out of the target.
//! - Files that other programs write *in place* while they are published may be read half written.
//! - Only Unix. Names must be UTF-8.
//!
//! # How
//!
//! `DESIGN.md` has the layout, the protocol and why it is safe. Everything runs in a tokio runtime with its timer enabled; work on
//! files is done on threads for blocking work. Memory is bounded by the number of lanes times 16 MiB (a part, and
//! the pieces that it arrives in; an allocator may keep more, as the README shows), plus the manifests of two versions (some 180 bytes a file).

#[cfg(not(unix))]
compile_error!("durafile-publish runs on Unix systems only");

mod ambient;
mod bucket;
mod cache;
mod check_store;
mod collect;
mod commit;
mod error;
mod fetch;
mod flaw;
mod hash;
mod keys;
mod lanes;
mod local;
mod manifest;
#[cfg(test)]
mod model;
mod newest;
mod options;
mod paths;
mod place;
mod publish;
mod published;
mod pull;
mod record;
mod resolve;
mod source;
mod upload;

pub use check_store::StoreCheck;
pub use error::{Error, ErrorKind, Result};
pub use options::{
    CollectOptions, Collected, Progress, Publication, PublishOptions, PullOptions, Pulled, Version,
};
pub use published::Published;

pub use durafile::CancelToken;
pub use object_store;

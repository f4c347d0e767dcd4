//! From a recording to a published result: used by the service and by the one-shot command.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use durafile::{CancelToken, DirOptions};

use crate::audio::analysis::{Report, analyse};
use crate::audio::decode::{decode, identify};
use crate::audio::picture::draw;
use crate::failure::Outcome;
use crate::stage::Stages;

/// How long each stage may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) decode: Duration,
    pub(crate) analysis: Duration,
    pub(crate) picture: Duration,
    pub(crate) publish: Duration,
}

/// What the caller wants to know while it waits.
pub(crate) trait Observer {
    fn begins(&self, stage: &'static str);
    /// Called about twice a second.
    fn alive(&self);
}

/// Something that must be held until the last thread that works on the recording has ended.
pub(crate) type Guard = Arc<dyn Any + Send + Sync>;

/// One recording on its way.
pub(crate) struct Job<'a> {
    pub(crate) recording: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) cancel: &'a CancelToken,
    pub(crate) guard: Guard,
    pub(crate) observer: &'a dyn Observer,
}

/// A result that is not published yet.
#[derive(Debug)]
pub(crate) struct Product {
    report: Report,
    picture: Vec<u8>,
}

impl Product {
    pub(crate) fn seconds(&self) -> f64 {
        self.report.duration_seconds
    }
}

impl Job<'_> {
    fn stage<T: Send + 'static>(
        &self,
        name: &'static str,
        limit: Duration,
        work: impl FnOnce(&crate::stage::Watch) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.observer.begins(name);
        let guard = self.guard.clone();
        Stages::new(self.cancel).run(name, limit, &|| self.observer.alive(), move |watch| {
            let _held = guard;
            work(watch)
        })
    }

    /// The SHA-256 of the content, within the time for decoding: both read the whole file.
    pub(crate) fn identify(&self) -> Outcome<String> {
        let path = self.recording.clone();
        self.stage("identify", self.limits.decode, move |watch| identify(&path, watch))
    }

    pub(crate) fn make(&self, sha256: &str) -> Outcome<Product> {
        let (path, sha256) = (self.recording.clone(), sha256.to_owned());
        let signal = self.stage("decode", self.limits.decode, move |watch| decode(&path, watch))?;
        let (signal, report) = self.stage("analysis", self.limits.analysis, move |watch| {
            analyse(&signal, &sha256, watch).map(|report| (signal, report))
        })?;
        let (report, picture) = self.stage("picture", self.limits.picture, move |watch| {
            draw(&signal, &report.silence.spans, watch).map(|picture| (report, picture))
        })?;
        Ok(Product { report, picture })
    }

    /// Puts the result in place, whole; what was there is replaced.
    pub(crate) fn publish(&self, product: Product, target: &Path) -> Outcome {
        let (target, options) = (target.to_owned(), DirOptions::new().cancel(self.cancel));
        self.stage("publish", self.limits.publish, move |_| {
            let mut result = options.create(&target)?;
            result.write_json("result.json", &product.report)?;
            result.write("waveform.png", &product.picture)?;
            result.commit()?;
            Ok(())
        })
    }
}

//! From the network to the disk, in constant memory.

use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use durafile::AtomicFile;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::refusal::{Answer, Refusal};
use crate::failure::{Failure, Outcome};

/// Pieces of the body that may wait for the disk. The client is not read any further meanwhile.
const QUEUE: usize = 4;

/// What is read of a body that was refused, so that the client gets to see why.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

enum Piece {
    Data(Bytes),
    /// The body came to its end. Without this the sender is gone, and nothing is kept.
    End,
}

/// How long an upload may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Without anything coming.
    pub(crate) idle: Duration,
    /// All in all.
    pub(crate) total: Duration,
}

/// Where an upload goes.
pub(crate) trait Target: Send + 'static {
    fn open(&mut self) -> Outcome<AtomicFile>;

    /// The next piece of the body; an error refuses all of it.
    fn check(&mut self, _piece: &[u8]) -> Outcome {
        Ok(())
    }

    /// The body is there, whole.
    fn commit(&mut self, file: AtomicFile) -> Outcome {
        file.commit()?;
        Ok(())
    }
}

/// Streams a body into what `target` opens, and publishes that when it is complete. The size limit is
/// that of the stream: what the client says about its length is not believed. `place` is given up when
/// the thread has ended, be the client there or not: a disk that hangs keeps no more threads than there are
/// places.
pub(crate) async fn receive(
    body: Body,
    pace: Pace,
    place: OwnedSemaphorePermit,
    target: impl Target,
) -> Answer<()> {
    let (send, pieces) = mpsc::channel(QUEUE);
    let saved = tokio::task::spawn_blocking(move || {
        let _place = place;
        save(target, pieces)
    });
    let mut stream = body.into_data_stream();
    let passed = match timeout(pace.total, pass_on(&mut stream, pace.idle, send)).await {
        Ok(passed) => passed,
        Err(_) => Passed::Broken(Refusal::too_slow()),
    };
    let saved = match saved.await {
        Ok(saved) => saved,
        Err(e) => return Err(Refusal::broken().because(e)),
    };
    // If both failed, the disk was first: the network is read only as long as it takes.
    match (saved, passed) {
        (Err(e), Passed::Refused) => {
            tokio::spawn(timeout(DRAIN_TIME, drain(stream)));
            Err(e.into())
        }
        (_, Passed::Broken(refusal)) => Err(refusal),
        (saved, _) => Ok(saved?),
    }
}

enum Passed {
    Whole,
    /// The disk does not take more.
    Refused,
    Broken(Refusal),
}

async fn pass_on(stream: &mut BodyDataStream, idle: Duration, send: mpsc::Sender<Piece>) -> Passed {
    loop {
        let next = tokio::select! {
            // The disk may give up while the client takes its time.
            () = send.closed() => return Passed::Refused,
            next = timeout(idle, stream.next()) => next,
        };
        let piece = match next {
            Err(_) => return Passed::Broken(Refusal::stalled()),
            Ok(Some(Err(e))) => {
                return Passed::Broken(Refusal::client_gone().because(e));
            }
            Ok(Some(Ok(data))) => Piece::Data(data),
            Ok(None) => Piece::End,
        };
        let is_end = matches!(piece, Piece::End);
        if send.send(piece).await.is_err() {
            return Passed::Refused;
        }
        if is_end {
            return Passed::Whole;
        }
    }
}

fn save(mut target: impl Target, mut pieces: mpsc::Receiver<Piece>) -> Outcome {
    let mut file = target.open()?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(data)) => {
                target.check(&data)?;
                if let Err(e) = file.write_all(&data) {
                    return Err(e.downcast::<durafile::Error>().map_or_else(Failure::Disk, Failure::Save));
                }
            }
            Some(Piece::End) => return target.commit(file),
            None => {
                file.discard()?;
                return Err(Failure::Cancelled);
            }
        }
    }
}

/// Reads on for a while, and throws it away: closed in the middle, the connection would be reset, and
/// the answer with it.
async fn drain(mut stream: BodyDataStream) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(data)) = stream.next().await {
        match left.checked_sub(data.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const PIECES: usize = 1000;
    const LONG: Pace = Pace { idle: Duration::from_secs(60), total: Duration::from_secs(60) };

    /// A disk that does not answer before it is told to.
    struct SlowDisk {
        ready: std::sync::mpsc::Receiver<()>,
        path: PathBuf,
    }

    impl Target for SlowDisk {
        fn open(&mut self) -> Outcome<AtomicFile> {
            self.ready.recv().unwrap();
            Ok(AtomicFile::create(&self.path)?)
        }
    }

    fn places() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }

    #[tokio::test]
    async fn the_network_is_read_no_faster_than_the_disk_takes_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let read = Arc::new(AtomicUsize::new(0));
        let counter = read.clone();
        let pieces = (0..PIECES).map(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(&[7; 100]))
        });
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (tell, ready) = std::sync::mpsc::channel::<()>();
        let slow_disk = SlowDisk { ready, path: path.clone() };
        let place = places().try_acquire_owned().unwrap();
        let upload = tokio::spawn(receive(body, LONG, place, slow_disk));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let taken = read.load(Ordering::SeqCst);
        assert!(taken > 0 && taken < 20, "{taken}");
        tell.send(()).unwrap();
        upload.await.unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), PIECES * 100);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_its_place_to_nobody_while_the_disk_hangs() {
        let home = tempfile::tempdir().unwrap();
        let (tell, ready) = std::sync::mpsc::channel::<()>();
        let hung_disk = SlowDisk { ready, path: home.path().join("file") };
        let places = places();
        let place = places.clone().try_acquire_owned().unwrap();
        let upload = tokio::spawn(receive(Body::from("recording"), LONG, place, hung_disk));
        tokio::task::yield_now().await;
        upload.abort();
        upload.await.unwrap_err();
        assert_eq!(places.available_permits(), 0, "the thread is still there");
        tell.send(()).unwrap();
        let free = tokio::time::timeout(Duration::from_secs(60), places.acquire()).await;
        assert!(free.is_ok(), "the place is free when the thread has ended");
    }
}

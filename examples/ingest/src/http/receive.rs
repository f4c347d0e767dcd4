//! From the network to the disk, in constant memory.

use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use durafile::AtomicFile;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::refusal::{Answer, Refusal};
use crate::failure::Failure;

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

/// Streams a body into what `open` opens, and publishes that when it is complete. The size limit is
/// that of the stream: what the client says about its length is not believed.
pub(crate) async fn receive(
    body: Body,
    idle: Duration,
    open: impl FnOnce() -> durafile::Result<AtomicFile> + Send + 'static,
) -> Answer<()> {
    let (send, pieces) = mpsc::channel(QUEUE);
    let saved = tokio::task::spawn_blocking(move || save(open, pieces));
    let mut stream = body.into_data_stream();
    let passed = pass_on(&mut stream, idle, send).await;
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

fn save(
    open: impl FnOnce() -> durafile::Result<AtomicFile>,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), Failure> {
    let mut file = open()?;
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Data(data)) => {
                if let Err(e) = file.write_all(&data) {
                    return Err(e.downcast::<durafile::Error>().map_or_else(Failure::Disk, Failure::Save));
                }
            }
            Some(Piece::End) => return Ok(file.commit().map(drop)?),
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PIECES: usize = 1000;

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
        let (ready, wait) = std::sync::mpsc::channel::<()>();
        let target = path.clone();
        let slow_disk = move || {
            wait.recv().unwrap();
            AtomicFile::create(target)
        };
        let upload = tokio::spawn(receive(body, Duration::from_secs(60), slow_disk));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let taken = read.load(Ordering::SeqCst);
        assert!(taken > 0 && taken < 20, "{taken}");
        ready.send(()).unwrap();
        upload.await.unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), PIECES * 100);
    }
}

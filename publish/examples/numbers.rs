//! Measures requests and seconds on a store, and memory: `numbers URL` for many small files, `numbers URL noise GIB` or `numbers URL
//! sparse GIB` for one long file. `bench/numbers` runs it on moto and Ceph, beside the AWS CLI.

#[path = "../tests/it/wrapped.rs"]
mod wrapped;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use durafile_publish::object_store::{ObjectStore, ObjectStoreExt, parse_url_opts};
use durafile_publish::{PublishOptions, Published, PullOptions};
use futures_util::StreamExt;
use wrapped::{Mood, Wrapped};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: numbers URL [noise GIB | sparse GIB]")?.parse()?;
    let settings = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (store, prefix) = parse_url_opts(&url, settings)?;
    let store: Arc<dyn ObjectStore> = Arc::from(store);
    let dir = tempfile::tempdir()?;
    if let Some(content) = args.next() {
        let gib = args.next().ok_or("how many GiB?")?.parse()?;
        return long(&store, &format!("{prefix}/long"), dir.path(), content == "sparse", gib).await;
    }
    many(&store, &format!("{prefix}/many"), dir.path(), 1001).await?;
    one_by_one(&store, &format!("{prefix}/single"), dir.path()).await?;
    for files in [100, 1000, 10_000] {
        many(&store, &format!("{prefix}/many-{files}"), &dir.path().join(files.to_string()), files).await?;
    }
    Ok(())
}

fn fill(dir: &Path, files: usize, generation: usize, length: usize) -> Outcome {
    fs::create_dir_all(dir)?;
    for file in 0..files {
        let mut content = vec![0; length];
        blake3::Hasher::new()
            .update(format!("{file} {generation}").as_bytes())
            .finalize_xof()
            .fill(&mut content);
        fs::write(dir.join(format!("file-{file}")), content)?;
    }
    Ok(())
}

/// Does something, and prints what it took.
async fn measured<R>(
    what: &str,
    counter: &Wrapped,
    work: impl Future<Output = durafile_publish::Result<R>>,
) -> Result<R, Box<dyn Error>> {
    let (before, began) = (counter.requests(), Instant::now());
    let result = work.await?;
    println!("| {what} | {} | {:.2} |", counter.requests() - before, began.elapsed().as_secs_f64());
    Ok(result)
}

async fn many(store: &Arc<dyn ObjectStore>, prefix: &str, dir: &Path, files: usize) -> Outcome {
    let counter = Wrapped::new(store.clone(), Mood::Fine);
    let place = Published::new(counter.clone(), prefix);
    let (from, to) = (dir.join("from"), dir.join("to"));
    fill(&from, files, 0, 4096)?;
    for what in ["first", "10 changed", "nothing new"] {
        if what == "10 changed" {
            fill(&from, 10, 1, 4096)?;
        }
        measured(
            &format!("publish {files} files, {what}"),
            &counter,
            place.publish(&from, &PublishOptions::new()),
        )
        .await?;
        measured(&format!("pull {files} files, {what}"), &counter, place.pull(&to, &PullOptions::new()))
            .await?;
    }
    Ok(())
}

async fn one_by_one(store: &Arc<dyn ObjectStore>, prefix: &str, dir: &Path) -> Outcome {
    let began = Instant::now();
    let paths: Vec<_> = fs::read_dir(dir.join("from"))?.collect::<Result<_, _>>()?;
    let count = paths.len();
    let put = |entry: fs::DirEntry| {
        let key = durafile_publish::object_store::path::Path::from(format!(
            "{prefix}/{}",
            entry.file_name().display()
        ));
        async move {
            store
                .put(&key, fs::read(entry.path()).map_err(|e| e.to_string())?.into())
                .await
                .map_err(|e| e.to_string())
        }
    };
    let mut puts = futures_util::stream::iter(paths.into_iter().map(put)).buffer_unordered(8);
    while let Some(done) = puts.next().await {
        done?;
    }
    println!("| one PUT per file, 8 at once | {count} | {:.2} |", began.elapsed().as_secs_f64());
    Ok(())
}

/// One file that is longer than memory should ever be.
async fn long(store: &Arc<dyn ObjectStore>, prefix: &str, dir: &Path, sparse: bool, gib: u64) -> Outcome {
    let counter = Wrapped::new(store.clone(), Mood::Fine);
    let place = Published::new(counter.clone(), prefix);
    let (from, to) = (dir.join("from"), dir.join("to"));
    fs::create_dir(&from)?;
    let mut file = fs::File::create(from.join("long"))?;
    if sparse {
        file.set_len(gib << 30)?;
    } else {
        let mut content = blake3::Hasher::new().finalize_xof();
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..gib << 10 {
            content.fill(&mut buffer);
            std::io::Write::write_all(&mut file, &buffer)?;
        }
    }
    let what = format!("publish {gib} GiB (its parts not counted)");
    measured(&what, &counter, place.publish(&from, &PublishOptions::new())).await?;
    fs::remove_dir_all(&from)?;
    measured(&format!("pull {gib} GiB"), &counter, place.pull(&to, &PullOptions::new())).await?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown");
    println!("| peak memory of both, 8 lanes | | {} |", peak.trim());
    Ok(())
}

//! What the program is asked to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use durafile_publish::object_store::local::LocalFileSystem;
use durafile_publish::object_store::path::Path;
use durafile_publish::object_store::{ObjectStore, parse_url_opts};
use durafile_publish::{
    CancelToken, CollectOptions, Error, Progress, PublishOptions, Published, PullOptions,
};
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;

/// Publishes directories whole to object storage, and pulls them whole.
///
/// A URL is file:///some/directory, s3://bucket/prefix, or whatever else object_store knows. Credentials and
/// endpoints come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT and so on.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Show no progress.
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish a directory as the newest version.
    Publish {
        dir: PathBuf,
        #[arg(value_parser = address)]
        url: Url,
        /// Only if the newest version is this one; 0: only if nothing was published yet.
        #[arg(long, value_name = "VERSION")]
        expect: Option<u64>,
        /// Requests in flight at once, each with up to 16 MiB in memory.
        #[arg(long, default_value_t = 8)]
        lanes: usize,
    },
    /// Make a directory what a version is.
    Pull {
        #[arg(value_parser = address)]
        url: Url,
        dir: PathBuf,
        /// This one instead of the newest.
        #[arg(long)]
        version: Option<u64>,
        /// Keep what is fetched in this directory too, for other pulls.
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
        /// Make the files writable.
        #[arg(long)]
        writable: bool,
        /// Requests in flight at once, each with up to 16 MiB in memory.
        #[arg(long, default_value_t = 8)]
        lanes: usize,
        /// Wait so many seconds for another pull of the same directory.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        wait: u64,
        /// Then look for a new version every so many seconds, until the program is ended.
        #[arg(long, value_name = "SECONDS")]
        follow: Option<u64>,
    },
    /// List the versions that are kept.
    Versions {
        #[arg(value_parser = address)]
        url: Url,
    },
    /// Delete what no kept version needs.
    Collect {
        #[arg(value_parser = address)]
        url: Url,
        /// Keep so many versions.
        #[arg(long, default_value_t = 10)]
        keep: u64,
        /// Leave alone what was in use within so many seconds.
        #[arg(long, default_value_t = 24 * 60 * 60, value_name = "SECONDS")]
        grace: u64,
        /// Only say what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
    /// Try out whether the store keeps the promises that everything rests on.
    Check {
        #[arg(value_parser = address)]
        url: Url,
    },
}

pub(crate) enum Failure {
    Usage(String),
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(error)
    }
}

/// A URL, or what is wrong with it, in words for those who gave a path.
fn address(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|e| match std::path::absolute(text) {
        Ok(path) if !text.contains("://") => {
            format!("it is no URL; for a local directory write file://{}", path.display())
        }
        _ => e.to_string(),
    })
}

/// The place that a URL names.
fn place(url: &Url) -> Result<Published, Failure> {
    let fail = |e: &dyn std::fmt::Display| Failure::Usage(format!("{url} can't be used: {e}"));
    if url.scheme() == "file" {
        let path = url
            .to_file_path()
            .map_err(|()| fail(&"it names no local directory; write file:///some/directory"))?;
        let prefix = Path::from_absolute_path(&path).map_err(|e| fail(&e))?;
        // What is acknowledged is on the disk.
        return Ok(Published::new(Arc::new(LocalFileSystem::new().with_fsync(true)), prefix));
    }
    let settings = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let (store, prefix) = parse_url_opts(url, settings).map_err(|e| fail(&e))?;
    Ok(Published::new(Arc::<dyn ObjectStore>::from(store), prefix))
}

/// Shows how far it is, if somebody looks.
#[derive(Clone)]
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Bar {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        let style = "{spinner} {bytes} of {total_bytes} {bar:40} {binary_bytes_per_sec}";
        Bar(ProgressStyle::with_template(style).map_or(bar.clone(), |style| bar.with_style(style)))
    }

    fn show(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let bar = self.0.clone();
        move |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
        }
    }

    fn say(&self, text: &str) {
        self.0.finish_and_clear();
        println!("{text}");
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let token = CancelToken::on_termination().map_err(Error::from)?;
    let bar = Bar::new(args.quiet);
    match args.command {
        Command::Publish { dir, url, expect, lanes } => {
            let options = PublishOptions::new().lanes(lanes).cancel(&token).progress(bar.show());
            let options = expect.into_iter().fold(options, PublishOptions::expect);
            let done = place(&url)?.publish(&dir, &options).await?;
            let what = if done.unchanged { "is already" } else { "is now" };
            bar.say(&format!(
                "{} {what} version {} ({} uploaded)",
                dir.display(),
                done.version,
                size(done.uploaded)
            ));
        }
        Command::Pull { url, dir, version, cache, writable, lanes, wait, follow } => {
            let options =
                PullOptions::new().lanes(lanes).cancel(&token).progress(bar.show()).writable(writable);
            let options = options.lock_timeout(Duration::from_secs(wait));
            let options = version.into_iter().fold(options, PullOptions::version);
            let options = cache.into_iter().fold(options, |options, cache| options.cache(cache));
            pull(&place(&url)?, &dir, &options, &bar, &token, follow).await?;
        }
        Command::Versions { url } => {
            for version in place(&url)?.versions().await? {
                let age = SystemTime::now().duration_since(version.published).unwrap_or_default();
                let (files, bytes) = (version.files, size(version.bytes));
                let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
                println!("{}\t{files}\t{bytes}\t{} s ago", version.number, age.as_secs());
            }
        }
        Command::Collect { url, keep, grace, dry_run } => {
            let options = CollectOptions::new()
                .keep(keep)
                .grace(Duration::from_secs(grace))
                .dry_run(dry_run)
                .cancel(&token);
            let done = place(&url)?.collect(&options).await?;
            let what = if dry_run { "would be deleted" } else { "deleted" };
            println!(
                "{} objects {what} ({}); version {} is the oldest that is kept",
                done.objects,
                size(done.bytes),
                done.oldest
            );
        }
        Command::Check { url } => {
            let done = place(&url)?.check_store().await?;
            println!("the store keeps its promises: {} races, each with one winner", done.races);
        }
    }
    Ok(())
}

async fn pull(
    place: &Published,
    dir: &std::path::Path,
    options: &PullOptions,
    bar: &Bar,
    token: &CancelToken,
    follow: Option<u64>,
) -> Result<(), Failure> {
    let mut first = true;
    loop {
        match place.pull(dir, options).await {
            Ok(done) if done.unchanged && !first => {}
            Ok(done) => {
                let what = if done.unchanged { "is already" } else { "is now" };
                bar.say(&format!(
                    "{} {what} version {} ({} fetched)",
                    dir.display(),
                    done.version,
                    size(done.fetched)
                ));
            }
            // A follower outlives what passes.
            Err(e)
                if follow.is_some()
                    && (e.is_transient() || e.kind() == durafile_publish::ErrorKind::NotFound) =>
            {
                eprintln!("durafile-publish: {e}; trying again");
            }
            Err(e) => return Err(e.into()),
        }
        first = false;
        let Some(seconds) = follow else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
        if token.is_cancelled() {
            return Ok(());
        }
    }
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

//! What may go wrong: each error has its kind, and nothing is half there.

use std::fs;
use std::path::Path as LocalPath;
use std::sync::Arc;

use durafile_publish::object_store::memory::InMemory;
use durafile_publish::object_store::path::Path;
use durafile_publish::object_store::{ObjectStore, ObjectStoreExt};
use durafile_publish::{CancelToken, ErrorKind, PublishOptions, Published, PullOptions};
use futures_util::TryStreamExt;

use crate::common::{Site, commit, noise, remnants, skipped, tree};
use crate::wrapped::{Mood, Wrapped};

/// The objects with content.
async fn content(site: &Site) -> Vec<Path> {
    let all: Vec<_> = site.store.list(Some(&"site/data".into())).try_collect().await.unwrap();
    let paths = all.into_iter().map(|meta| meta.location);
    paths.filter(|path| !path.filename().unwrap().starts_with("manifest")).collect()
}

async fn with_two_versions() -> Site {
    let site = Site::in_memory();
    let (from, to) = (site.path("from"), site.path("to"));
    commit(&from, &[("a", b"one"), ("big", &noise(1, 9 << 20))]);
    site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    site.place.pull(&to, &PullOptions::new()).await.unwrap();
    commit(&from, &[("a", b"two"), ("b", &noise(2, 2 << 20)), ("big", &noise(3, 9 << 20))]);
    site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    site
}

#[tokio::test]
async fn a_damaged_object_is_named_and_nothing_changes() {
    let site = with_two_versions().await;
    let (to, old) = (site.path("to"), tree(&site.path("to")));
    for path in content(&site).await {
        let good = site.store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut bad = good.to_vec();
        bad[good.len() / 2] ^= 1;
        site.store.put(&path, bad.into()).await.unwrap();
        let pulled = site.place.pull(&to, &PullOptions::new()).await;
        // Those of the first version only are not asked for.
        if let Err(error) = pulled {
            assert_eq!((error.kind(), error.object()), (ErrorKind::Corrupt, Some(path.as_ref())));
            assert_eq!(tree(&to), old);
        } else {
            fs::remove_dir_all(&to).unwrap();
            site.place.pull(&to, &PullOptions::new().version(1)).await.unwrap_err();
            site.store.put(&path, good.clone().into()).await.unwrap();
            site.place.pull(&to, &PullOptions::new().version(1)).await.unwrap();
        }
        site.store.put(&path, good.into()).await.unwrap();
    }
    site.place.pull(&to, &PullOptions::new()).await.unwrap();
    assert_eq!(tree(&to), tree(&site.path("from")));
}

#[tokio::test]
async fn an_object_that_nobody_collected_and_is_missing_is_corruption() {
    let site = with_two_versions().await;
    let (to, old) = (site.path("to"), tree(&site.path("to")));
    for path in content(&site).await {
        site.store.delete(&path).await.unwrap();
    }
    let error = site.place.pull(&to, &PullOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(tree(&to), old);
}

#[tokio::test]
async fn refused_credentials_are_the_stores_error_and_not_transient() {
    let site = with_two_versions().await;
    let refusing = Published::new(Wrapped::new(site.store.clone(), Mood::Refuses), "site");
    let (to, old) = (site.path("to"), tree(&site.path("to")));
    for error in [
        refusing.pull(&to, &PullOptions::new()).await.unwrap_err(),
        refusing.publish(&to, &PublishOptions::new()).await.unwrap_err(),
        refusing.check_store().await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Store, false));
    }
    assert_eq!(tree(&to), old);
}

/// Wherever the store goes away: old or new, and the next one goes on from there.
#[tokio::test]
async fn a_store_that_goes_away_leaves_the_old_version_and_the_next_pull_fetches_the_rest() {
    let mut at = 0;
    loop {
        let site = with_two_versions().await;
        let (to, old) = (site.path("to"), tree(&site.path("to")));
        let leaving = Wrapped::new(site.store.clone(), Mood::GoesAway(at));
        let first = Published::new(leaving.clone(), "site").pull(&to, &PullOptions::new().lanes(1)).await;
        let Err(error) = first else { break };
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Store, true));
        assert_eq!(tree(&to), old);
        let counting = Wrapped::new(site.store.clone(), Mood::Fine);
        let again = Published::new(counting.clone(), "site").pull(&to, &PullOptions::new()).await.unwrap();
        assert_eq!(tree(&to), tree(&site.path("from")));
        // What the first one was sent is not asked for again: but for the hint, records and manifest.
        let all = (9 << 20) + (2 << 20) + 3;
        let small = 16 << 10;
        assert!(
            again.fetched <= all && leaving.returned() + counting.returned() <= all + small,
            "{again:?} at {at}"
        );
        assert_eq!(remnants(site.dir.path()), [] as [std::path::PathBuf; 0]);
        at += 1;
    }
    assert!(at > 6, "{at}");
}

/// As a pull does that is killed between its commit and its end.
#[tokio::test]
async fn what_an_interrupted_pull_left_goes_when_nothing_is_to_be_pulled() {
    let site = with_two_versions().await;
    let to = site.path("to");
    let leaving = Wrapped::new(site.store.clone(), Mood::GoesAway(6));
    Published::new(leaving, "site").pull(&to, &PullOptions::new().lanes(1)).await.unwrap_err();
    assert_eq!(remnants(site.dir.path()).len(), 1);
    // Not while it may be at work still.
    let other = durafile::AtomicDir::create(&to).unwrap();
    assert!(site.place.pull(&to, &PullOptions::new().version(1)).await.unwrap().unchanged);
    let is_there = |path: &std::path::PathBuf| path.to_str().unwrap().contains(".durafile-pull-");
    assert!(remnants(site.dir.path()).iter().any(is_there));
    drop(other);
    assert!(site.place.pull(&to, &PullOptions::new().version(1)).await.unwrap().unchanged);
    assert_eq!(remnants(site.dir.path()), [] as [std::path::PathBuf; 0]);
}

#[tokio::test]
async fn a_store_that_goes_away_while_publishing_leaves_whole_versions() {
    let mut at = 0;
    loop {
        let site = with_two_versions().await;
        let from = site.path("from");
        commit(&from, &[("new", &noise(at, 3 << 20)), ("big", &noise(7, 17 << 20))]);
        let leaving = Wrapped::new(site.store.clone(), Mood::GoesAway(at));
        let done = Published::new(leaving, "site").publish(&from, &PublishOptions::new().lanes(1)).await;
        let latest = site.place.latest().await.unwrap().unwrap();
        site.place.pull(site.path("to"), &PullOptions::new()).await.unwrap();
        match done {
            Ok(done) => {
                assert_eq!(latest.number, done.version);
                // The hint is the last request, and decides nothing.
                assert_eq!(tree(&site.path("to")), tree(&from));
                if at > 30 {
                    break;
                }
                at = 31;
                continue;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::Unknown), "{error}");
                assert_eq!(latest.number, 2);
            }
        }
        at += 1;
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_room_and_the_old_version() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let site = Site::in_memory();
    let (from, to) = (site.path("from"), disk.0.path().join("to"));
    commit(&from, &[("a", b"one")]);
    site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    site.place.pull(&to, &PullOptions::new()).await.unwrap();
    let old = tree(&to);
    for content in [vec![noise(1, 40 << 20)], (0..60).map(|seed| noise(seed, 700_000)).collect()] {
        let names: Vec<String> = (0..content.len()).map(|number| format!("file-{number}")).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(content.iter().map(Vec::as_slice)).collect();
        commit(&from, &files);
        site.place.publish(&from, &PublishOptions::new()).await.unwrap();
        let error = site.place.pull(&to, &PullOptions::new()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.local()),
            (ErrorKind::Local, Some(durafile::ErrorKind::StorageFull)),
            "{error:?}"
        );
        assert_eq!(tree(&to), old);
        assert_eq!(remnants(disk.0.path()), [] as [std::path::PathBuf; 0]);
    }
}

/// A file system of so many MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(dir.path());
        match mount.status() {
            Ok(status) if status.success() => Some(SmallDisk(dir)),
            _ => skipped("a small tmpfs can't be mounted, which takes root"),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_cancelled_operation_stops_and_changes_nothing() {
    let site = with_two_versions().await;
    let (to, old) = (site.path("to"), tree(&site.path("to")));
    let token = CancelToken::new();
    // Cancelled by what is told of the progress: in the middle.
    let cancel = token.clone();
    let stop = move |progress: durafile_publish::Progress| {
        if progress.bytes > 0 {
            cancel.cancel();
        }
    };
    let options = PullOptions::new().lanes(1).cancel(&token).progress(stop);
    let error = site.place.pull(&to, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(tree(&to), old);
    let error = site.place.publish(&to, &PublishOptions::new().cancel(&token)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(site.place.latest().await.unwrap().unwrap().number, 2);
}

#[tokio::test]
async fn a_hint_that_is_nonsense_decides_nothing() {
    let site = with_two_versions().await;
    for hint in ["", "0", "1", "7", "x", "18446744073709551615", &"9".repeat(1000)] {
        site.store.put(&"site/hint".into(), hint.to_owned().into()).await.unwrap();
        assert_eq!(site.place.latest().await.unwrap().unwrap().number, 2, "{hint}");
    }
    site.store.delete(&"site/hint".into()).await.unwrap();
    assert_eq!(site.place.latest().await.unwrap().unwrap().number, 2);
}

/// A pull with 10 changed of 1,000 files moves those ten, and gives the others another name.
#[tokio::test]
async fn what_did_not_change_is_not_fetched_and_shares_its_file() {
    use std::os::unix::fs::MetadataExt;
    let site = Site::in_memory();
    let (from, to) = (site.path("from"), site.path("to"));
    let write = |changed: u64| {
        let names: Vec<String> = (0..1000).map(|number| format!("d{}/f{number}", number % 7)).collect();
        let contents: Vec<_> =
            (0..1000).map(|number| noise(number + if number < changed { 10_000 } else { 0 }, 4096)).collect();
        let files: Vec<_> =
            names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
        commit(&from, &files);
    };
    write(0);
    let first = site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    assert_eq!(first.uploaded, 4096 * 1000);
    site.place.pull(&to, &PullOptions::new()).await.unwrap();
    let inode = |path: &LocalPath| fs::metadata(path).unwrap().ino();
    let (same, other) = (inode(&to.join("d6/f503")), inode(&to.join("d3/f3")));
    write(10);
    assert_eq!(site.place.publish(&from, &PublishOptions::new()).await.unwrap().uploaded, 40960);
    assert_eq!(site.place.pull(&to, &PullOptions::new()).await.unwrap().fetched, 40960);
    assert_eq!(tree(&to), tree(&from));
    assert_eq!(inode(&to.join("d6/f503")), same);
    assert_ne!(inode(&to.join("d3/f3")), other);
    // Writable files share nothing.
    write(20);
    site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    site.place.pull(&to, &PullOptions::new().writable(true)).await.unwrap();
    assert_eq!(tree(&to), tree(&from));
    assert_ne!(inode(&to.join("d6/f503")), same);
}

#[tokio::test]
async fn a_cache_serves_other_targets() {
    let site = with_two_versions().await;
    let options = PullOptions::new().cache(site.path("cache"));
    let first = site.place.pull(site.path("one"), &options).await.unwrap();
    let second = site.place.pull(site.path("two"), &options).await.unwrap();
    assert!(first.fetched > 11 << 20 && second.fetched == 0);
    assert_eq!(tree(&site.path("two")), tree(&site.path("from")));
    // What is damaged in it is fetched again.
    for entry in fs::read_dir(site.path("cache")).unwrap() {
        let path = entry.unwrap().path();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "damaged").unwrap();
    }
    site.place.pull(site.path("three"), &options).await.unwrap();
    assert_eq!(tree(&site.path("three")), tree(&site.path("from")));
}

#[tokio::test]
async fn a_second_pull_of_a_target_waits_or_says_that_it_is_locked() {
    let site = with_two_versions().await;
    let to = site.path("to");
    let _other = durafile::AtomicDir::create(&to).unwrap();
    let error = site.place.pull(&to, &PullOptions::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.local()), (ErrorKind::Local, Some(durafile::ErrorKind::Locked)));
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_version_over_the_limit_is_refused() {
    let site = with_two_versions().await;
    let error = site.place.pull(site.path("new"), &PullOptions::new().size_limit(1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn requests_don_t_grow_with_the_number_of_files() {
    let counter = Wrapped::new(Arc::new(InMemory::new()), Mood::Fine);
    let site = Site::on(counter.clone(), "site");
    let (from, to) = (site.path("from"), site.path("to"));
    let names: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let write = |changed: u64| {
        let content = |number: u64| noise(number + if number < changed { 10_000 } else { 0 }, 4096);
        let contents: Vec<_> = (0..1001).map(content).collect();
        let files: Vec<_> =
            names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
        commit(&from, &files);
    };
    let mut requests = Vec::new();
    let mut count = |counter: &Wrapped| {
        let so_far: u64 = requests.iter().sum();
        requests.push(counter.requests() - so_far);
    };
    write(0);
    for changed in [0, 10, 10] {
        write(changed);
        site.place.publish(&from, &PublishOptions::new()).await.unwrap();
        count(&counter);
        site.place.pull(&to, &PullOptions::new()).await.unwrap();
        count(&counter);
    }
    // Publish: hint, list or record and next, manifest; pack, manifest, record, hint. Pull: hint, record, next, record, manifest, pack.
    assert_eq!(requests, [6, 6, 8, 6, 4, 5]);
}

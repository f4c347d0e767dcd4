//! Publishing, pulling, versions and collecting, where nothing fails.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use durafile::DirSnapshot;
use durafile_publish::{CollectOptions, ErrorKind, PublishOptions, PullOptions};

use crate::common::{Site, commit, noise, remnants, tree};

async fn round_trip(site: Site) {
    let (from, to) = (site.path("from"), site.path("to"));
    assert_eq!(site.place.latest().await.unwrap(), None);
    assert_eq!(site.place.versions().await.unwrap(), []);
    commit(&from, &[("a", b"one"), ("b/c", b"two"), ("b/empty", b""), ("same", b"two")]);
    fs::create_dir(from.join("nothing")).unwrap();
    fs::write(from.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../a", from.join("b/link")).unwrap();
    let big = noise(1, 20 << 20);
    fs::write(from.join("big"), &big).unwrap();

    let published = site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    assert_eq!((published.version, published.unchanged), (1, false));
    let pulled = site.place.pull(&to, &PullOptions::new()).await.unwrap();
    assert_eq!((pulled.version, pulled.unchanged), (1, false));
    assert_eq!(tree(&from), tree(&to));
    assert_eq!(remnants(site.dir.path()), [] as [std::path::PathBuf; 0]);

    // Nothing new: nothing is transferred, nothing is touched.
    let again = site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    assert_eq!((again.version, again.unchanged, again.uploaded), (1, true, 0));
    let before = fs::metadata(site.dir.path()).unwrap().modified().unwrap();
    let inode = fs::metadata(&to).unwrap().ino();
    let again = site.place.pull(&to, &PullOptions::new()).await.unwrap();
    assert_eq!((again.version, again.unchanged, again.fetched), (1, true, 0));
    assert_eq!(fs::metadata(&to).unwrap().ino(), inode);
    assert_eq!(fs::metadata(site.dir.path()).unwrap().modified().unwrap(), before);

    // A change moves what changed; a reader keeps its version.
    let reader = DirSnapshot::open(&to).unwrap();
    fs::write(from.join("a"), "another").unwrap();
    let changed = site.place.publish(&from, &PublishOptions::new().expect(1)).await.unwrap();
    assert_eq!((changed.version, changed.uploaded), (2, 7));
    let pulled = site.place.pull(&to, &PullOptions::new()).await.unwrap();
    assert_eq!((pulled.version, pulled.fetched), (2, 7));
    assert_eq!(tree(&from), tree(&to));
    assert_eq!(reader.read("a").unwrap(), b"one");
    drop(reader);
    let numbers: Vec<u64> = site.place.versions().await.unwrap().iter().map(|v| v.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(site.place.latest().await.unwrap().unwrap().files, 6);

    // An old one can still be pulled.
    let old = site.path("old");
    site.place.pull(&old, &PullOptions::new().version(1)).await.unwrap();
    assert_eq!(fs::read(old.join("a")).unwrap(), b"one");
    assert_eq!(fs::read(old.join("big")).unwrap(), big);
}

#[tokio::test]
async fn a_tree_goes_there_and_back_in_memory() {
    round_trip(Site::in_memory()).await;
}

#[tokio::test]
async fn a_tree_goes_there_and_back_on_a_local_file_system() {
    round_trip(Site::local()).await;
}

#[tokio::test]
async fn a_base_that_was_expected_and_isn_t_there_is_a_conflict() {
    let site = Site::in_memory();
    let from = site.path("from");
    commit(&from, &[("a", b"one")]);
    let refused = site.place.publish(&from, &PublishOptions::new().expect(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    site.place.publish(&from, &PublishOptions::new().expect(0)).await.unwrap();
    commit(&from, &[("a", b"two")]);
    let refused = site.place.publish(&from, &PublishOptions::new().expect(0)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    site.place.publish(&from, &PublishOptions::new().expect(1)).await.unwrap();
}

#[tokio::test]
async fn versions_that_are_not_there_are_not_found() {
    let site = Site::in_memory();
    let (from, to) = (site.path("from"), site.path("to"));
    let refused = site.place.pull(&to, &PullOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    commit(&from, &[("a", b"one")]);
    site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    for number in [0, 2] {
        let refused = site.place.pull(&to, &PullOptions::new().version(number)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }
    assert!(!to.exists());
}

#[tokio::test]
async fn collecting_keeps_what_is_kept_and_nothing_else() {
    let site = Site::local();
    let (from, to) = (site.path("from"), site.path("to"));
    for number in 1..=5u64 {
        let own = noise(number, 2000);
        commit(&from, &[("same", &noise(99, 3000)), ("own", &own)]);
        site.place.publish(&from, &PublishOptions::new()).await.unwrap();
    }
    let options = CollectOptions::new().keep(2).grace(Duration::ZERO);
    let would = site.place.collect(&options.clone().dry_run(true)).await.unwrap();
    assert_eq!(site.place.versions().await.unwrap().len(), 5);
    let done = site.place.collect(&options).await.unwrap();
    assert_eq!(would, done);
    // Of three versions: the pack of two and the manifest; the first pack is needed, for all share it.
    assert_eq!((done.oldest, done.objects, done.sessions), (4, 5, 0));
    let numbers: Vec<u64> = site.place.versions().await.unwrap().iter().map(|v| v.number).collect();
    assert_eq!(numbers, [4, 5]);
    for number in [4, 5] {
        site.place.pull(&to, &PullOptions::new().version(number)).await.unwrap();
        assert_eq!(fs::read(to.join("own")).unwrap(), noise(number, 2000));
    }
    let gone = site.place.pull(&to, &PullOptions::new().version(3)).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains("was collected"));
    // The record that collected is no version.
    let fence = site.place.pull(&to, &PullOptions::new().version(6)).await.unwrap_err();
    assert_eq!(fence.kind(), ErrorKind::NotFound);
    // Once more finds nothing, and says nothing.
    assert_eq!(site.place.collect(&options).await.unwrap().objects, 0);
    let next = site.place.publish(&from, &PublishOptions::new().expect(5)).await.unwrap();
    assert!(next.unchanged);
    commit(&from, &[("own", b"new")]);
    assert_eq!(site.place.publish(&from, &PublishOptions::new().expect(5)).await.unwrap().version, 7);
}

#[tokio::test]
async fn a_store_that_keeps_its_promises_is_found_good() {
    for site in [Site::in_memory(), Site::local()] {
        let check = site.place.check_store().await.unwrap();
        assert_eq!(check.races, 12);
        assert_eq!(site.place.latest().await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_can_t_be_published_is_refused_by_name() {
    let site = Site::in_memory();
    let from = site.path("from");
    let refused = async |name: &str| {
        let error = site.place.publish(&from, &PublishOptions::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(name.as_ref())), "{error}");
        fs::remove_file(from.join(name)).unwrap();
    };
    commit(&from, &[("d/a", b"one")]);
    symlink("/etc/passwd", from.join("d/absolute")).unwrap();
    refused("d/absolute").await;
    symlink("../..", from.join("d/out")).unwrap();
    refused("d/out").await;
    rustix::fs::mknodat(rustix::fs::CWD, from.join("d/fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    refused("d/fifo").await;
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    refused("socket").await;
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    fs::write(from.join(odd), "").unwrap();
    let error = site.place.publish(&from, &PublishOptions::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Refused, Some(odd.as_ref())));
    assert_eq!(site.place.latest().await.unwrap(), None);
}

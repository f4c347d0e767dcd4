//! What the tests share.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durafile::AtomicDir;
use durafile_publish::Published;
use durafile_publish::object_store::ObjectStore;
use durafile_publish::object_store::aws::AmazonS3Builder;
use durafile_publish::object_store::local::LocalFileSystem;
use durafile_publish::object_store::memory::InMemory;
use durafile_publish::object_store::prefix::PrefixStore;
use tempfile::TempDir;

/// A place for trees, with a store that fits the test.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) place: Published,
}

impl Site {
    pub(crate) fn on(store: Arc<dyn ObjectStore>, prefix: &str) -> Site {
        let place = Published::new(store.clone(), prefix);
        Site { dir: tempfile::tempdir().unwrap(), store, place }
    }

    pub(crate) fn in_memory() -> Site {
        Site::on(Arc::new(InMemory::new()), "site")
    }

    pub(crate) fn local() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(dir.path().join("store")).unwrap());
        let place = Published::new(store.clone(), "site");
        Site { dir, store, place }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Makes a directory hold exactly these files, by a commit.
pub(crate) fn commit(target: &Path, files: &[(&str, &[u8])]) {
    let mut dir = AtomicDir::create(target).unwrap();
    for (name, content) in files {
        dir.write(name, content).unwrap();
    }
    dir.commit().unwrap();
}

/// Everything in a tree: files with content and mark of being executable, links with `->`, directories with `/`.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mut name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                name.push('/');
                pending.push(path);
                Vec::new()
            } else if meta.is_symlink() {
                name.push_str("->");
                fs::read_link(&path).unwrap().to_str().unwrap().into()
            } else {
                if meta.permissions().mode() & 0o111 != 0 {
                    name.push('*');
                }
                fs::read(&path).unwrap()
            };
            all.insert(name, content);
        }
    }
    all
}

/// What stands beside the targets and should not.
pub(crate) fn remnants(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".durafile")).collect()
}

/// Bytes that don't repeat, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// Says that a test can't run here; a failure where nothing may be skipped.
pub(crate) fn skipped<T>(why: &str) -> Option<T> {
    assert!(std::env::var("DURAFILE_REQUIRE_ALL").as_deref() != Ok("1"), "SKIPPED: {why}");
    eprintln!("SKIPPED: {why}");
    None
}

/// A server's bucket, all of its own; `ci/with-stores` starts the servers.
pub(crate) fn server(name: &str) -> Option<Arc<dyn ObjectStore>> {
    let Ok(endpoint) = std::env::var(format!("PUBLISH_TEST_{name}")) else {
        return skipped(&format!("PUBLISH_TEST_{name} names no server; ci/with-stores starts them"));
    };
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("testtest")
        .with_bucket_name("bucket")
        .build();
    Some(Arc::new(PrefixStore::new(store.unwrap(), format!("test-{}", std::process::id()))))
}

//! Content that was fetched, by its hash, in a local directory. What is in it is believed only after it was read and hashed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::error::{Error, Result};
use crate::hash::{Hash, Identity, PART};
use crate::keys::Session;

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// It goes when the pull is complete.
    temporary: bool,
    /// Only this user can write to it: a file in it stays what it was when it was hashed.
    private: bool,
    /// The mode of new files as the umask leaves it, all bits asked for.
    mask: u32,
    /// It is being removed. Requests that were given up may still be at work on their threads, and must not bring
    /// anything new.
    closed: RwLock<bool>,
}

impl Cache {
    /// The directory that the caller chose.
    pub(crate) fn chosen(dir: &Path) -> Result<Cache> {
        fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
        Cache::open(dir.to_owned(), false)
    }

    /// One beside the target, in whose name it is: the next pull finds it again.
    pub(crate) fn beside(place: &Path, name: &std::ffi::OsStr) -> Result<Cache> {
        let dir = Cache::path_beside(place, name);
        let cache = match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", &dir, e)),
            _ => Cache::open(dir.clone(), true)?,
        };
        if cache.private {
            return Ok(cache);
        }
        let cause = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to somebody else, or others may write to it",
        );
        Err(Error::io("use", &dir, cause))
    }

    fn path_beside(place: &Path, name: &std::ffi::OsStr) -> PathBuf {
        let mark = Hash::of(name.as_encoded_bytes()).to_string();
        place.join(format!(".durafile-pull-{}", &mark[..16]))
    }

    /// Has a pull of this target, which is no link, left something?
    pub(crate) fn is_left_beside(target: &Path) -> bool {
        let (Some(place), Some(name)) = (target.parent(), target.file_name()) else { return false };
        Cache::path_beside(place, name).exists()
    }

    fn open(dir: PathBuf, temporary: bool) -> Result<Cache> {
        let fail = |e| Error::io("use", &dir, e);
        let meta = fs::symlink_metadata(&dir).map_err(fail)?;
        let mine = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
        let private = mine && meta.mode() & 0o022 == 0;
        let mask = umask_of(&dir).map_err(fail)?;
        Ok(Cache { dir, temporary, private, mask, closed: RwLock::new(false) })
    }

    /// Only this user can write to it.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// A mode as the umask leaves it.
    pub(crate) fn masked(&self, mode: u32) -> u32 {
        mode & self.mask
    }

    pub(crate) fn path(&self, hash: &Hash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    /// Opens content. It may not be what its name says.
    pub(crate) fn open_content(&self, hash: &Hash) -> Result<File> {
        let path = self.path(hash);
        no_link(OpenOptions::new().read(true)).open(&path).map_err(|e| Error::io("open", &path, e))
    }

    /// Is it there, and what it should be? What is damaged is removed.
    pub(crate) fn has(&self, hash: &Hash, size: u64) -> Result<bool> {
        let path = self.path(hash);
        let file = match self.open_content(hash) {
            Err(e) if e.local() == Some(durafile::ErrorKind::NotFound) => return Ok(false),
            file => file?,
        };
        let found = Identity::read(file).map_err(|e| Error::io("read", &path, e))?;
        if (found.0, found.1.hash) == (size, *hash) {
            return Ok(true);
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(false),
        }
    }

    /// Takes content that was verified.
    pub(crate) fn put(&self, hash: &Hash, content: &[u8]) -> Result<()> {
        let _open = self.enter()?;
        let file = self.open_part_file(hash)?;
        file.file.set_len(content.len() as u64).map_err(|e| Error::io("write", &file.path, e))?;
        file.write(0, content)?;
        file.finish()
    }

    /// Content on its way. What a pull that was interrupted left of it is kept.
    pub(crate) fn begin(&self, hash: &Hash) -> Result<PartFile> {
        let _open = self.enter()?;
        self.open_part_file(hash)
    }

    /// As long as this is held, it is not removed.
    fn enter(&self) -> Result<RwLockReadGuard<'_, bool>> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(Error::cancelled()) } else { Ok(closed) }
    }

    fn open_part_file(&self, hash: &Hash) -> Result<PartFile> {
        let (path, complete) = (self.dir.join(format!("{hash}.part")), self.path(hash));
        loop {
            let file = open_part(&path, false)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Another pull fetches it at the same time: they go separate ways.
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let own = Session::random().map_err(|e| Error::io("name", &path, e))?;
                    let path = self.dir.join(format!("{hash}.{own}.part"));
                    return Ok(PartFile { file: open_part(&path, true)?, path, complete, shared: false });
                }
                locked => locked.map_err(|e| Error::io("lock", &path, e.into()))?,
            }
            if is_at(&file, &path) {
                return Ok(PartFile { file, path, complete, shared: true });
            }
        }
    }

    /// Ends it if it was for one pull.
    pub(crate) fn discard(&self) {
        if self.temporary {
            *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
            // What stays is used or removed by the next pull.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Content that is being written. Its lock ends with it.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    path: PathBuf,
    complete: PathBuf,
    /// The next pull may go on with it.
    shared: bool,
}

impl PartFile {
    /// Which parts are there. Also makes the file as long as the whole.
    pub(crate) fn verified(&self, size: u64, parts: &[Hash]) -> Result<Vec<bool>> {
        let fail = |e| Error::io("read", &self.path, e);
        let length = self.file.metadata().map_err(fail)?.len();
        self.file.set_len(size).map_err(fail)?;
        let mut buffer = Vec::new();
        let mut verify = |(number, hash): (usize, &Hash)| {
            let begin = number as u64 * PART;
            let end = (begin + PART).min(size);
            if end > length {
                return Ok(false);
            }
            buffer.resize((end - begin) as usize, 0);
            self.file.read_exact_at(&mut buffer, begin)?;
            Ok(Hash::of(&buffer) == *hash)
        };
        parts.iter().enumerate().map(&mut verify).collect::<io::Result<_>>().map_err(fail)
    }

    pub(crate) fn write(&self, offset: u64, content: &[u8]) -> Result<()> {
        self.file.write_all_at(content, offset).map_err(|e| Error::io("write", &self.path, e))
    }

    pub(crate) fn finish(&self) -> Result<()> {
        fs::rename(&self.path, &self.complete).map_err(|e| Error::io("complete", &self.path, e))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.shared {
            // After `finish` nothing has that name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
}

fn open_part(path: &Path, new: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).create_new(new).create(true).truncate(false);
    no_link(&mut options).open(path).map_err(|e| Error::io("open", path, e))
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(one), Ok(two)) if id(&one) == id(&two))
}

/// Only creating a file tells without changing it for the whole process.
fn umask_of(dir: &Path) -> io::Result<u32> {
    let path = dir.join(format!("{}.probe", Session::random()?));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o777).open(&path)?;
    let mode = file.metadata().map(|meta| meta.permissions().mode() & 0o777);
    fs::remove_file(&path)?;
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(content: &[u8]) -> Vec<Hash> {
        content.chunks(PART as usize).map(Hash::of).collect()
    }

    #[test]
    fn damaged_content_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::chosen(dir.path()).unwrap();
        let hash = Hash::of(b"content");
        assert!(!cache.has(&hash, 7).unwrap());
        cache.put(&hash, b"content").unwrap();
        assert!(cache.has(&hash, 7).unwrap());
        fs::write(cache.path(&hash), b"c0ntent").unwrap();
        assert!(!cache.has(&hash, 7).unwrap());
        assert!(!cache.path(&hash).exists());
    }

    #[test]
    fn an_interrupted_file_keeps_the_parts_that_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::chosen(dir.path()).unwrap();
        let content = vec![7; 3 * PART as usize];
        let (hash, hashes) = (Identity::read(&content[..]).unwrap().1.hash, parts(&content));
        let part = cache.begin(&hash).unwrap();
        assert_eq!(part.verified(3 * PART, &hashes).unwrap(), [false; 3]);
        part.write(PART, &content[..PART as usize]).unwrap();
        // Torn, as by a crash.
        part.write(2 * PART, &content[..100]).unwrap();
        drop(part);
        let part = cache.begin(&hash).unwrap();
        assert_eq!(part.verified(3 * PART, &hashes).unwrap(), [false, true, false]);
        // While it is being fetched, another pull gets a file of its own, and leaves nothing of it.
        let other = cache.begin(&hash).unwrap();
        assert_eq!(other.verified(3 * PART, &hashes).unwrap(), [false; 3]);
        drop(other);
        part.write(0, &content[..PART as usize]).unwrap();
        part.write(2 * PART, &content[..PART as usize]).unwrap();
        part.finish().unwrap();
        assert!(cache.has(&hash, 3 * PART).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_still_being_written_does_not_keep_a_cache_from_being_removed() {
        let home = tempfile::tempdir().unwrap();
        for _ in 0..100 {
            let cache = Cache::beside(home.path(), "target".as_ref()).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4_u32 {
                    let cache = &cache;
                    let put =
                        move |n: u32| cache.put(&Hash::of(&[thread, n].map(u32::to_ne_bytes).concat()), b"x");
                    scope.spawn(move || (0..2000).find(|n| put(*n).is_err()));
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
                cache.discard();
            });
            assert!(!cache.dir.exists());
        }
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::chosen(&dir.path().join("cache")).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"content").unwrap();
        let hash = Hash::of(b"content");
        std::os::unix::fs::symlink(&victim, cache.path(&hash)).unwrap();
        std::os::unix::fs::symlink(&victim, cache.dir.join(format!("{hash}.part"))).unwrap();
        assert!(cache.has(&hash, 7).is_err());
        assert!(cache.put(&hash, b"content").is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"content");
    }
}

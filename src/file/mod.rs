//! Saving one file: at once, or as a stream.

pub(crate) mod atomic_file;

use std::io::{self, Read};
use std::path::Path;

use crate::atomic::staged::Staged;
use crate::atomic::target::Target;
use crate::atomic::unchanged::{Content, unchanged};
use crate::cancel::CancelToken;
use crate::condition::{self, Condition};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::journal::checksum::Checksum;
use crate::options::WriteOptions;
use crate::options::durability::Committed;
use crate::overwrite::save;

/// Replaces or creates the file at `path`, atomically and durably.
///
/// When this returns `Ok`, the content survives power loss. At every instant the path leads to
/// the complete old or the complete new content. Links are followed; mode, owner, ACLs and
/// extended attributes of a replaced file are kept. See [`WriteOptions`] for more.
///
/// A program that watches the directory for finished files (on Linux by inotify's `IN_CLOSE_WRITE` and `IN_MOVED_TO`) hears of
/// the file under its own name, of a new one too. A new one that not even its owner may open for writing is
/// renamed in for that, so that a kill may leave a remnant.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::write("settings.toml", "theme = 'dark'\n")?;
/// # assert_eq!(std::fs::read("settings.toml")?, b"theme = 'dark'\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::kind`] says what went wrong, and [`Error::target`] what the path leads to now. If anything fails before the
/// rename, the old content stays and nothing else is left behind.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<Committed> {
    write_bytes(path.as_ref(), contents.as_ref())
}

/// Does what [`WriteOptions::write`] does with the default options, by `atomic` alone: a program that calls nothing
/// else carries one save, and no code for overwriting in place or for conditions.
fn write_bytes(path: &Path, contents: &[u8]) -> Result<Committed> {
    const DEFAULTS: &WriteOptions = &WriteOptions::new();
    failing::check(path)?;
    let mut staged = Staged::create(Target::resolve(path, DEFAULTS)?, DEFAULTS)?;
    staged.stream.write_whole(contents)?;
    staged.publish_by_default()
}

/// Replaces or creates the file at `path` with `value` as JSON, atomically and durably.
///
/// The text goes straight into the staged file and is never held in memory. The bytes are those
/// of `serde_json::to_vec`. See [`write()`] for what is promised.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// #[derive(serde::Serialize)]
/// struct Settings {
///     theme: &'static str,
/// }
///
/// durafile::write_json("settings.json", &Settings { theme: "dark" })?;
/// # assert_eq!(std::fs::read("settings.json")?, br#"{"theme":"dark"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`write()`], and [`Serialize`](ErrorKind::Serialize) if the value can't be JSON.
#[cfg(feature = "json")]
pub fn write_json<T: serde::Serialize + ?Sized>(path: impl AsRef<Path>, value: &T) -> Result<Committed> {
    WriteOptions::new().write_json(path, value)
}

impl WriteOptions {
    /// [`write`](crate::write()) with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("token");
    /// use durafile::{ErrorKind, WriteOptions};
    ///
    /// let options = WriteOptions::new().create_new(true);
    /// options.write(&path, "first")?;
    /// assert_eq!(options.write(&path, "second").unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()), and what these options say: such as
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) with [`create_new`](WriteOptions::create_new).
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<Committed> {
        self.write_bytes(path.as_ref(), contents.as_ref())
    }

    fn write_bytes(&self, path: &Path, contents: &[u8]) -> Result<Committed> {
        self.check_condition(path)?;
        self.check_previous(path)?;
        save::check(self, path)?;
        self.check_size(contents, path)?;
        failing::check(path)?;
        let mut target = Target::resolve(path, self)?;
        save::begin(&mut target, self)?;
        let condition = Condition::enter(&mut target, self)?;
        save_bytes(target, self, condition, contents)
    }

    /// [`write_json`](crate::write_json) with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.json");
    /// use durafile::WriteOptions;
    ///
    /// WriteOptions::new().pretty(true).final_newline(true).write_json(&path, &["dark"])?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "[\n  \"dark\"\n]\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](WriteOptions::write), and [`Serialize`](ErrorKind::Serialize) if the value can't be JSON.
    #[cfg(feature = "json")]
    pub fn write_json<T: serde::Serialize + ?Sized>(
        &self,
        path: impl AsRef<Path>,
        value: &T,
    ) -> Result<Committed> {
        let mut file = self.open(path)?;
        file.content().write_json(value, self)?;
        file.commit()
    }

    /// Saves everything that `reader` yields, in constant memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload.bin");
    /// use durafile::WriteOptions;
    ///
    /// let upload = std::io::repeat(7);
    /// # use std::io::Read;
    /// # let upload = upload.take(5000);
    /// WriteOptions::new().size_limit(1 << 20).write_from(&path, upload)?;
    /// # assert_eq!(std::fs::read(&path)?, [7; 5000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()), and [`Reader`](ErrorKind::Reader) if the reader fails;
    /// nothing is published then.
    pub fn write_from(&self, path: impl AsRef<Path>, mut reader: impl Read) -> Result<Committed> {
        let mut file = self.open(path)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            CancelToken::check(self.cancel.as_ref(), file.path())?;
            let read = match reader.read(&mut chunk) {
                Ok(0) => return file.commit(),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    // The reader may have looked at the token, too.
                    CancelToken::check(self.cancel.as_ref(), file.path())?;
                    return Err(Error::caused(ErrorKind::Reader, "read the new content of", file.path(), e));
                }
            };
            let Some(data) = chunk.get(..read) else {
                return Err(Error::new(ErrorKind::Reader, "read the new content of", file.path()));
            };
            file.content().write(data)?;
        }
    }
}

/// Steps 2 to 11 for content in memory.
pub(crate) fn save_bytes(
    target: Target,
    options: &WriteOptions,
    condition: Option<Condition>,
    contents: &[u8],
) -> Result<Committed> {
    if options.skip_unchanged {
        if let Some(committed) = unchanged(&target, &Content::Bytes(contents), options)? {
            return match condition {
                Some(condition) => condition.unchanged(&target, committed, Checksum::of(contents)),
                None => Ok(committed),
            };
        }
    }
    let mut staged = save::stage(target, options)?;
    staged.stream.write_whole(contents)?;
    condition::publish(staged, options, condition, &|_| Ok(Checksum::of(contents)))
}

/// `write_from` reads so much at once.
const CHUNK: usize = 256 << 10;

//! Saves that fail on purpose, so that an application can test what it does then.

/// A question that every operation of this crate that changes something asks before it begins. Without the feature
/// `crash_testing` there is nothing to ask.
#[cfg(not(feature = "crash_testing"))]
#[inline]
pub(crate) fn check(_path: &std::path::Path) -> crate::error::Result<()> {
    Ok(())
}

#[cfg(feature = "crash_testing")]
pub(crate) use on_purpose::check;
#[cfg(feature = "crash_testing")]
pub use on_purpose::{FailSaves, fail_saves};

#[cfg(feature = "crash_testing")]
mod on_purpose {
    use std::cell::RefCell;
    use std::marker::PhantomData;
    use std::path::Path;

    use crate::error::{Error, Result};
    use crate::error_kind::ErrorKind;

    thread_local! {
        /// The kinds that the living guards of this thread ask for, each with the number of its guard.
        static ASKED: RefCell<Asked> = const { RefCell::new(Asked { next: 0, guards: Vec::new() }) };
    }

    struct Asked {
        next: u64,
        guards: Vec<(u64, ErrorKind)>,
    }

    /// Makes every save that begins in this thread fail with this kind, until the guard is dropped.
    ///
    /// This is for the tests of an application: what does it do when the disk is full? Saves, `open`, the `commit` of a
    /// stream, the beginning and the `commit` of a set, [`update`](crate::update()) and the operations like
    /// [`rename`](crate::rename) fail before anything is published, with
    /// [`TargetState::Unchanged`](crate::TargetState::Unchanged), and leave nothing behind. Adding files to a set
    /// that has begun does not fail, but its `commit` does. Reading, locks and [`recover`](crate::recover()) go on.
    ///
    /// Only this thread is affected, so that tests that run at the same time don't disturb each other. If there are
    /// several guards, the newest one counts. Without the feature `crash_testing` this check is not compiled in.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// use durafile::ErrorKind;
    /// use durafile::crash_testing::fail_saves;
    ///
    /// durafile::write(&path, "theme = 'dark'")?;
    /// {
    ///     let _full = fail_saves(ErrorKind::StorageFull);
    ///     let refused = durafile::write(&path, "theme = 'light'").unwrap_err();
    ///     assert_eq!(refused.kind(), ErrorKind::StorageFull);
    /// }
    /// assert_eq!(std::fs::read(&path)?, b"theme = 'dark'");
    /// durafile::write(&path, "theme = 'light'")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_saves(kind: ErrorKind) -> FailSaves {
        ASKED.with_borrow_mut(|asked| {
            let number = asked.next;
            asked.next += 1;
            asked.guards.push((number, kind));
            FailSaves { number, _thread: PhantomData }
        })
    }

    /// As long as this guard lives, saves of its thread fail; see [`fail_saves`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// use durafile::ErrorKind;
    /// use durafile::crash_testing::fail_saves;
    ///
    /// let guard = fail_saves(ErrorKind::QuotaExceeded);
    /// assert!(durafile::write(&path, "theme = 'dark'").is_err());
    /// drop(guard);
    /// assert!(durafile::write(&path, "theme = 'dark'").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Debug)]
    #[must_use = "saves fail only as long as the guard lives"]
    pub struct FailSaves {
        number: u64,
        /// The guard belongs to the thread that made it.
        _thread: PhantomData<*const ()>,
    }

    impl Drop for FailSaves {
        fn drop(&mut self) {
            // A thread that ends may have lost its list before.
            let _ = ASKED.try_with(|asked| {
                if let Ok(mut asked) = asked.try_borrow_mut() {
                    asked.guards.retain(|(number, _)| *number != self.number);
                }
            });
        }
    }

    pub(crate) fn check(path: &Path) -> Result<()> {
        let kind = ASKED.try_with(|asked| Some(asked.try_borrow().ok()?.guards.last()?.1));
        match kind.ok().flatten() {
            None => Ok(()),
            Some(kind) => {
                Err(Error::new(kind, "save", path)
                    .because("it was made to fail by crash_testing::fail_saves"))
            }
        }
    }
}

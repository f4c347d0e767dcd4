//! Goal: section 4 of the contract as a caller sees it: an error says what, where and why, once
//! each, and survives the way into `io::Error`; and the promises made by the types alone.

use std::collections::HashSet;
use std::error::Error as _;
use std::fmt::Debug;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};

use durafile::{AtomicFile, Committed, Durability, Error, ErrorKind, Symlinks, TargetState, WriteOptions};
use fs_err as fs;

use crate::support::{dir, refused};

#[test]
fn an_error_names_operation_and_path_and_leaves_the_cause_to_source() {
    let dir = dir();
    let path = dir.path().join("missing/file");
    let error = refused(durafile::write(&path, "x"), ErrorKind::NotFound);
    let shown = error.to_string();
    assert_eq!(error.path(), path);
    assert!(shown.contains(&format!("{path:?}")), "{shown}");
    assert!(shown.contains(error.operation()), "{shown}");
    assert!(!shown.ends_with('.') && !shown.contains('\n'), "{shown}");

    let cause = error.source().unwrap().to_string();
    assert!(!shown.contains(&cause), "{shown} repeats {cause}");
    let raw = error.io_error().unwrap();
    // Windows has two codes for it.
    assert!(raw.raw_os_error() == Some(2) || cfg!(windows), "{raw}");
    assert!(error.files().is_empty());

    // For programs that print an error and nothing else.
    assert_eq!(format!("{error:#}"), format!("{shown}: {cause}"));
    assert_eq!(format!("{:#}", io::Error::from(error.clone())), format!("{shown}: {cause}"));

    let hint = error.hint();
    assert!(hint.ends_with('.') && hint.len() > 10, "{hint}");
}

#[test]
fn an_error_turned_into_io_error_keeps_kind_path_and_cause() {
    let dir = dir();
    fs::write(dir.path().join("file"), "old").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let limit = WriteOptions::new().size_limit(0);
    let new = WriteOptions::new().create_new(true);
    for (saved, kind) in [
        (durafile::write(dir.path().join("missing/file"), "x"), io::ErrorKind::NotFound),
        (durafile::write(dir.path().join("folder"), "x"), io::ErrorKind::IsADirectory),
        (durafile::write(dir.path().join("file/x"), "x"), io::ErrorKind::NotADirectory),
        (new.write(dir.path().join("file"), "x"), io::ErrorKind::AlreadyExists),
        (limit.write(dir.path().join("file"), "x"), io::ErrorKind::FileTooLarge),
    ] {
        let error = saved.unwrap_err();
        let (path, shown) = (error.path().to_owned(), error.to_string());
        let told = io::Error::from(error);
        assert_eq!(told.kind(), kind, "{told:?}");
        assert!(told.to_string().contains(&shown), "{told}");
        let inner = told.get_ref().unwrap();
        let ours = inner.downcast_ref::<Error>().unwrap();
        assert_eq!(ours.path(), path);
    }
    // So `?` works in a function that returns `io::Result`.
    let in_io = || -> io::Result<Committed> { Ok(durafile::write(dir.path(), "x")?) };
    assert_eq!(in_io().unwrap_err().kind(), io::ErrorKind::IsADirectory);
}

#[test]
fn an_error_is_small_and_may_travel() {
    fn travels<T: Send + Sync + Debug + 'static>() {}
    fn moves<T: Send + Debug + 'static>() {}
    fn survives_unwinding<T: UnwindSafe + RefUnwindSafe>() {}
    assert!(size_of::<Error>() <= 2 * size_of::<usize>());
    travels::<Error>();
    travels::<WriteOptions>();
    travels::<Committed>();
    travels::<(ErrorKind, TargetState, Durability, Symlinks)>();
    moves::<AtomicFile>();
    survives_unwinding::<WriteOptions>();
    survives_unwinding::<ErrorKind>();
}

#[test]
fn kinds_have_stable_names_of_their_own() {
    let table = [
        (ErrorKind::NotFound, "not_found"),
        (ErrorKind::PermissionDenied, "permission_denied"),
        (ErrorKind::AlreadyExists, "already_exists"),
        (ErrorKind::StorageFull, "storage_full"),
        (ErrorKind::QuotaExceeded, "quota_exceeded"),
        (ErrorKind::ReadOnlyFilesystem, "read_only_filesystem"),
        (ErrorKind::InvalidPath, "invalid_path"),
        (ErrorKind::IsADirectory, "is_a_directory"),
        (ErrorKind::NotADirectory, "not_a_directory"),
        (ErrorKind::TooLarge, "too_large"),
        (ErrorKind::Busy, "busy"),
        (ErrorKind::CrossDevice, "cross_device"),
        (ErrorKind::Unsupported, "unsupported"),
        (ErrorKind::Serialize, "serialize"),
        (ErrorKind::Reader, "reader"),
        (ErrorKind::Untrusted, "untrusted"),
        (ErrorKind::Io, "io"),
    ];
    let mut kinds = HashSet::new();
    for (kind, name) in table {
        assert_eq!(kind.as_str(), name);
        assert!(kinds.insert(kind));
    }
}

#[test]
fn options_are_const_cloneable_and_default() {
    const OPTIONS: WriteOptions = WriteOptions::new();
    let default = format!("{:?}", WriteOptions::default());
    assert_eq!(format!("{OPTIONS:?}"), default);
    assert_eq!(format!("{:?}", OPTIONS.clone()), default);
    assert_eq!(Durability::default(), Durability::Full);
    assert_eq!(Symlinks::default(), Symlinks::Follow);
    for changed in [
        OPTIONS.durability(Durability::Data),
        OPTIONS.create_new(true),
        OPTIONS.create_parents(true),
        OPTIONS.preserve_metadata(false),
        OPTIONS.symlinks(Symlinks::Refuse),
        OPTIONS.skip_unchanged(true),
        OPTIONS.size_limit(1),
        OPTIONS.pretty(true),
    ] {
        assert_ne!(format!("{changed:?}"), default);
    }
}

#[test]
fn less_durability_is_reported_as_asked_for() {
    let dir = dir();
    let path = dir.path().join("file");
    let most = crate::support::best(&dir);
    for asked in [Durability::Full, Durability::Data, Durability::None] {
        for contents in ["new", "replaced"] {
            let options = WriteOptions::new().durability(asked);
            let committed = options.write(&path, contents).unwrap();
            assert_eq!(committed.durability(), asked.min(most));
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        fs::remove_file(&path).unwrap();
    }
}

//! Opening files with just the access and the sharing that is meant.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use super::super::{FileId, Kind, Stat};
use super::errors::link_in_the_way;

/// Stands for every owner.
pub(super) const OWNER: u32 = 0;

const FILE_READ_ATTRIBUTES: u32 = 0x80;
const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
const DELETE: u32 = 0x1_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const GENERIC_READ: u32 = 0x8000_0000;

const SHARE_READ: u32 = 1;
const SHARE_WRITE: u32 = 2;
const SHARE_DELETE: u32 = 4;
const SHARE_ALL: u32 = SHARE_READ | SHARE_WRITE | SHARE_DELETE;
/// Nobody else may write, or keep others from writing.
const SHARE_NO_WRITE: u32 = SHARE_READ | SHARE_DELETE;

/// The flag without which a directory can't be opened.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// A link is opened itself, not what it leads to.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
const DELETE_ON_CLOSE: u32 = 0x0400_0000;

const ATTRIBUTE_READONLY: u64 = 0x1;
const ATTRIBUTE_DIRECTORY: u64 = 0x10;
const ATTRIBUTE_ENCRYPTED: u64 = 0x4000;
const ATTRIBUTE_REPARSE_POINT: u64 = 0x400;

fn options(access: u32, share: u32, flags: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.access_mode(access).share_mode(share).custom_flags(flags);
    options
}

/// A handle that neither is in anybody's way nor finds anybody in its own.
pub(super) fn to_inspect(path: &Path) -> io::Result<File> {
    options(FILE_READ_ATTRIBUTES, SHARE_ALL, BACKUP_SEMANTICS | OPEN_REPARSE_POINT).open(path)
}

/// As [`to_inspect`], for what a link leads to.
pub(super) fn to_inspect_through(path: &Path) -> io::Result<File> {
    options(FILE_READ_ATTRIBUTES, SHARE_ALL, BACKUP_SEMANTICS).open(path)
}

/// A handle for times and attributes, of directories and links too.
pub(super) fn to_describe(path: &Path) -> io::Result<File> {
    let access = FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES;
    options(access, SHARE_ALL, BACKUP_SEMANTICS | OPEN_REPARSE_POINT).open(path)
}

/// Would a rename or deletion be refused because somebody has it open?
pub(super) fn to_move(path: &Path) -> io::Result<File> {
    options(DELETE, SHARE_ALL, BACKUP_SEMANTICS | OPEN_REPARSE_POINT).open(path)
}

/// A file that is deduplicated or kept in a cloud has a reparse point, too, and only whoever passes through that reads
/// its content: another handle would read zeros.
pub(super) fn to_read(path: &Path) -> io::Result<File> {
    let itself = options(GENERIC_READ, SHARE_ALL, BACKUP_SEMANTICS | OPEN_REPARSE_POINT).open(path)?;
    let found = winapi_util::file::information(&itself)?;
    let is_plain = found.file_attributes() & ATTRIBUTE_REPARSE_POINT == 0;
    if is_plain || itself.metadata()?.file_type().is_symlink() {
        return Ok(itself);
    }
    let content = options(GENERIC_READ, SHARE_ALL, BACKUP_SEMANTICS).open(path)?;
    let is_same = stat(&content)?.id == stat(&itself)?.id;
    if is_same { Ok(content) } else { Err(link_in_the_way()) }
}

pub(super) fn to_write(path: &Path) -> io::Result<File> {
    options(GENERIC_WRITE, SHARE_ALL, OPEN_REPARSE_POINT).open(path)
}

/// A new file, which nobody else can open for writing while it is open.
pub(super) fn to_create(path: &Path) -> io::Result<File> {
    options(GENERIC_READ | GENERIC_WRITE, SHARE_NO_WRITE, OPEN_REPARSE_POINT)
        .write(true)
        .create_new(true)
        .open(path)
}

/// Excludes all who open it this way or shared, and nobody else who only reads.
pub(super) fn exclusively(path: &Path) -> io::Result<File> {
    options(GENERIC_READ | GENERIC_WRITE, SHARE_NO_WRITE, OPEN_REPARSE_POINT).open(path)
}

/// Excludes all who open it for writing.
pub(super) fn shared(path: &Path) -> io::Result<File> {
    options(GENERIC_READ, SHARE_NO_WRITE, OPEN_REPARSE_POINT).open(path)
}

/// [`exclusively`], of a file that is created for it and is gone when this is closed.
pub(super) fn exclusively_for_now(path: &Path) -> io::Result<File> {
    options(GENERIC_READ | GENERIC_WRITE | DELETE, SHARE_READ, OPEN_REPARSE_POINT | DELETE_ON_CLOSE)
        .write(true)
        .create(true)
        .open(path)
}

/// [`shared`], of a file that is created for it. Nobody can remove it meanwhile.
pub(super) fn shared_for_now(path: &Path) -> io::Result<File> {
    options(GENERIC_READ, SHARE_READ, OPEN_REPARSE_POINT).write(true).create(true).open(path)
}

/// The times that can be given to another file.
pub(super) fn times(handle: &File) -> io::Result<FileTimes> {
    let found = handle.metadata()?;
    Ok(FileTimes::new().set_accessed(found.accessed()?).set_modified(found.modified()?))
}

pub(super) fn stat(handle: &File) -> io::Result<Stat> {
    let found = winapi_util::file::information(handle)?;
    let has = |attribute| found.file_attributes() & attribute != 0;
    let is_link = has(ATTRIBUTE_REPARSE_POINT) && handle.metadata()?.file_type().is_symlink();
    let kind = match has(ATTRIBUTE_DIRECTORY) {
        _ if is_link => Kind::Symlink,
        true => Kind::Dir,
        false => Kind::File,
    };
    // "Read-only" of a directory says how it is shown, and nothing about rights.
    let mode = match kind {
        Kind::Dir => 0o700,
        _ if has(ATTRIBUTE_READONLY) => 0o400,
        _ => 0o600,
    };
    Ok(Stat {
        kind,
        id: FileId { dev: found.volume_serial_number(), ino: found.file_index() },
        size: found.file_size(),
        nlink: found.number_of_links(),
        mode,
        uid: OWNER,
        gid: OWNER,
        mount: None,
        mount_root: false,
        // What is mounted in a directory stands there as a kind of link.
        tells_mount_root: true,
        is_immutable_or_append_only: false,
        is_encrypted: has(ATTRIBUTE_ENCRYPTED),
    })
}

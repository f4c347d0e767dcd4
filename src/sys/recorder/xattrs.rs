//! Extended attributes by path, for snapshots.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs;

use crate::sys::Xattrs;
use crate::sys::unix::xattr::{read_names, read_value};
use crate::sys::unix::{is_unsupported, retry};

/// Security modules give attributes of their own to every file.
fn is_tracked(name: &CStr) -> bool {
    !name.to_bytes().starts_with(b"security.")
}

pub(crate) fn xattrs_of(path: &Path) -> io::Result<Xattrs> {
    let names = read_names(&|buffer| fs::llistxattr(path, buffer));
    collect(names, |name, buffer| fs::lgetxattr(path, name, buffer))
}

pub(super) fn xattrs_of_fd(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let names = read_names(&|buffer| fs::flistxattr(fd, buffer));
    collect(names, |name, buffer| fs::fgetxattr(fd, name, buffer))
}

fn collect(
    names: io::Result<Vec<CString>>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let names = match names {
        Err(e) if is_unsupported(&e) => return Ok(Xattrs::new()),
        names => names?,
    };
    let value = |name: CString| Ok((name.clone(), read_value(&|buffer| get(&name, buffer))?));
    names.into_iter().filter(|name| is_tracked(name)).map(value).collect()
}

pub(crate) fn set_xattr_of(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    retry(|| fs::lsetxattr(path, name, value, fs::XattrFlags::empty()))
}

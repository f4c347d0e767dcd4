//! Extended attributes.

use std::ffi::CString;
use std::io;

use rustix::fs;

use super::errors::is_too_long;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::errors::{is_transient, is_unsupported, no_such_xattr};
use super::{File, retry};
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::sys::{ACL, Xattrs};

/// Reads a list of NUL-terminated names; most files have few or none.
pub(in crate::sys) fn read_names(
    call: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<CString>> {
    let list = read_value(call)?;
    let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// Calls with a buffer that grows until the answer fits; Linux bounds both lists and values
/// at 64 KiB.
pub(in crate::sys) fn read_value(
    call: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut small = [0u8; 512];
    match retry(|| call(&mut small)) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(e) if is_too_long(&e) => {}
        Err(e) => return Err(e),
    }
    let mut large = vec![0u8; 64 << 10];
    let len = retry(|| call(&mut large))?;
    large.truncate(len);
    Ok(large)
}

/// Reads all attributes as far as the caller may, and says whether these are all. `names` is what listing them gave.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn read_listed(
    names: io::Result<Vec<CString>>,
    get: &dyn Fn(&CString, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<(Xattrs, bool)> {
    match names {
        Ok(names) => read_all(names, get),
        Err(e) if is_unsupported(&e) => Ok((Vec::new(), true)),
        // The ACL has a name of its own. File systems answer with any errno where they can't list.
        Err(_) => read_all(vec![ACL.to_owned()], get).map(|(acl, _)| (acl, false)),
    }
}

/// Reads all of these attributes, and says whether it could. One that the caller may not read, or that was removed
/// since the list was read, is left out; but an ACL that can't be read is empty, since nobody may gain the rights that
/// it took away.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn read_all(
    names: Vec<CString>,
    get: &dyn Fn(&CString, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<(Xattrs, bool)> {
    let (mut all, mut is_complete) = (Vec::with_capacity(names.len()), true);
    for name in names {
        match read_value(&|buffer| get(&name, buffer)) {
            Ok(value) => all.push((name, value)),
            Err(e) if is_transient(&e) => return Err(e),
            Err(e) if no_such_xattr(&e) || is_unsupported(&e) => {}
            Err(_) => {
                is_complete = false;
                if name.as_c_str() == ACL {
                    all.push((name, Vec::new()));
                }
            }
        }
    }
    Ok((all, is_complete))
}

impl File {
    /// All attributes as far as the caller may read them, and whether these are all.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(in crate::sys) fn xattrs(&self) -> io::Result<(Xattrs, bool)> {
        read_listed(self.xattr_names(), &|name, buffer| fs::fgetxattr(&self.fd, name, buffer))
    }

    pub(crate) fn xattr_names(&self) -> io::Result<Vec<CString>> {
        read_names(&|buffer| fs::flistxattr(&self.fd, buffer))
    }

    pub(crate) fn xattr(&self, name: &CString) -> io::Result<Vec<u8>> {
        read_value(&|buffer| fs::fgetxattr(&self.fd, name.as_c_str(), buffer))
    }

    pub(crate) fn set_xattr(&self, name: &CString, value: &[u8]) -> io::Result<()> {
        record!(
            Op::SetXattr { file: self, name, value },
            fs::fsetxattr(&self.fd, name.as_c_str(), value, fs::XattrFlags::empty())
        )
    }

    pub(crate) fn remove_xattr(&self, name: &std::ffi::CStr) -> io::Result<()> {
        record!(Op::RemoveXattr { file: self, name }, fs::fremovexattr(&self.fd, name))
    }
}

//! What a replacement keeps of the file it replaces.
//!
//! Owner before ACL before mode: changing the owner clears setuid and setgid, and setting an
//! ACL changes the mode. Only what differs is set, and all of it before the sync.

use std::ffi::{CStr, CString};
use std::io;

use crate::options::WriteOptions;
use crate::sys::{ACL, DEFAULT_ACL, Existing, File, Kind, Stat, Xattrs};

/// Is there anything to set, and so a reason to look at the staged file?
pub(crate) fn is_needed(existing: Option<&Existing>, options: &WriteOptions) -> bool {
    options.permissions.is_some()
        || existing.is_some_and(|old| old.stat.kind == Kind::File && !options.forget_metadata)
}

/// They vouch for the old content, or grant rights to it.
const NEVER_COPIED: [&[u8]; 3] = [b"security.capability", b"security.ima", b"security.evm"];

/// XFS shows root the ACL a second time, under its raw name.
const RAW_ACL: &[u8] = b"trusted.SGI_ACL_";

fn is_never_copied(name: &[u8]) -> bool {
    NEVER_COPIED.contains(&name) || name.starts_with(RAW_ACL)
}

/// Setuid and setgid are not handed on: the new content may be anybody's.
const KEPT_MODE: u32 = 0o1777;

/// Gives a staged file the metadata that its target must have.
/// `stat` is the staged file's own; `existing` what stands at the target's name.
pub(crate) fn apply(
    file: &File,
    stat: &Stat,
    existing: Option<&Existing>,
    options: &WriteOptions,
) -> io::Result<()> {
    let old = existing.filter(|old| old.stat.kind == Kind::File && !options.forget_metadata);
    let asked = options.permissions.as_ref().map(super::mode_of_permissions);
    let Some(old) = old else {
        return match asked {
            Some(mode) => {
                drop_acl(file, &names_of(file)?)?;
                set_mode(file, mode, None)
            }
            None => Ok(()),
        };
    };
    let group_kept = keep_owner(file, stat, &old.stat)?;
    let mut wanted = old.xattrs.clone();
    wanted.retain(|(name, _)| !is_never_copied(name.as_bytes()));
    if asked.is_some() {
        wanted.retain(|(name, _)| name.as_c_str() != ACL);
    }
    let mut mode = old.stat.mode & KEPT_MODE;
    if !group_kept {
        mode = restrict_group(mode, &mut wanted);
    }
    let (changed_acl, mode) = keep_xattrs(file, &wanted, mode)?;
    let current = (!changed_acl && stat.uid == old.stat.uid && stat.gid == old.stat.gid).then_some(stat.mode);
    set_mode(file, asked.unwrap_or(mode), current)
}

/// Signatures of one inode, which mean nothing on another.
const NEVER_CARRIED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Gives the copy of a file or directory what the original has. The content is the same, so
/// setuid, setgid and capabilities stay, as long as the owner does.
pub(crate) fn carry(copy: &File, old: &Existing) -> io::Result<()> {
    let stat = copy.stat()?;
    let group_kept = keep_owner(copy, &stat, &old.stat)?;
    let owner_kept = stat.uid == old.stat.uid || copy.stat()?.uid == old.stat.uid;
    let mut wanted = old.xattrs.clone();
    wanted.retain(|(name, _)| {
        !NEVER_CARRIED.contains(&name.to_bytes()) && !name.to_bytes().starts_with(RAW_ACL)
    });
    let mut mode = old.stat.mode;
    if !owner_kept {
        mode &= !SETUID;
        wanted.retain(|(name, _)| name.to_bytes() != b"security.capability");
    }
    if !group_kept {
        let keeps_setgid = old.stat.kind == Kind::Dir;
        mode = restrict_group(mode, &mut wanted) & if keeps_setgid { !0 } else { !SETGID };
    }
    let is_wanted = |attribute: &CStr| wanted.iter().any(|(name, _)| name.as_c_str() == attribute);
    if !is_wanted(DEFAULT_ACL) && names_of(copy)?.iter().any(|name| name.as_c_str() == DEFAULT_ACL) {
        copy.remove_xattr(DEFAULT_ACL)?;
    }
    let (changed_acl, mode) = keep_xattrs(copy, &wanted, mode)?;
    let unchanged = !changed_acl && stat.uid == old.stat.uid && stat.gid == old.stat.gid;
    set_mode(copy, mode, unchanged.then_some(stat.mode))
}

/// Gives a new directory what its entries will inherit, before there are any.
pub(crate) fn bequeath(copy: &File, old: &Existing) -> io::Result<()> {
    let stat = copy.stat()?;
    if old.stat.mode & SETGID != 0 && (stat.gid == old.stat.gid || keep_group(copy, old.stat.gid)?) {
        copy.set_mode(stat.mode | SETGID)?;
    }
    match old.xattrs.iter().find(|(name, _)| name.as_c_str() == DEFAULT_ACL) {
        Some((name, value)) => match copy.set_xattr(name, value) {
            Err(e) if not_permitted(&e) => Ok(()),
            set => set,
        },
        None => Ok(()),
    }
}

fn keep_group(file: &File, gid: u32) -> io::Result<bool> {
    match file.set_owner(None, Some(gid)) {
        Err(e) if not_permitted(&e) => Ok(false),
        set => set.map(|()| true),
    }
}

fn set_mode(file: &File, mode: u32, current: Option<u32>) -> io::Result<()> {
    if current == Some(mode) { Ok(()) } else { file.set_mode(mode) }
}

/// As far as permitted. Returns whether the group is the old one.
fn keep_owner(file: &File, new: &Stat, old: &Stat) -> io::Result<bool> {
    let uid = (new.uid != old.uid).then_some(old.uid);
    let gid = (new.gid != old.gid).then_some(old.gid);
    if uid.is_none() && gid.is_none() {
        return Ok(true);
    }
    match file.set_owner(uid, gid) {
        Err(e) if not_permitted(&e) => {}
        set => return set.map(|()| true),
    }
    match gid {
        None => Ok(true),
        Some(_) if uid.is_none() => Ok(false),
        Some(gid) => keep_group(file, gid),
    }
}

/// EINVAL: the id doesn't exist in this user namespace.
fn not_permitted(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

fn names_of(file: &File) -> io::Result<Vec<CString>> {
    match file.xattr_names() {
        Err(e) if not_permitted(&e) => Ok(Vec::new()),
        names => names,
    }
}

/// Removes an ACL that the directory's default gave the staged file. Says whether there was one.
fn drop_acl(file: &File, names: &[CString]) -> io::Result<bool> {
    if !names.iter().any(|name| name.as_c_str() == ACL) {
        return Ok(false);
    }
    file.remove_xattr(ACL).map(|()| true)
}

/// Copies attributes that differ. Returns whether an ACL changed, and the mode, which is
/// narrower where an ACL could not be kept.
fn keep_xattrs(file: &File, wanted: &Xattrs, mode: u32) -> io::Result<(bool, u32)> {
    let present = names_of(file)?;
    let mut changed_acl = false;
    if !wanted.iter().any(|(name, _)| name.as_c_str() == ACL) {
        changed_acl = drop_acl(file, &present)?;
    }
    let mut mode = mode;
    for (name, value) in wanted {
        if present.contains(name) && file.xattr(name).is_ok_and(|now| now == *value) {
            continue;
        }
        match file.set_xattr(name, value) {
            Ok(()) => changed_acl |= name.as_c_str() == ACL,
            Err(e) if not_permitted(&e) && name.as_c_str() == ACL => {
                changed_acl = true;
                mode = mode_without_acl(mode, value);
            }
            Err(e) if not_permitted(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((changed_acl, mode))
}

const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_GROUP_OBJ: u16 = 0x04;

/// The permission bits of the entry for the owning group, in an ACL of `linux/posix_acl_xattr.h`:
/// a version, then entries of tag, permissions (16 bits each) and id (32 bits), little endian.
fn owning_group(acl: &mut [u8]) -> Option<&mut u8> {
    let entries = acl.get_mut(ACL_HEADER..)?;
    let entry =
        entries.chunks_exact_mut(ACL_ENTRY).find(|e| u16::from_le_bytes([e[0], e[1]]) == ACL_GROUP_OBJ)?;
    Some(&mut entry[2])
}

/// The group is another one now: it gets no right that others don't have. Under an ACL the
/// group bits of the mode are the mask, and the group's own rights stand in the ACL.
fn restrict_group(mode: u32, wanted: &mut Xattrs) -> u32 {
    let others = mode & 0o7;
    match wanted.iter_mut().find(|(name, _)| name.as_c_str() == ACL) {
        Some((_, acl)) => {
            if let Some(rights) = owning_group(acl) {
                *rights &= others as u8;
            }
            mode
        }
        None => mode & (0o7707 | others << 3),
    }
}

/// Without the ACL the group bits mean the owning group again, not the mask.
fn mode_without_acl(mode: u32, acl: &[u8]) -> u32 {
    let rights = owning_group(&mut acl.to_vec()).map_or(0, |rights| u32::from(*rights & 0o7));
    mode & (0o7707 | rights << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// user::rw-, user:1000:rw-, group::r--, mask::rw-, other::---
    fn acl() -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in [(1u16, 6u16, !0u32), (2, 6, 1000), (4, 4, !0), (16, 6, !0), (32, 0, !0)] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(rights.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_group_that_is_not_kept_has_no_more_rights_than_others() {
        assert_eq!(restrict_group(0o664, &mut Vec::new()), 0o644);
        assert_eq!(restrict_group(0o660, &mut Vec::new()), 0o600);
        let mut wanted = vec![(ACL.to_owned(), acl())];
        assert_eq!(restrict_group(0o660, &mut wanted), 0o660, "the group bits are the mask");
        assert_eq!(owning_group(&mut wanted[0].1), Some(&mut 0));
    }

    #[test]
    fn a_mode_without_its_acl_gives_the_group_what_the_acl_gave_it() {
        assert_eq!(mode_without_acl(0o660, &acl()), 0o640);
        assert_eq!(mode_without_acl(0o660, b""), 0o600, "an ACL that can't be read grants nothing");
    }
}

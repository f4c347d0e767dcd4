//! Step 5: what a replacement keeps of the file it replaces.
//!
//! Owner before ACL before mode: changing the owner clears setuid and setgid, and setting an
//! ACL changes the mode. Only what differs is set, and all of it before the sync, so that it is as durable
//! as the content.
//!
//! Metadata that is refused is not kept, as long as nobody gains a right by that; a disk that is full, or a
//! system that is short of something, fails the save.

use std::ffi::{CStr, CString};
use std::io;

use crate::options::WriteOptions;
use crate::sys::{self, ACL, DEFAULT_ACL, File, Kind, OwnerNames, Stat, TargetMeta, Xattrs};

/// Is there anything to set, and so a reason to look at the staged file?
pub(crate) fn is_needed(existing: Option<&TargetMeta>, options: &WriteOptions) -> bool {
    options.permissions.is_some()
        || existing.is_some_and(|old| old.stat.kind == Kind::File && !options.forget_metadata)
}

/// These attributes vouch for the old content, or grant rights to it.
const NEVER_COPIED: [&[u8]; 3] = [b"security.capability", b"security.ima", b"security.evm"];

/// XFS shows root the ACL a second time, under its raw name.
const RAW_ACL: &[u8] = b"trusted.SGI_ACL_";

fn is_never_copied(name: &[u8]) -> bool {
    NEVER_COPIED.contains(&name) || name.starts_with(RAW_ACL)
}

/// Setuid and setgid are not handed on: the new content may be anybody's.
const KEPT_MODE: u32 = 0o1777;

/// Gives a staged file the metadata that its target must have. Returns whether it has all that was to be kept.
/// `stat` is the staged file's own; `existing` what stands at the target's name.
pub(crate) fn apply(
    file: &File,
    stat: &Stat,
    existing: Option<&TargetMeta>,
    options: &WriteOptions,
) -> io::Result<bool> {
    let old = existing.filter(|old| old.stat.kind == Kind::File && !options.forget_metadata);
    let asked = options.asked_mode();
    let Some(old) = old else {
        let Some(mode) = asked else { return Ok(true) };
        drop_acl(file, names_of(file).as_deref())?;
        set_mode(file, mode, None)?;
        return check_asked(file, mode, options).map(|()| true);
    };
    check_encryption(&old.stat, stat)?;
    let owner = keep_owner(file, stat, old)?;
    let mut wanted = old.xattrs.clone();
    wanted.retain(|(name, _)| !is_never_copied(name.as_bytes()));
    if asked.is_some() {
        wanted.retain(|(name, _)| name.as_c_str() != ACL);
    }
    let mut mode = old.stat.mode & KEPT_MODE;
    if !owner.group_kept {
        mode = restrict_group(mode, &mut wanted);
    }
    let rest = Rest { xattrs: &wanted, mode, asked, is_copy: false };
    let is_rest_kept = rest.set_for(file, stat, &old.stat, owner)?;
    asked.map_or(Ok(()), |mode| check_asked(file, mode, options))?;
    Ok(is_rest_kept && owner.is_kept && owner.group_kept && old.is_complete)
}

/// Refuses to replace an encrypted file by a plain one. Only its directory can encrypt a new file.
pub(crate) fn check_encryption(old: &Stat, new: &Stat) -> io::Result<()> {
    if old.is_encrypted && !new.is_encrypted {
        let reason = "the file is encrypted, and a new one in its directory is not";
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    Ok(())
}

/// Permissions that were asked for are reached, or the save fails: a group that the caller is no member of, and
/// some mounts, drop bits without a word.
fn check_asked(file: &File, asked: u32, options: &WriteOptions) -> io::Result<()> {
    if options.permissions_may_differ || file.stat()?.mode == asked {
        Ok(())
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Signatures of one inode, which mean nothing on another.
const NEVER_CARRIED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Gives the copy of a file or directory what the original has, and returns whether it has all of that. The content
/// is the same, so setuid, setgid and capabilities stay, as long as the owner does.
pub(crate) fn copy_metadata(copy: &File, old: &TargetMeta) -> io::Result<bool> {
    let stat = copy.stat()?;
    let owner = keep_owner(copy, &stat, old)?;
    let mut wanted = old.xattrs.clone();
    wanted.retain(|(name, _)| {
        !NEVER_CARRIED.contains(&name.to_bytes()) && !name.to_bytes().starts_with(RAW_ACL)
    });
    let mut mode = old.stat.mode;
    if !owner.is_kept {
        mode &= !SETUID;
        wanted.retain(|(name, _)| name.to_bytes() != b"security.capability");
    }
    if !owner.group_kept {
        let keeps_setgid = old.stat.kind == Kind::Dir;
        mode = restrict_group(mode, &mut wanted) & if keeps_setgid { !0 } else { !SETGID };
    }
    let is_wanted = |attribute: &CStr| wanted.iter().any(|(name, _)| name.as_c_str() == attribute);
    let is_there = |names: Vec<CString>| names.iter().any(|name| name.as_c_str() == DEFAULT_ACL);
    if !is_wanted(DEFAULT_ACL) && names_of(copy).is_some_and(is_there) {
        copy.remove_xattr(DEFAULT_ACL)?;
    }
    let rest = Rest { xattrs: &wanted, mode, asked: None, is_copy: true };
    let is_rest_kept = rest.set_for(copy, &stat, &old.stat, owner)?;
    Ok(is_rest_kept && owner.is_kept && owner.group_kept && old.is_complete)
}

/// Gives a new directory what its entries will inherit, before there are any.
pub(crate) fn set_inherited(copy: &File, old: &TargetMeta) -> io::Result<()> {
    let stat = copy.stat()?;
    if old.stat.mode & SETGID != 0 && (stat.gid == old.stat.gid || keep_group(copy, old.stat.gid)?) {
        copy.set_mode(stat.mode | SETGID)?;
    }
    match old.xattrs.iter().find(|(name, _)| name.as_c_str() == DEFAULT_ACL) {
        Some((name, value)) => unless_refused(copy.set_xattr(name, value)).map(|_| ()),
        None => Ok(()),
    }
}

/// Returns why a call that only keeps metadata was refused, by whatever errno. A save that went on without space
/// or memory would lose what could be kept a moment later: that is an error.
fn refusal(done: io::Result<()>) -> io::Result<Option<io::Error>> {
    match done {
        Err(e) if sys::is_out_of_space(&e) || sys::is_transient(&e) => Err(e),
        done => Ok(done.err()),
    }
}

/// Whether it was done, and not refused.
pub(crate) fn unless_refused(done: io::Result<()>) -> io::Result<bool> {
    Ok(refusal(done)?.is_none())
}

fn keep_group(file: &File, gid: u32) -> io::Result<bool> {
    unless_refused(file.set_owner(None, Some(gid)))
}

/// The result of keeping owner and group.
#[derive(Clone, Copy, Debug)]
struct Owner {
    /// The file belongs to the old owner, and did not before.
    is_changed: bool,
    is_kept: bool,
    group_kept: bool,
}

/// Keeps owner and group as far as permitted, and as far as they can be named here.
fn keep_owner(file: &File, new: &Stat, old: &TargetMeta) -> io::Result<Owner> {
    let OwnerNames { uid: uid_is_named, gid: gid_is_named } = old.owner_names;
    let uid = (new.uid != old.stat.uid && uid_is_named).then_some(old.stat.uid);
    let gid = (new.gid != old.stat.gid && gid_is_named).then_some(old.stat.gid);
    let both = (uid.is_some() || gid.is_some()) && unless_refused(file.set_owner(uid, gid))?;
    let group_kept = match gid {
        Some(gid) if !both && uid.is_some() => keep_group(file, gid)?,
        gid => both || gid.is_none(),
    };
    let is_kept = uid_is_named && (both || uid.is_none());
    Ok(Owner { is_changed: both && uid.is_some(), is_kept, group_kept: gid_is_named && group_kept })
}

/// The metadata that is set after the owner.
#[derive(Clone, Copy, Debug)]
struct Rest<'a> {
    xattrs: &'a Xattrs,
    /// The mode, if no permissions were asked for.
    mode: u32,
    asked: Option<u32>,
    /// A copy in a new version of a directory has the mode of the original, or there is no new version.
    is_copy: bool,
}

/// Why something was refused.
#[derive(Debug)]
struct Refused {
    mode: Option<io::Error>,
    xattr: Option<io::Error>,
}

impl Refused {
    fn is_any(&self) -> bool {
        self.mode.is_some() || self.xattr.is_some()
    }
}

impl Rest<'_> {
    /// Sets attributes and mode of a file that was `stat` before its owner became `owner`. Returns whether it has
    /// them all.
    fn set_for(self, file: &File, stat: &Stat, old: &Stat, owner: Owner) -> io::Result<bool> {
        // A change of the owner takes setuid and setgid away.
        let is_known = !(owner.is_changed && stat.mode & (SETUID | SETGID) != 0);
        let (mut refused, mut mode) = self.set(file, is_known.then_some(stat.mode))?;
        if refused.is_any() && owner.is_changed && unless_refused(file.set_owner(Some(stat.uid), None))? {
            // A process may have the right to give files away, but not to change those of others (root without
            // CAP_FOWNER). Then all is set while the file is its own.
            let again = self.set(file, None);
            file.set_owner(Some(old.uid), None)?;
            (refused, mode) = again?;
        }
        let is_narrower = self.asked.is_none() && mode != self.mode;
        let Refused { mode: refused, xattr } = refused;
        let is_kept = xattr.is_none() && !is_narrower;
        let Some(e) = refused.or(xattr) else { return Ok(is_kept) };
        // Some mounts refuse every change, and show the mode that is wanted all the same.
        let found = file.stat()?.mode;
        // A copy has the mode of the original. Nobody may have more rights than the old file gave.
        if (self.is_copy && found != mode) || found & !mode != 0 {
            return Err(e);
        }
        Ok(is_kept && found == mode)
    }

    /// Returns also the mode, which is narrower where an ACL could not be kept.
    fn set(self, file: &File, current: Option<u32>) -> io::Result<(Refused, u32)> {
        let xattrs = keep_xattrs(file, self.xattrs, self.mode)?;
        let mode = self.asked.unwrap_or(xattrs.mode);
        let refused = set_mode(file, mode, current.filter(|_| !xattrs.acl_changed))?;
        Ok((Refused { mode: refused, xattr: xattrs.refused }, mode))
    }
}

/// Sets the mode unless the file has it. Returns why that was refused.
fn set_mode(file: &File, mode: u32, current: Option<u32>) -> io::Result<Option<io::Error>> {
    if current == Some(mode) { Ok(None) } else { refusal(file.set_mode(mode)) }
}

/// The attributes that a file has; none if they can't be told, by whatever errno.
fn names_of(file: &File) -> Option<Vec<CString>> {
    match file.xattr_names() {
        Err(e) if sys::is_unsupported(&e) => Some(Vec::new()),
        names => names.ok(),
    }
}

/// Removes an ACL that the directory's default gave the staged file. Says whether there was one.
fn drop_acl(file: &File, names: Option<&[CString]>) -> io::Result<bool> {
    match names {
        Some(names) if names.iter().any(|name| name.as_c_str() == ACL) => {
            file.remove_xattr(ACL).map(|()| true)
        }
        Some(_) => Ok(false),
        // An attribute can be removed by its name even where they can't be listed.
        None => unless_refused(file.remove_xattr(ACL)),
    }
}

/// The result of copying attributes.
#[derive(Debug)]
struct Attributes {
    acl_changed: bool,
    refused: Option<io::Error>,
    mode: u32,
}

/// Copies attributes that differ.
fn keep_xattrs(file: &File, wanted: &Xattrs, mode: u32) -> io::Result<Attributes> {
    let present = names_of(file);
    let mut found = Attributes { acl_changed: false, refused: None, mode };
    if !wanted.iter().any(|(name, _)| name.as_c_str() == ACL) {
        found.acl_changed = drop_acl(file, present.as_deref())?;
    }
    let present = present.unwrap_or_default();
    for (name, value) in wanted {
        if present.contains(name) && file.xattr(name).is_ok_and(|now| now == *value) {
            continue;
        }
        let is_acl = name.as_c_str() == ACL;
        if is_acl && value.is_empty() {
            // The old ACL can't be read, and nobody may gain the rights that it took away. An empty one
            // would be none.
            drop_acl(file, None)?;
            (found.acl_changed, found.mode) = (true, mode_without_acl(mode, value));
            continue;
        }
        let refused = refusal(file.set_xattr(name, value))?;
        if is_acl {
            found.acl_changed = true;
            found.mode = if refused.is_none() { mode } else { mode_without_acl(mode, value) };
        }
        found.refused = refused.or(found.refused);
    }
    Ok(found)
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

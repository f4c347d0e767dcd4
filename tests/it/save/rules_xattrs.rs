//! Goal: rule 3, ACLs and extended attributes: kept when a file is replaced, except those that
//! vouch for its old content; never picked up from the parent's default. Method: attributes
//! set as raw bytes, so that no tool is needed, and compared completely.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use durafile::WriteOptions;
use fs_err as fs;
use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};

use crate::support::{as_user, chmod, chown, dir, is_root, mode, public_dir, skip};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An ACL as the kernel takes it: version 2, then (tag, permissions, id) for each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const NOBODY: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// rw- for the owner and user 1005, r-- for group 2005, nothing for others.
fn shared_acl() -> Vec<u8> {
    acl(&[
        (USER_OBJ, 6, NOBODY),
        (USER, 6, 1005),
        (GROUP_OBJ, 4, NOBODY),
        (GROUP, 4, 2005),
        (MASK, 6, NOBODY),
        (OTHER, 0, NOBODY),
    ])
}

/// False, and a skip, where the file system keeps no such attribute.
fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    match setxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(errno) => {
            skip(&format!("{name} cannot be set here: {errno}"));
            false
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut buffer = vec![0; 65536];
    let length = listxattr(path, &mut buffer[..]).unwrap();
    let list = String::from_utf8(buffer[..length].to_vec()).unwrap();
    let names = list.split_terminator('\0');
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = getxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_owned(), value)
        })
        // Kept by the kernel for itself, where it runs SELinux.
        .filter(|(name, _)| name != "security.selinux")
        .collect()
}

fn save_both_ways(options: &WriteOptions, path: &Path, check: impl Fn()) {
    options.clone().write(path, "one call").unwrap();
    check();
    let mut file = options.clone().open(path).unwrap();
    file.write_all(b"streamed").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "streamed");
    check();
}

#[test]
fn a_replaced_file_keeps_its_extended_attributes() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let long = vec![0xa5; 1500];
    let table: [(&str, &[u8]); 5] = [
        ("user.comment", b"kept"),
        ("user.empty", b""),
        ("user.binary", b"\0\xff\n\0"),
        ("user.long", &long),
        ("user.with.dots and spaces", b"1"),
    ];
    for (name, value) in table {
        if !set(&path, name, value) {
            return;
        }
    }
    for number in 0..20 {
        assert!(set(&path, &format!("user.many-{number}"), b"x"));
    }
    if is_root() {
        assert!(set(&path, "trusted.mark", b"for root's eyes"));
    }
    let before = attributes(&path);
    assert!(before.len() >= 25);
    save_both_ways(&WriteOptions::new(), &path, || {
        assert_eq!(attributes(&path), before);
    });
}

#[test]
fn a_replaced_file_keeps_its_acl() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    if !set(&path, ACCESS, &shared_acl()) {
        return;
    }
    let (before, bits) = (attributes(&path), mode(&path));
    assert_eq!(bits, 0o660);
    save_both_ways(&WriteOptions::new(), &path, || {
        assert_eq!(attributes(&path), before);
        assert_eq!(mode(&path), bits);
    });
}

#[test]
fn an_acl_that_the_target_lacks_is_not_picked_up_from_the_parents_default() {
    let dir = dir();
    let path = dir.path().join("file");
    for bits in [0o600, 0o644, 0o660] {
        fs::write(&path, "old").unwrap();
        chmod(&path, bits);
        if !set(dir.path(), DEFAULT, &shared_acl()) {
            return;
        }
        save_both_ways(&WriteOptions::new(), &path, || {
            assert_eq!(attributes(&path), BTreeMap::new());
            assert_eq!(mode(&path), bits);
        });
        fs::remove_file(&path).unwrap();
        assert!(rustix::fs::removexattr(dir.path(), DEFAULT).is_ok());
    }
}

#[test]
fn a_new_file_inherits_the_parents_default_acl_as_any_new_file_does() {
    let dir = dir();
    if !set(dir.path(), DEFAULT, &shared_acl()) {
        return;
    }
    let (plain, path) = (dir.path().join("plain"), dir.path().join("file"));
    fs::write(&plain, "").unwrap();
    WriteOptions::new().write(&path, "x").unwrap();
    assert_eq!(attributes(&path), attributes(&plain));
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn permissions_asked_for_drop_acls_whether_kept_or_inherited() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    if !set(&path, ACCESS, &shared_acl()) || !set(&path, "user.comment", b"kept") {
        return;
    }
    assert!(set(dir.path(), DEFAULT, &shared_acl()));
    for path in [path, dir.path().join("new")] {
        let asked = std::fs::Permissions::from_mode(0o640);
        let options = WriteOptions::new().permissions(asked);
        save_both_ways(&options, &path, || {
            assert!(!attributes(&path).contains_key(ACCESS));
            assert_eq!(mode(&path), 0o640);
        });
    }
}

#[test]
fn without_preservation_attributes_and_acls_are_dropped() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    if !set(&path, ACCESS, &shared_acl()) || !set(&path, "user.comment", b"old") {
        return;
    }
    let options = WriteOptions::new().preserve_metadata(false);
    save_both_ways(&options, &path, || {
        assert_eq!(attributes(&path), BTreeMap::new());
    });
}

#[test]
fn what_vouches_for_the_old_content_is_never_copied() {
    if !is_root() {
        return skip("only root can set security attributes");
    }
    let dir = dir();
    let path = dir.path().join("file");
    // cap_net_bind_service=ep, as `setcap` stores it (version 2, little endian).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, value) in [
        ("security.capability", &capability[..]),
        ("security.ima", b"\x01signature"),
        ("security.evm", b"\x02signature"),
    ] {
        fs::write(&path, "old").unwrap();
        chmod(&path, 0o755);
        if setxattr(&path, name, value, XattrFlags::empty()).is_err() {
            assert_ne!(name, "security.capability");
            continue; // A kernel with IMA or EVM takes no made-up values.
        }
        let mut expected = attributes(&path);
        assert!(expected.remove(name).is_some());
        save_both_ways(&WriteOptions::new(), &path, || {
            assert_eq!(attributes(&path), expected);
            assert_eq!(mode(&path), 0o755);
        });
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn an_acl_does_not_open_a_file_whose_group_could_not_be_kept() {
    let dir = public_dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let prepared = as_user(0, 0, || {
        chown(&path, 1001, 2002);
        set(&path, ACCESS, &shared_acl())
    });
    if prepared != Some(true) {
        return;
    }
    as_user(1001, 1001, || {
        WriteOptions::new().write(&path, "new").unwrap();
    });
    // The new group is the caller's, and was never meant to read: its entry is that of others.
    let kept = attributes(&path).remove(ACCESS).unwrap_or_default();
    let entry = |tag: u16| {
        let entries = kept.get(4..).unwrap_or_default().chunks(8);
        let mut found = entries.filter(|entry| entry[..2] == tag.to_le_bytes());
        found.next().map(|entry| entry[2])
    };
    match entry(GROUP_OBJ) {
        Some(permissions) => assert_eq!(permissions & 4, 0),
        None => assert_eq!(mode(&path) & 0o040, 0),
    }
    if let Some(permissions) = entry(USER) {
        assert_eq!(permissions, 6);
    }
}

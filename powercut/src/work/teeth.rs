//! Protocols that are known to be wrong, and one that is right. A rig that doesn't tell them apart
//! says nothing about the library either.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use durafile::Durability;
use rustix::fs::{AtFlags, CWD, OFlags, RenameFlags, linkat, renameat_with};

use crate::device::file_system::{Column, FileSystem};
use crate::work::operation::{Operation, Outcome, Report, Setting, What};
use crate::work::{content, sets};

const TARGET: &str = "target";

type Protocol = fn(&Path, u32) -> Outcome<()>;

/// Those that must be caught in this column, and the control.
pub fn operations(column: &Column) -> Vec<Operation> {
    let mut operations = vec![
        Operation { what: What::Control, ..single("temp, fsync, rename, directory fsync", right) },
        single("truncate, write, fsync in place", in_place),
        single("temp, rename, no sync", |root, version| {
            drop(staged(root, version)?);
            rename(root)
        }),
        single("temp, rename, directory fsync", |root, version| {
            drop(staged(root, version)?);
            rename(root)?;
            sync(root)
        }),
        single("temp, fsync, rename, no directory fsync", |root, version| {
            staged(root, version)?.sync_all()?;
            rename(root)
        }),
        Operation {
            rounds: 12,
            prepare: |root| sets::prepare(root, &SET),
            check: |root, story, report| sets::check_same(root, story, report, &SET),
            ..single("several files, each replaced rightly, as a transaction", |root, version| {
                for name in SET {
                    durafile::write(root.join(name), content::of(version, name))?;
                }
                Ok(())
            })
        },
        directory("directory swap by two renames, all synced", |root, version| {
            stage_directory(root, version, true)?;
            fs::rename(root.join("live"), root.join("old"))?;
            pause();
            fs::rename(root.join("stage"), root.join("live"))?;
            sync(root)?;
            Ok(fs::remove_dir_all(root.join("old"))?)
        }),
        directory("directory exchange, files not synced", |root, version| {
            stage_directory(root, version, false)?;
            renameat_with(CWD, root.join("stage"), CWD, root.join("live"), RenameFlags::EXCHANGE)?;
            sync(root)?;
            Ok(fs::remove_dir_all(root.join("stage"))?)
        }),
    ];
    // Right where the journal is ordered, wrong where it is not.
    let by_hand = single("single flush, by hand", single_flush);
    let is_unsafe = column.kind == FileSystem::Btrfs || column.has_fast_commit();
    let what = if is_unsafe { What::Broken } else { What::Control };
    operations.push(Operation { what, ..by_hand });
    operations
}

fn single(name: &str, protocol: Protocol) -> Operation {
    Operation {
        name: name.to_owned(),
        rounds: 30,
        prepare: |root| Ok(fs::write(root.join(TARGET), content::of(0, TARGET))?),
        save: Box::new(move |root, version| {
            protocol(root, version)?;
            Ok(Durability::Full)
        }),
        check: |root, story, report| {
            report.replaced(root, TARGET, story);
        },
        what: What::Broken,
        setting: Setting::Plain,
    }
}

const SET: [&str; 3] = ["a", "b", "dir/c"];
const TREE: [&str; 3] = ["live/a", "live/b", "live/sub/c"];

fn directory(name: &str, protocol: Protocol) -> Operation {
    Operation {
        rounds: 15,
        prepare: |root| sets::prepare(root, &TREE),
        check: |root, story, report: &mut Report| sets::check_same(root, story, report, &TREE),
        ..single(name, protocol)
    }
}

fn in_place(root: &Path, version: u32) -> Outcome<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(root.join(TARGET))?;
    let content = content::of(version, TARGET);
    for part in content.chunks(content.len() / 3 + 1) {
        file.write_all(part)?;
        pause();
    }
    Ok(file.sync_all()?)
}

fn right(root: &Path, version: u32) -> Outcome<()> {
    staged(root, version)?.sync_all()?;
    rename(root)?;
    sync(root)
}

/// What the library's option does on ext4 and XFS.
fn single_flush(root: &Path, version: u32) -> Outcome<()> {
    let unnamed = OFlags::TMPFILE.bits() as i32;
    let mut file = OpenOptions::new().write(true).custom_flags(unnamed).open(root)?;
    file.write_all(&content::of(version, TARGET))?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    // `sync_file_range`, which no safe crate has. Of several flags xfs_io takes the last.
    let mut wait = Command::new("xfs_io");
    ["-b", "-w", "-a"].iter().for_each(|flag| {
        wait.arg("-c").arg(format!("sync_range {flag} 0 0"));
    });
    let waited = wait.arg(&path).output()?;
    if !waited.status.success() || !waited.stderr.is_empty() {
        return Err(String::from_utf8_lossy(&waited.stderr).into_owned().into());
    }
    linkat(CWD, &path, CWD, root.join(TEMP), AtFlags::SYMLINK_FOLLOW)?;
    rename(root)?;
    sync(root)
}

const TEMP: &str = "target.tmp";

fn staged(root: &Path, version: u32) -> Outcome<File> {
    let mut file = File::create(root.join(TEMP))?;
    let content = content::of(version, TARGET);
    for part in content.chunks(content.len() / 2 + 1) {
        file.write_all(part)?;
        pause();
    }
    Ok(file)
}

fn rename(root: &Path) -> Outcome<()> {
    Ok(fs::rename(root.join(TEMP), root.join(TARGET))?)
}

fn sync(path: &Path) -> Outcome<()> {
    Ok(File::open(path)?.sync_all()?)
}

fn stage_directory(root: &Path, version: u32, synced: bool) -> Outcome<()> {
    for name in TREE {
        let path = root.join(name.replace("live", "stage"));
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(&path, content::of(version, name))?;
        if synced {
            sync(&path)?;
        }
    }
    if synced {
        ["stage/sub", "stage", ""].iter().try_for_each(|dir| sync(&root.join(dir)))?;
    }
    Ok(())
}

fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

//! Goal: `single_flush` saves a flush where the journal is totally ordered, and changes nothing
//! anywhere else. Method: images of many kinds are mounted where only a child sees them; the child
//! saves under strace, and its syncs are counted.

use std::collections::BTreeMap;
use std::path::Path;

use durafile::{Batch, Durability, TransactionOptions, WriteOptions};
use fs_err as fs;

use crate::support::strace;
use crate::support::{dir, has, in_private_mounts, job, skip, this_test};

const JOBS: [&str; 4] = ["one", "batch", "unchanged", "transaction"];

fn mark(name: &str) {
    assert!(fs::symlink_metadata(format!("/durafile-begins-{name}")).is_err());
}

fn save_everything(dir: &Path) {
    let options = || WriteOptions::new().single_flush(true);
    mark("one");
    options().write(dir.join("one"), "new").unwrap();
    mark("batch");
    let mut batch = Batch::new().options(options());
    for n in 0..3 {
        batch.write(dir.join(format!("batch-{n}")), "new").unwrap();
    }
    batch.commit().unwrap();
    mark("unchanged");
    let mut batch = Batch::new().options(options().skip_unchanged(true));
    batch.write(dir.join("one"), "new").unwrap();
    assert!(batch.commit().unwrap()[0].is_unchanged());
    mark("transaction");
    let mut change = TransactionOptions::new().single_flush(true).begin(dir).unwrap();
    for n in 0..3 {
        change.write(format!("change-{n}"), "new").unwrap();
    }
    change.commit().unwrap();
    mark("end");
}

/// Syncs of each job, of files and of directories, and how often it waited for write-out.
fn count(log: &str) -> BTreeMap<String, [usize; 3]> {
    let mut counted = BTreeMap::new();
    let mut now = None;
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("/durafile-begins-") {
            now = rest.split('"').next().map(str::to_owned);
            continue;
        }
        let Some(job) = &now else { continue };
        let found: &mut [usize; 3] = counted.entry(job.clone()).or_default();
        let syncs = line.contains(" fsync(") || line.contains(" fdatasync(");
        found[0] += usize::from(syncs && !line.contains("/mnt>"));
        found[1] += usize::from(syncs && line.contains("/mnt>"));
        found[2] += usize::from(line.contains("SYNC_FILE_RANGE_WAIT_AFTER"));
        assert!(!line.contains(" syncfs("), "{line}");
    }
    counted
}

/// What strace tells of `save` in `mnt`, which the script makes and mounts; it ends the child well
/// with `exit 0` where it can't. None in the child, and where it can't be told.
fn traced(test: &str, tools: &[&str], script: &str, save: fn(&Path)) -> Option<String> {
    if job(test).is_none() {
        let lacks = |tool: &&&str| {
            let asked = std::process::Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
            !asked.is_ok_and(|output| output.status.success())
        };
        if let Some(tool) = tools.iter().find(lacks) {
            skip(&format!("{tool} is not installed"));
            return None;
        }
        if !strace::works() || !has("unshare", &["-m", "true"]) {
            return None;
        }
    }
    let logs = dir();
    let log = logs.path().join("log");
    let script = format!(
        "cd \"$DIR\"; mkdir mnt\n{script}\nexec strace -f -y -o {} -- \"$0\" \"$@\"",
        log.to_str().unwrap()
    );
    in_private_mounts(test, &script, |home| save(&home.join("mnt")));
    (job(test).is_none() && log.exists()).then(|| fs::read_to_string(log).unwrap())
}

/// Syncs of files and of directories, and write-outs that are waited for, of each job.
type Counts = [[usize; 3]; 4];

const ORDINARY: Counts = [[1, 1, 0], [3, 1, 0], [1, 1, 0], [5, 2, 0]];
const FLUSHED_ONCE: Counts = [[0, 1, 1], [0, 1, 3], [1, 1, 0], [0, 1, 4]];

fn check(test: &str, tools: &[&str], script: &str, expected: Counts) {
    let Some(log) = traced(test, tools, script, save_everything) else { return };
    let counted = count(&log);
    for (job, expected) in JOBS.into_iter().zip(expected) {
        assert_eq!(counted[job], expected, "{job}: files, directories, write-outs waited for");
    }
}

const EXT4: &str = "truncate -s 64M image; mkfs.ext4 -q -F -b 4096";

#[test]
fn ext4_with_an_ordinary_journal_flushes_once() {
    check(&this_test!(), &["mkfs.ext4"], &format!("{EXT4} image; mount -o loop image mnt"), FLUSHED_ONCE);
}

#[test]
fn ext4_with_data_writeback_flushes_once() {
    let script = format!("{EXT4} image; mount -o loop,data=writeback image mnt");
    // Blocks of replaced files are given away early there: a transaction replaces none before its record is durable.
    let expected = [[0, 1, 1], [0, 1, 3], [1, 1, 0], [0, 2, 4]];
    check(&this_test!(), &["mkfs.ext4"], &script, expected);
}

#[test]
fn ext4_with_data_journal_flushes_once() {
    let script = format!("{EXT4} image; mount -o loop,data=journal image mnt");
    check(&this_test!(), &["mkfs.ext4"], &script, FLUSHED_ONCE);
}

#[test]
fn xfs_flushes_once() {
    let script = "truncate -s 320M image; mkfs.xfs -q image; mount -o loop image mnt";
    check(&this_test!(), &["mkfs.xfs"], script, FLUSHED_ONCE);
}

#[test]
fn ext4_without_a_journal_is_ordinary() {
    let script = format!("{EXT4} -O ^has_journal image; mount -o loop image mnt");
    check(&this_test!(), &["mkfs.ext4"], &script, ORDINARY);
}

#[test]
fn ext4_without_barriers_is_ordinary() {
    let script = format!("{EXT4} image; mount -o loop,nobarrier image mnt");
    check(&this_test!(), &["mkfs.ext4"], &script, ORDINARY);
}

#[test]
fn ext4_with_fast_commits_is_ordinary() {
    let script = format!("{EXT4} -O fast_commit image; mount -o loop image mnt");
    check(&this_test!(), &["mkfs.ext4"], &script, ORDINARY);
}

#[test]
fn ext4_with_asynchronous_commits_is_ordinary() {
    let script = format!("{EXT4} image; mount -o loop,journal_async_commit,data=writeback image mnt");
    check(&this_test!(), &["mkfs.ext4"], &script, ORDINARY);
}

#[test]
fn ext4_with_a_journal_elsewhere_is_ordinary() {
    let script = "truncate -s 64M image; truncate -s 16M journal
        log=$(losetup --find --show journal); mkfs.ext4 -q -F -b 4096 -O journal_dev \"$log\"
        mkfs.ext4 -q -F -b 4096 -J device=\"$log\" image; mount -o loop image mnt; losetup --detach \"$log\"";
    check(&this_test!(), &["mkfs.ext4", "losetup"], script, ORDINARY);
}

#[test]
fn xfs_with_its_log_elsewhere_is_ordinary() {
    let script = "truncate -s 320M image; truncate -s 80M log
        log=$(losetup --find --show log); mkfs.xfs -q -l logdev=\"$log\" image
        mount -o loop,logdev=\"$log\" image mnt; losetup --detach \"$log\"";
    check(&this_test!(), &["mkfs.xfs", "losetup"], script, ORDINARY);
}

#[test]
fn btrfs_is_ordinary() {
    let script = "truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1; mount -o loop image mnt";
    check(&this_test!(), &["mkfs.btrfs"], script, ORDINARY);
}

#[test]
fn tmpfs_is_ordinary() {
    check(&this_test!(), &[], "mount -t tmpfs tmpfs mnt", ORDINARY);
}

#[test]
fn an_overlay_is_ordinary() {
    let script = format!(
        "{EXT4} image; mkdir layers; mount -o loop image layers
         mkdir layers/lower layers/upper layers/work
         mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work overlay mnt"
    );
    check(&this_test!(), &["mkfs.ext4"], &script, ORDINARY);
}

#[test]
fn a_remount_is_noticed_within_two_seconds() {
    let test = this_test!();
    if job(&test).is_none() && (!has("mkfs.ext4", &["-V"]) || !strace::works()) {
        return;
    }
    let logs = dir();
    let log = logs.path().join("log");
    let log = log.to_str().unwrap();
    let script = format!(
        "cd \"$DIR\"; mkdir mnt; {EXT4} image; mount -o loop image mnt
         exec strace -f -y -e trace=fsync,statx,newfstatat -o {log} -- \"$0\" \"$@\""
    );
    in_private_mounts(&test, &script, |home| {
        let dir = home.join("mnt");
        let save = || WriteOptions::new().single_flush(true).write(dir.join("file"), "new").unwrap();
        mark("before");
        save();
        let remount =
            std::process::Command::new("mount").args(["-o", "remount,nobarrier"]).arg(&dir).output();
        assert!(remount.unwrap().status.success());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        mark("after");
        save();
        mark("end");
    });
    if job(&test).is_none() && Path::new(log).exists() {
        let counted = count(&fs::read_to_string(log).unwrap());
        assert_eq!((counted["before"][0], counted["after"][0]), (0, 1));
    }
}

/// In the model of an ordered journal a batch with one flush holds; in the weaker one it is torn.
#[cfg(feature = "crash_testing")]
#[test]
fn one_flush_holds_on_an_ordered_journal_and_nowhere_else() {
    use durafile::crash_testing::{Acked, CrashTest, Model};
    let save = |dir: &Path| {
        let mut batch = Batch::new().options(WriteOptions::new().single_flush(true));
        batch.write(dir.join("a"), vec![b'n'; 9000])?;
        batch.write(dir.join("folder/b"), vec![b'n'; 9000])?;
        batch.commit()?;
        WriteOptions::new().single_flush(true).write(dir.join("c"), vec![b'n'; 9000]).map(drop)?;
        Ok(())
    };
    let prepare = |dir: &Path| {
        std::fs::create_dir(dir.join("folder"))?;
        ["a", "c"].iter().try_for_each(|name| std::fs::write(dir.join(name), "old"))
    };
    let check = |dir: &Path, acked: &Acked| {
        for (path, old) in [("a", Some("old")), ("folder/b", None), ("c", Some("old"))] {
            let found = std::fs::read(dir.join(path)).ok();
            let is_new = found.as_deref() == Some(&[b'n'; 9000]);
            let is_old = found.as_deref() == old.map(str::as_bytes) && !acked.saved();
            assert!(is_new || is_old, "{path} is torn or lost");
        }
        Ok(())
    };
    let test = || CrashTest::new(save).initial(prepare).journaled(true).max_states(300);
    for model in [Model::OrderedJournal, Model::ProcessDeath] {
        test().model(model).run(check).unwrap_or_else(|failure| panic!("{model:?}:\n{failure}"));
    }
    assert!(test().run(check).is_err(), "the weaker model must find it torn");
    let ordinary = CrashTest::new(save).initial(prepare).max_states(100).run(check);
    ordinary.unwrap_or_else(|failure| panic!("elsewhere it is the ordinary protocol:\n{failure}"));
}

fn save_at_level_data(dir: &Path) {
    let options = || WriteOptions::new().durability(Durability::Data);
    mark("one");
    assert_eq!(options().write(dir.join("one"), "new").unwrap().durability(), Durability::Data);
    mark("batch");
    let mut batch = Batch::new().options(options());
    batch.write(dir.join("one"), "newer").unwrap();
    batch.write(dir.join("two"), "new").unwrap();
    assert!(batch.commit().unwrap().iter().all(|reached| reached.durability() == Durability::Data));
    mark("end");
}

#[test]
fn at_level_data_a_rename_is_synced_where_freed_blocks_find_new_owners_before_it_is_durable() {
    let script = format!("{EXT4} image; mount -o loop,data=writeback image mnt");
    let Some(log) = traced(&this_test!(), &["mkfs.ext4"], &script, save_at_level_data) else { return };
    let counted = count(&log);
    assert_eq!((counted["one"], counted["batch"]), ([1, 1, 0], [2, 1, 0]));
}

#[test]
fn at_level_data_a_rename_is_not_synced_where_the_journal_keeps_freed_blocks() {
    let script = format!("{EXT4} image; mount -o loop image mnt");
    let Some(log) = traced(&this_test!(), &["mkfs.ext4"], &script, save_at_level_data) else { return };
    let counted = count(&log);
    assert_eq!((counted["one"], counted["batch"]), ([1, 0, 0], [2, 0, 0]));
}

/// More than are held at a time.
const MANY: usize = 40;

fn replace_many(dir: &Path) {
    for version in ["old", "new"] {
        mark(version);
        let mut batch = Batch::new();
        for n in 0..MANY {
            batch.write(dir.join(format!("{n}")), version).unwrap();
        }
        batch.commit().unwrap();
    }
    mark("end");
}

#[test]
fn what_a_batch_replaces_keeps_its_blocks_until_the_renames_are_durable() {
    let script = format!("{EXT4} image; mount -o loop,data=writeback image mnt");
    let Some(log) = traced(&this_test!(), &["mkfs.ext4"], &script, replace_many) else { return };
    assert_eq!((count(&log)["old"], count(&log)["new"]), ([MANY, 1, 0], [MANY, 2, 0]));
    let renames = log.split("/durafile-begins-new").nth(1).unwrap();
    let renames = &renames[renames.find(" renameat(").unwrap()..];
    let (first, rest) = renames.split_at(renames.find(" fsync(").unwrap());
    assert_eq!(first.matches(" renameat(").count(), 32, "{first}");
    assert!(!first.contains(" close("), "given up before the names are durable: {first}");
    let last = rest.rfind(" renameat(").unwrap();
    let (second, end) = (rest.find(" renameat(").unwrap(), last + rest[last..].find(" fsync(").unwrap());
    assert!(!rest[second..end].contains(" close("), "given up before the names are durable: {rest}");
}

fn save_thirty(dir: &Path) {
    mark("thirty");
    let mut batch = Batch::new();
    for n in 0..30 {
        batch.write(dir.join(format!("{n}")), "new").unwrap();
    }
    batch.commit().unwrap();
    mark("end");
}

#[test]
fn on_btrfs_a_small_set_is_synced_in_turn_which_is_faster_there() {
    let script = "truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1; mount -o loop image mnt";
    let Some(log) = traced(&this_test!(), &["mkfs.btrfs"], script, save_thirty) else { return };
    assert_eq!(count(&log)["thirty"], [30, 1, 0]);
    let job = log.split("/durafile-begins-").nth(1).unwrap();
    // A call that began before is resumed here now and then.
    let starts_thread = ["clone(", "clone3("].into_iter().any(|call| job.contains(call));
    assert!(!starts_thread, "a thread was started: {job}");
}

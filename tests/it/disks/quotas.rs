//! Goal: the quota of a user on ext4 and XFS is told as that, wherever it is reached, and costs nothing
//! but the save. Method: as on full disks, by a user who is not root, in a user-mode Linux (a kernel as a
//! program), because the kernel of the machine may have been built without these quotas.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use durafile::ErrorKind;
use fs_err as fs;

use crate::disks::full_disks::{Scarce, every_operation, say};
use crate::disks::full_recovery::every_rest;
use crate::support::uml::{Kernel, can_boot};
use crate::support::{as_user, chown, dir, expect_pass, has, job, rerun, this_test};

const USER: u32 = 1000;

/// What `xfs_quota`, which can do ext4's quotas too, calls the things that are counted.
#[derive(Clone, Copy)]
enum Counted {
    KiB,
    Inodes,
}

/// Sets limits, as root.
struct Clerk {
    mount: PathBuf,
    counted: Counted,
}

impl Clerk {
    fn quota(&self, order: &str) -> String {
        let done =
            Command::new("xfs_quota").args(["-f", "-x", "-c", order]).arg(&self.mount).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{order}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn used(&self) -> u64 {
        rustix::fs::syncfs(fs::File::open(&self.mount).unwrap()).unwrap();
        let counted = if matches!(self.counted, Counted::KiB) { "-b" } else { "-i" };
        let report = self.quota(&format!("report -u -n -N {counted}"));
        let own = report.lines().find(|line| line.starts_with(&format!("#{USER} "))).unwrap_or(&report);
        own.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// So much more than now; no limit for none.
    fn limit(&self, more: Option<u64>) {
        let most = more.map_or(0, |more| self.used() + more);
        let limit = match self.counted {
            Counted::KiB => format!("bhard={most}k"),
            Counted::Inodes => format!("ihard={most}"),
        };
        self.quota(&format!("limit -u {limit} {USER}"));
    }
}

/// The same for one who is not root.
struct Quota {
    step: u64,
    orders: Sender<Option<u64>>,
    done: Receiver<()>,
}

impl Quota {
    fn order(&self, more: Option<u64>) {
        self.orders.send(more).unwrap();
        self.done.recv().unwrap();
    }
}

impl Scarce for Quota {
    fn leave(&mut self, count: u64) {
        self.order(Some(count * self.step));
    }

    fn give_back(&mut self) {
        self.order(None);
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::QuotaExceeded
    }
}

/// Every operation, and then every recovery, of a user with a limit.
fn everything(mount: &Path, counted: Counted, step: u64, what: &str) {
    let home = mount.join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, USER, USER);
    let clerk = Clerk { mount: mount.to_owned(), counted };
    let ((orders, ordered), (tell, done)) = (channel(), channel());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for more in ordered {
                clerk.limit(more);
                tell.send(()).unwrap();
            }
        });
        as_user(USER, USER, move || {
            let mut quota = Quota { step, orders, done };
            say(&every_operation(&home, &mut quota, 1, 300), what);
            every_rest(&home, &mut quota, 1, 300, what);
        })
        .unwrap();
    });
    fs::remove_dir(mount.join("home")).unwrap();
}

/// Runs the calling test in a user-mode Linux, where the script mounts `$DISK` at `mnt`.
fn in_a_kernel_with_quotas(test: &str, script: &str, body: impl FnOnce(&Path)) {
    if let Some((dir, _)) = job(test) {
        return body(&dir.join("mnt"));
    }
    if !can_boot() || !has("xfs_quota", &["-V"]) {
        return;
    }
    let home = dir();
    fs::create_dir(home.path().join("mnt")).unwrap();
    let kernel = Kernel { disk: 320, modules: &["quota_tree", "quota_v2"], script, seconds: 1500 };
    if let Some(output) = kernel.run(home.path(), &rerun(&[], test, home.path(), "")) {
        expect_pass(&output);
    }
}

#[test]
fn ext4_with_the_quota_of_a_user_used_up_at_many_points_and_every_inode() {
    let script = "mkfs.ext4 -q -F -b 1024 -O quota $DISK; mount -o usrquota $DISK mnt";
    in_a_kernel_with_quotas(&this_test!(), script, |mount| {
        everything(mount, Counted::KiB, 6, "ext4, a user's blocks");
        everything(mount, Counted::Inodes, 1, "ext4, a user's inodes");
    });
}

#[test]
fn xfs_with_the_quota_of_a_user_used_up_at_many_points_and_every_inode() {
    let script = "mkfs.xfs -q -f $DISK; mount -o uquota $DISK mnt";
    in_a_kernel_with_quotas(&this_test!(), script, |mount| {
        everything(mount, Counted::KiB, 64, "XFS, a user's blocks");
        everything(mount, Counted::Inodes, 1, "XFS, a user's inodes");
    });
}

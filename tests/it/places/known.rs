//! What does not hold, place by place. Whoever mends an entry of the first table deletes it: the
//! tests fail until then.

/// A mount, a rule, and what happens instead.
pub(crate) type Entry = (&'static str, &'static str, &'static str);

/// What is wrong today.
pub(crate) const KNOWN: &[Entry] = &[];

/// What is refused for good, as it must be where the place can't do it.
pub(crate) const RIGHTLY_REFUSED: &[Entry] = &[
    // Without locks nothing tells a dead writer from a live one but its age, and the rule gives none.
    ("seccomp: no flock", "recover removes what a killed Batch left", "violated: a remnant stays"),
    // Whoever must be alone needs a lock.
    ("seccomp: no flock", "Transaction", "refused: unsupported"),
    ("seccomp: no flock", "AtomicDir", "refused: unsupported"),
    ("seccomp: no flock", "a killed Transaction is all or nothing", "refused: unsupported"),
    ("seccomp: no flock", "a killed AtomicDir is old or new", "refused: unsupported"),
    ("seccomp: no flock", "recover leaves a live Transaction alone", "refused: unsupported"),
    ("seccomp: no flock", "recover leaves a live AtomicDir alone", "refused: unsupported"),
    ("seccomp: no flock", "recover leaves an AtomicDir alone that commits", "refused: unsupported"),
    ("seccomp: no flock", "two Transactions exclude each other", "refused: unsupported"),
    ("seccomp: no flock", "two AtomicDirs exclude each other", "refused: unsupported"),
    ("seccomp: no flock", "recover removes what a killed Transaction left", "refused: unsupported"),
    ("seccomp: no flock", "recover removes what a killed AtomicDir left", "refused: unsupported"),
    ("seccomp: no flock", "DirSnapshot keeps its version", "refused: unsupported"),
    ("seccomp: no flock", "updates of one file lose none", "refused: unsupported"),
    ("seccomp: no flock", "expect refuses a file that was changed", "refused: unsupported"),
    ("seccomp: no flock", "InPlace::Fallback overwrites a mount point", "refused: unsupported"),
    ("seccomp: no flock", "SpecialFiles::Skip", "refused: unsupported"),
    ("seccomp: no flock", "TransactionOptions::files", "refused: unsupported"),
    ("seccomp: no flock", "DirOptions::files", "refused: unsupported"),
    ("seccomp: no flock", "LockFile excludes", "refused: unsupported"),
    ("seccomp: no flock", "the LockFile of a killed holder is free", "refused: unsupported"),
    // A lock of a directory is seen by one client only there, and a reader needs one that all see.
    ("NFS", "DirSnapshot keeps its version", "refused: unsupported"),
    ("NFS, all_squash", "DirSnapshot keeps its version", "refused: unsupported"),
    // The kernel lets no directory move to another one there, and a tree can't be copied in one step.
    ("Landlock without REFER", "rename", "refused: cross_device"),
    // A file is linked to its new name there; a directory can't be linked.
    ("seccomp: no renameat2", "rename_new of a directory", "refused: permission_denied"),
    ("NFS", "rename_new of a directory", "refused: unsupported"),
    ("NFS, all_squash", "rename_new of a directory", "refused: unsupported"),
    ("bindfs, forced owner", "rename_new of a directory", "refused: unsupported"),
    ("exfat-fuse", "rename_new of a directory", "refused: unsupported"),
    ("mergerfs", "rename_new of a directory", "refused: unsupported"),
    ("ntfs-3g", "rename_new of a directory", "refused: unsupported"),
    ("ntfs-3g, umask=002", "rename_new of a directory", "refused: unsupported"),
    // Neither links nor a rename that replaces nothing.
    ("exfat-fuse", "rename_new of a file", "refused: unsupported"),
    ("exfat-fuse", "one of many wins create_new", "refused: unsupported"),
    // exfat-fuse 1.3 itself dies of it.
    ("exfat-fuse", "AtomicDir under another case", "refused: io"),
];

/// What is promised nowhere where the place itself gives wrong answers: these rules are asked, and hold or don't by
/// chance. The reason stands where the answer would.
pub(crate) const NOT_PROMISED: &[Entry] = &[
    // For a second gocryptfs shows a name with the length, the content or the inode of what had it before. A plain
    // rename shows it, too.
    ("gocryptfs", "replacing: the name is never missing, the content never torn", STALE),
    ("gocryptfs", "updates of one file lose none", STALE),
    // So right after the kill. It holds if recovery comes a second later.
    ("gocryptfs", "a killed Transaction is all or nothing", STALE),
    ("gocryptfs", "a killed AtomicDir is old or new", STALE),
];

const STALE: &str = "not promised: for a second it shows what was";

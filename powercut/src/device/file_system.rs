//! The file systems, how they are made, and with which options they are mounted.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

/// How to make one.
pub struct Format {
    pub program: &'static str,
    pub arguments: &'static [&'static str],
}

/// One column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub kind: FileSystem,
    /// Mount options; `fast_commit` is given when the file system is made.
    pub options: String,
}

impl FileSystem {
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    /// The smallest that their makers take, nearly.
    pub fn bytes(self) -> u64 {
        match self {
            FileSystem::Ext4 => 48 << 20,
            FileSystem::Xfs => 64 << 20,
            FileSystem::Btrfs => 160 << 20,
        }
    }

    /// Where a device may tear a write. All of them are made for sectors of this size; the super block
    /// of btrfs has one checksum for 4096 bytes and would be lost.
    pub fn tear_unit(self) -> usize {
        match self {
            FileSystem::Ext4 | FileSystem::Xfs => 512,
            FileSystem::Btrfs => 4096,
        }
    }

    /// The mount option for what the others do in any case.
    pub fn read_only_on_errors(self) -> &'static str {
        if self == FileSystem::Ext4 { "errors=remount-ro" } else { "" }
    }

    /// Mount options besides the default that `--full` tries.
    pub fn variants(self) -> &'static [&'static str] {
        match self {
            FileSystem::Ext4 => &[
                "data=journal",
                "data=writeback",
                "nodelalloc",
                "noauto_da_alloc",
                "nodioread_nolock",
                "fast_commit",
            ],
            FileSystem::Xfs => &["logbsize=256k", "wsync"],
            FileSystem::Btrfs => &["notreelog", "nodatacow", "compress-force=zstd"],
        }
    }
}

impl Column {
    pub fn format(&self) -> Format {
        let (program, arguments): (_, &[&str]) = match self.kind {
            FileSystem::Ext4 if self.has_fast_commit() => (
                "mkfs.ext4",
                &[
                    "-q",
                    "-F",
                    "-b",
                    "4096",
                    "-J",
                    "size=8",
                    "-O",
                    "fast_commit",
                    "-E",
                    "lazy_itable_init=0,lazy_journal_init=0",
                ],
            ),
            FileSystem::Ext4 => (
                "mkfs.ext4",
                &["-q", "-F", "-b", "4096", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            ),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f", "--unsupported"]),
            FileSystem::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        };
        Format { program, arguments }
    }

    pub fn has_fast_commit(&self) -> bool {
        self.options.split(',').any(|option| option == "fast_commit")
    }

    /// For the mount call.
    pub fn mount_options(&self) -> String {
        let options = self.options.split(',').filter(|option| *option != "fast_commit");
        options.collect::<Vec<_>>().join(",")
    }

    pub fn title(&self) -> String {
        match self.options.as_str() {
            "" => self.kind.name().to_owned(),
            options => format!("{} {options}", self.kind.name()),
        }
    }
}

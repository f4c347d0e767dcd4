//! A kernel of the test's own: user-mode Linux, which is a kernel that runs as a program. It has what
//! the machine's kernel may lack (quotas, an NFS server, vfat), and it ends with its program.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};

use fs_err as fs;
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::{chmod, has, is_root, skip};

/// What to boot.
pub(crate) struct Kernel<'a> {
    /// The size of `$DISK`, in MiB.
    pub(crate) disk: u64,
    /// Modules to load, each after those that it needs.
    pub(crate) modules: &'a [&'a str],
    /// Run by a shell as root in the directory `$DIR`, before the command.
    pub(crate) script: &'a str,
    /// After so many seconds the kernel is killed.
    pub(crate) seconds: u32,
}

/// Whether such a kernel can run here; skips the calling test otherwise.
pub(crate) fn can_boot() -> bool {
    if !is_root() {
        skip("only root can mount what the test needs");
        return false;
    }
    has("linux.uml", &["--version"]) && has("insmod", &["--version"])
}

impl Kernel<'_> {
    /// Runs the command in that kernel, which sees the files of this machine. Its directory `$DIR` is
    /// `home`. None, and a skip, if the kernel doesn't start.
    pub(crate) fn run(&self, home: &Path, command: &Command) -> Option<Output> {
        let image = home.join("image");
        fs::File::create(&image).unwrap().set_len(self.disk << 20).unwrap();
        let first = home.join("first-process");
        fs::write(&first, self.first_process(command)).unwrap();
        chmod(&first, 0o700);
        // setpriv: the kernel does not outlive the thread that started it, even if that is killed.
        let mut boot = Command::new("setpriv");
        boot.args(["--pdeathsig", "TERM", "timeout", "--kill-after=10"])
            .args([self.seconds.to_string().as_str(), "linux.uml", "mem=256M", "quiet", "panic=-1"])
            .args(["con=null", "con0=null,fd:1", "rootfstype=hostfs", "rootflags=/", "rw"])
            .arg(format!("ubd0={}", image.display()))
            .arg(format!("init={}", first.display()))
            // What is no parameter of that Linux is in the environment of its first process.
            .arg(OLD_REGISTERS);
        let start = || {
            hide_large_registers();
            boot.output().unwrap()
        };
        let booted = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        let said = String::from_utf8_lossy(&booted.stdout).replace('\r', "");
        // The console is one stream: libtest's words may stand before these in a line.
        let said = said.replace("TRIED", "\nTRIED").replace("SKIPPED", "\nSKIPPED");
        if !said.contains("BOOTED") {
            skip(&format!("user-mode Linux does not start here: {said}"));
            return None;
        }
        let said = said.into_bytes();
        Some(Output { status: ExitStatus::from_raw(0), stdout: said.clone(), stderr: said })
    }

    /// A script that prepares that Linux and runs the command in it.
    fn first_process(&self, command: &Command) -> String {
        let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quote);
        let set = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, quote(value?))));
        format!(
            "#!/bin/sh
            echo BOOTED
            trap 'echo o >/proc/sysrq-trigger; sleep 60' EXIT
            export {} PATH='{}' DISK=/dev/ubda
            mount -t proc proc /proc; mount -t sysfs sysfs /sys
            modules=/usr/lib/uml/modules/$(uname -r)
            for module in {}; do
                # A line of that file: a module, and those that it needs, the last of them first.
                line=$(grep \"/$module.ko:\" $modules/modules.dep)
                needed=
                for one in ${{line#*:}}; do needed=\"$one $needed\"; done
                for one in $needed ${{line%%:*}}; do insmod $modules/$one 2>/dev/null; done
            done
            # What could not be prepared must not be taken for a place where all is well.
            set -e
            cd \"$DIR\"
            {}
            {}\n",
            set.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
            std::env::var("PATH").unwrap(),
            self.modules.join(" "),
            self.script,
            words.collect::<Vec<_>>().join(" "),
        )
    }
}

/// The C library of that Linux's programs leaves the registers alone that [`hide_large_registers`] hides: their
/// content is lost whenever another program gets its turn.
const OLD_REGISTERS: &str =
    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-AVX512BW";

/// Forbids this thread, and what it starts, to ask for the registers of another process in the form that
/// grows with the processor (`NT_X86_XSTATE`). Where they are larger than that Linux was built for (AMX), it
/// can read them but not write them back, and its first process dies; refused, it asks for the old form.
fn hide_large_registers() {
    const PTRACE: i64 = 101;
    const GETREGSET: u64 = 0x4204;
    const XSTATE: u64 = 0x202;
    let is = |argument, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value).unwrap()
    };
    let rule = SeccompRule::new(vec![is(0, GETREGSET), is(2, XSTATE)]).unwrap();
    let rules = BTreeMap::from([(PTRACE, vec![rule])]);
    let refused = SeccompAction::Errno(Errno::INVAL.raw_os_error() as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::x86_64).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

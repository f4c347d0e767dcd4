//! A kernel that lacks a system call, as far as one thread is concerned.

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::work::operation::Outcome;

/// From here on, in this thread and those that it starts, two names can't be exchanged.
pub fn refuse_exchange() -> Outcome<()> {
    let (arch, [_, renameat2]) = renames()?;
    // Its fifth argument has the flags, and 2 is RENAME_EXCHANGE.
    let exchanges = SeccompCondition::new(4, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(2), 2)?;
    refuse(arch, [(renameat2, vec![SeccompRule::new(vec![exchanges])?])], Errno::INVAL)
}

/// From here on, in this thread and those that it starts, nothing can be renamed.
pub fn refuse_renames() -> Outcome<()> {
    let (arch, numbers) = renames()?;
    refuse(arch, numbers.map(|number| (number, Vec::new())), Errno::PERM)
}

/// renameat and renameat2, by architecture.
fn renames() -> Outcome<(TargetArch, [i64; 2])> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok((arch, if arch == TargetArch::x86_64 { [264, 316] } else { [38, 276] }))
}

fn refuse<const N: usize>(
    arch: TargetArch,
    rules: [(i64, Vec<SeccompRule>); N],
    errno: Errno,
) -> Outcome<()> {
    let action = SeccompAction::Errno(errno.raw_os_error() as u32);
    let filter = SeccompFilter::new(BTreeMap::from(rules), SeccompAction::Allow, action, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&filter)?)
}

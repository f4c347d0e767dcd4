//! A kernel that lacks a system call, as far as one thread is concerned.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::operation::Outcome;

/// From here on, in this thread and those that it starts, two names can't be exchanged.
pub fn refuse_exchange() -> Outcome<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    // renameat2, by architecture; its fifth argument has the flags, and 2 is RENAME_EXCHANGE.
    let number = if arch == TargetArch::x86_64 { 316 } else { 276 };
    let exchanges = SeccompCondition::new(4, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(2), 2)?;
    let rules = BTreeMap::from([(number, vec![SeccompRule::new(vec![exchanges])?])]);
    let einval = SeccompAction::Errno(rustix::io::Errno::INVAL.raw_os_error() as u32);
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, einval, arch)?.try_into()?;
    Ok(apply_filter(&filter)?)
}

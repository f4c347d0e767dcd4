//! The core: stage beside the target, sync, rename, sync the parent; clean up on any error.
//!
//! Everything public that saves ends here. The order of steps is the crate's whole promise;
//! `docs/protocols.md` gives it with the reasons.

mod compare;
mod metadata;
pub(crate) mod names;
mod parents;
mod publish;
mod stage;
pub(crate) mod sweep;
mod target;

pub(crate) use compare::{Content, unchanged};
pub(crate) use stage::Staged;
pub(crate) use target::Target;

#[cfg(unix)]
fn mode_of_permissions(permissions: &std::fs::Permissions) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    permissions.mode() & 0o7777
}

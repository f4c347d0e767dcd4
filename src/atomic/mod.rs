//! The core: stage beside the target, sync, rename, sync the parent; clean up on any error.
//!
//! Everything public that saves ends here. The order of steps is the crate's whole promise;
//! `docs/protocols.md` gives it with the reasons.

pub(crate) mod beneath;
mod compare;
pub(crate) mod dir_carry;
pub(crate) mod dir_draft;
mod dir_fallback;
pub(crate) mod dir_old;
mod dir_record;
mod dir_seal;
pub(crate) mod dir_settle;
mod dir_stage;
mod dir_swap;
pub(crate) mod dir_target;
pub(crate) mod metadata;
pub(crate) mod names;
mod parents;
pub(crate) mod places;
pub(crate) mod plan;
mod probe;
mod publish;
pub(crate) mod record;
pub(crate) mod redo;
mod remove;
pub(crate) mod ruling;
pub(crate) mod settle;
pub(crate) mod stage;
pub(crate) mod stage_dir;
pub(crate) mod stream;
pub(crate) mod sweep;
mod sync_pool;
pub(crate) mod sync_set;
mod target;
pub(crate) mod writer_lock;

pub(crate) use compare::{Content, unchanged, unchanged_file};
pub(crate) use probe::probe;
pub(crate) use publish::{
    Outcome, link_or_drop, may_not_be_linked, move_into_place, outcome_of_link, sync_rename,
};
pub(crate) use stage::{Staged, create_named_in, creation_mode, creation_mode_of};
pub(crate) use target::{Target, split};

pub(crate) use crate::sys::mode_of_permissions;

//! Fresh names for what we put beside a target, which nobody else may take. What they look like is in
//! [`name_format`](crate::name_format).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::name_format::name;
use crate::sys;

pub(crate) use crate::name_format::{Role, for_target, name_of, role_of};
pub(crate) use crate::sys::prepare_random_bits as prepare;

/// A fresh name, which nobody can predict. If it is taken all the same, the exclusive create refuses it, and
/// another one is tried.
pub(crate) fn fresh(role: Role) -> OsString {
    name(role, sys::random_bits())
}

/// Refuses to create or replace something for a caller under a name of ours: the next recovery would take it for a remnant,
/// and remove it.
pub(crate) fn refuse_ours<'n>(
    operation: &'static str,
    path: &Path,
    names: impl IntoIterator<Item = &'n OsStr>,
) -> Result<()> {
    if names.into_iter().any(|name| role_of(name).is_some()) {
        return Err(Error::new(ErrorKind::InvalidPath, operation, path)
            .because("the name is one of those that recovery removes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_are_short_distinct_and_recognised() {
        let names: std::collections::HashSet<_> = (0..10_000).map(|_| fresh(Role::Stage)).collect();
        assert_eq!(names.len(), 10_000);
        for name in &names {
            assert!(role_of(name).is_some(), "{name:?}");
            assert!(name.len() < 48);
        }
    }
}

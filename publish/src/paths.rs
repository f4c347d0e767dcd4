//! Which paths and links a tree may have.
//!
//! The same rules hold for what is published and for what is pulled, where a manifest is believed nothing.

use std::collections::{BTreeMap, BTreeSet};

/// As Linux has it, in bytes.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4000;

/// A link may lead through so many others; what needs more is a loop.
const MAX_LINKS: usize = 40;

/// Why a path can't be that of an entry, if so.
pub(crate) fn flaw(path: &str) -> Option<&'static str> {
    if path.len() > MAX_PATH {
        return Some("its path is too long");
    }
    path.split('/').find_map(name_flaw)
}

fn name_flaw(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("its path is absolute or has an empty part"),
        "." | ".." => Some("its path has a part that is . or .."),
        name if name.len() > MAX_NAME => Some("its name is too long"),
        name if name.contains('\0') => Some("its name has a zero byte"),
        name if durafile::is_remnant(name) => Some("its name is one of durafile's own"),
        _ => None,
    }
}

/// The names of a tree.
#[derive(Debug, Default)]
pub(crate) struct Names<'a> {
    dirs: BTreeSet<&'a str>,
    files: BTreeSet<&'a str>,
    links: BTreeMap<&'a str, &'a str>,
}

type Flaw<'a> = (&'a str, &'static str);

impl<'a> Names<'a> {
    pub(crate) fn add_dir(&mut self, path: &'a str) -> Result<(), Flaw<'a>> {
        self.check(path)?;
        if self.dirs.insert(path) { Ok(()) } else { Err((path, "it is there twice")) }
    }

    pub(crate) fn add_file(&mut self, path: &'a str) -> Result<(), Flaw<'a>> {
        self.check(path)?;
        if self.files.insert(path) { Ok(()) } else { Err((path, "it is there twice")) }
    }

    pub(crate) fn add_link(&mut self, path: &'a str, target: &'a str) -> Result<(), Flaw<'a>> {
        self.check(path)?;
        if target.is_empty() || target.contains('\0') || target.len() > MAX_PATH {
            return Err((path, "it is a link to nothing that can be named"));
        }
        if self.links.insert(path, target).is_none() { Ok(()) } else { Err((path, "it is there twice")) }
    }

    fn check(&self, path: &'a str) -> Result<(), Flaw<'a>> {
        flaw(path).map_or(Ok(()), |why| Err((path, why)))
    }

    /// When all names are in: each one is one thing, in a directory, and no link leads out.
    pub(crate) fn finish(&self) -> Result<(), Flaw<'a>> {
        for path in self.files.iter().copied().chain(self.links.keys().copied()) {
            let twice =
                self.dirs.contains(path) || (self.files.contains(path) && self.links.contains_key(path));
            if twice {
                return Err((path, "two different things have its name"));
            }
        }
        let all = self.dirs.iter().chain(&self.files).chain(self.links.keys());
        for &path in all {
            if path.rsplit_once('/').is_some_and(|(parent, _)| !self.dirs.contains(parent)) {
                return Err((path, "what it is in is no directory"));
            }
        }
        self.links.keys().try_for_each(|&link| self.follow(link).map_err(|why| (link, why)))
    }

    /// Follows a link as the system would, through other links too.
    fn follow(&self, link: &str) -> Result<(), &'static str> {
        const OUT: &str = "it is a link that leads out of the tree";
        let mut at: Vec<&str> = link.split('/').collect();
        let mut todo: Vec<&str> = at.pop().into_iter().collect();
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            match part {
                "" | "." => continue,
                ".." => at.pop().map(drop).ok_or(OUT)?,
                name => at.push(name),
            }
            let Some(target) = self.links.get(at.join("/").as_str()) else { continue };
            followed += 1;
            if followed > MAX_LINKS {
                return Err("it is a link that leads round in a circle");
            }
            if target.starts_with('/') {
                return Err(OUT);
            }
            at.pop();
            todo.extend(target.split('/').rev());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        dirs: &[&'static str],
        files: &[&'static str],
        links: &[(&'static str, &'static str)],
    ) -> Result<(), Flaw<'static>> {
        let mut names = Names::default();
        dirs.iter().try_for_each(|dir| names.add_dir(dir))?;
        files.iter().try_for_each(|file| names.add_file(file))?;
        links.iter().try_for_each(|(link, target)| names.add_link(link, target))?;
        names.finish()
    }

    #[test]
    fn paths_that_lead_out_or_are_ours_are_refused() {
        let remnant = ["/x", "../x", "a/../x", "a//x", "", ".", "a/.", "a/", "x\0"];
        for path in remnant {
            assert!(judge(&["a"], &[path], &[]).is_err(), "{path:?}");
        }
        let long: &str = Box::leak("x".repeat(256).into_boxed_str());
        assert!(judge(&[], &[long], &[]).is_err());
    }

    #[test]
    fn a_name_is_one_thing_and_stands_in_a_directory() {
        assert!(judge(&["a"], &["a/x"], &[]).is_ok());
        assert!(judge(&[], &["a/x"], &[]).is_err());
        assert!(judge(&[], &["a", "a/x"], &[]).is_err());
        assert!(judge(&["a"], &["a"], &[]).is_err());
        assert!(judge(&[], &["a", "a"], &[]).is_err());
        assert!(judge(&[], &["a"], &[("a", "b")]).is_err());
        assert!(judge(&["d"], &["l/x"], &[("l", "d")]).is_err());
    }

    #[test]
    fn links_are_followed_as_the_system_does() {
        let dirs = ["a", "a/b"];
        let stays =
            [("a/l", "b"), ("m", "a/b/../../x"), ("n", "a/b"), ("o", "n/../b"), ("dangling", "nothing/here")];
        assert_eq!(judge(&dirs, &["x"], &stays), Ok(()));
        for (link, target) in
            [("l", ".."), ("l", "/etc"), ("a/l", "../.."), ("a/b/l", "../../../x"), ("l", "l")]
        {
            assert!(judge(&dirs, &[], &[(link, target)]).is_err(), "{link} -> {target}");
        }
        // By its text this one stays; by way of the other link it doesn't.
        assert!(judge(&dirs, &[], &[("a/b/up", ".."), ("l", "a/b/up/../../x")]).is_err());
    }
}

//! Asking every rule on a place, and comparing the answers with what is known.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::known::{Entry, KNOWN, NOT_PROMISED, RIGHTLY_REFUSED};
use super::{Place, Site, killed, live, on, ops, rules};

/// One rule, and how it is asked.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Rules about something that not every place has.
    pub(crate) applies: fn(&Site) -> bool,
    pub(crate) check: fn(&Scene<'_>) -> Answer,
}

pub(crate) const fn rule(name: &'static str, check: fn(&Scene<'_>) -> Answer) -> Rule {
    Rule { name, applies: |_| true, check }
}

/// Holds, perhaps with a remark; or not.
pub(crate) type Answer = Result<String, Wrong>;

/// How a rule does not hold: `refused: busy` or `violated: half of it`, and what was seen.
#[derive(Debug)]
pub(crate) struct Wrong {
    what: String,
    seen: String,
}

impl Wrong {
    pub(crate) fn new(what: String, seen: impl Debug) -> Wrong {
        Wrong { what, seen: format!("{seen:?}") }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

/// A rule that is broken; the words are those of the table in `known.rs`.
pub(crate) fn violated(what: &str, seen: impl Debug) -> Wrong {
    Wrong { what: format!("violated: {what}"), seen: format!("{seen:?}") }
}

pub(crate) fn ensure(holds: bool, what: &str, seen: impl Debug) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(violated(what, seen)) }
}

/// What a child said of its error.
pub(crate) fn refused(kind: &str) -> Wrong {
    Wrong { what: format!("refused: {kind}"), seen: String::new() }
}

impl From<durafile::Error> for Wrong {
    fn from(e: durafile::Error) -> Wrong {
        Wrong { what: format!("refused: {}", e.kind().as_str()), seen: format!("{e}: {:?}", e.io_error()) }
    }
}

/// Errors of what the test itself does there.
impl From<std::io::Error> for Wrong {
    fn from(e: std::io::Error) -> Wrong {
        violated("the test's own call failed", e)
    }
}

/// A folder of the rule's own, as the two clients see it.
pub(crate) struct Scene<'a> {
    pub(crate) site: &'a Site,
    pub(crate) folder: PathBuf,
}

impl Scene<'_> {
    pub(crate) fn first(&self) -> PathBuf {
        self.site.first.join(&self.folder)
    }

    pub(crate) fn second(&self) -> PathBuf {
        self.site.second.join(&self.folder)
    }

    pub(crate) fn server(&self) -> PathBuf {
        self.site.server.join(&self.folder)
    }

    /// A folder in it, made.
    pub(crate) fn inner(&self, name: &str) -> std::io::Result<Scene<'_>> {
        let inner = Scene { site: self.site, folder: self.folder.join(name) };
        std::fs::create_dir(inner.first())?;
        Ok(inner)
    }
}

/// Every rule, in the order in which they are asked.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    [rules::RULES, ops::RULES, killed::RULES, live::RULES, rules::FOLDING].into_iter().flatten()
}

fn ask(rule: &Rule, site: &Site, number: usize) -> Answer {
    let scene = Scene { site, folder: Path::new("rules").join(number.to_string()) };
    std::fs::create_dir_all(scene.first())?;
    let answer = catch_unwind(AssertUnwindSafe(|| (rule.check)(&scene)));
    answer.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(violated("panicked", words))
    })
}

/// Every rule on each mount of the place. Appends the answers to the file `DURAFILE_PLACE_TABLE`, one a
/// line: mount, rule, answer, remark and time, separated by tabs.
#[track_caller]
pub(crate) fn every_rule(test: &str, place: &Place) {
    let surprises = RefCell::new(Vec::new());
    let said = on(test, place, |site| {
        if site.role.is_empty() {
            surprises.borrow_mut().extend(on_one_mount(site));
        } else {
            live::play(site);
        }
    });
    let surprises = surprises.into_inner();
    assert!(surprises.is_empty(), "known.rs tells it otherwise:\n{}", surprises.join("\n"));
    if let (Some(said), Some(table)) = (said, std::env::var_os("DURAFILE_PLACE_TABLE")) {
        let lines = said.lines().filter_map(|line| line.strip_prefix("TRIED "));
        let rows: String = lines.map(|line| line.replace(" | ", "\t") + "\n").collect();
        let table = std::fs::File::options().create(true).append(true).open(table);
        table.unwrap().write_all(rows.as_bytes()).unwrap();
    }
}

/// What is not as the tables say.
fn on_one_mount(site: &Site) -> Vec<String> {
    let mut surprises = Vec::new();
    let asked: Vec<_> = all().enumerate().filter(|(_, rule)| (rule.applies)(site)).collect();
    for (number, rule) in &asked {
        let start = Instant::now();
        let answer = ask(rule, site, *number);
        let (what, seen) = match &answer {
            Ok(remark) => ("holds", remark.clone()),
            Err(wrong) => (wrong.what.as_str(), wrong.seen.clone()),
        };
        let (what, seen) = match told(NOT_PROMISED, site.name, rule.name) {
            Some(why) => (why, format!("{what} {seen}")),
            None => (what, seen),
        };
        let seen: String = seen.replace(" | ", " / ").chars().take(4000).collect();
        let took = start.elapsed().as_secs_f32();
        tell(&format!("TRIED {} | {} | {what} | {seen} | {took:.1} s", site.name, rule.name));
        let expected = expected(site.name, rule.name);
        if what != expected {
            surprises.push(format!("{} | {} | {what}, expected: {expected}", site.name, rule.name));
        }
    }
    let listed =
        [KNOWN, RIGHTLY_REFUSED, NOT_PROMISED].into_iter().flatten().filter(|(on, ..)| *on == site.name);
    for (_, of, _) in listed.filter(|(_, of, _)| !asked.iter().any(|(_, rule)| rule.name == *of)) {
        surprises.push(format!("{} | {of} | was not asked", site.name));
    }
    surprises
}

fn expected(place: &str, rule: &str) -> &'static str {
    let lists = [KNOWN, RIGHTLY_REFUSED, NOT_PROMISED];
    lists.iter().find_map(|list| told(list, place, rule)).unwrap_or("holds")
}

fn told(list: &[Entry], place: &str, rule: &str) -> Option<&'static str> {
    list.iter().find(|(on, of, _)| (*on, *of) == (place, rule)).map(|(.., what)| *what)
}

/// One line, in one piece.
fn tell(line: &str) {
    let line = line.replace(['\n', '\t'], " ");
    std::io::stderr().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

#[test]
fn what_is_known_is_listed_once() {
    let mut keys: Vec<_> =
        [KNOWN, RIGHTLY_REFUSED, NOT_PROMISED].into_iter().flatten().map(|(on, of, _)| (on, of)).collect();
    keys.sort();
    let all = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

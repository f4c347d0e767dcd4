//! The table of docs/platforms.md, written by what the places' tests have seen.
//!
//! `ci/places` compares it with the page, `ci/places --write` writes it there. Rules that race are decided by
//! rates; only the verdicts are told, so that two runs give one table.

use std::collections::BTreeSet;

use fs_err as fs;

use super::known::{Entry, KNOWN, NOT_PROMISED, RIGHTLY_REFUSED};
use super::suite::all;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/platforms.md");
const BEGIN: &str = "<!-- written by ci/places -->\n";
const END: &str = "<!-- end of what ci/places has written -->\n";

/// The last cells of a rule's row: where it is refused, where it is not promised, and where it does not hold.
fn exceptions(entries: impl Iterator<Item = (String, String)>) -> [String; 3] {
    let entries: BTreeSet<_> = entries.collect();
    let list = |prefix: &str| {
        let told = entries.iter().filter_map(|(place, what)| {
            let what = what.strip_prefix(prefix)?;
            Some(if prefix == "refused: " {
                format!("{place} (`{what}`)")
            } else {
                format!("{place} ({what})")
            })
        });
        told.collect::<Vec<_>>().join("; ")
    };
    [list("refused: "), list("not promised: "), list("violated: ")]
}

/// The page up to the table, the table, and the rest.
fn page() -> [String; 3] {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    [format!("{before}{BEGIN}"), table.to_owned(), format!("{END}{after}")]
}

/// What was seen: place, rule, answer, and more that is of no interest here.
fn rendered(seen: &str) -> String {
    let seen: Vec<[&str; 3]> = seen
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            std::array::from_fn(|_| fields.next().expect("a line has three fields"))
        })
        .collect();
    let places: BTreeSet<&str> = seen.iter().map(|[place, ..]| *place).collect();
    let mut table = format!("Asked on {} places: {}.\n\n", places.len(), names(&places));
    table += "| rule | asked on | refused, by kind | not promised | does not hold |\n";
    table += "| --- | --- | --- | --- | --- |\n";
    for rule in all() {
        let of_rule = || seen.iter().filter(|[_, name, _]| *name == rule.name);
        let asked: BTreeSet<&str> = of_rule().map(|[place, ..]| *place).collect();
        let on = if asked == places { "all".to_owned() } else { names(&asked) };
        let [refused, unpromised, broken] =
            exceptions(of_rule().map(|[place, _, what]| ((*place).to_owned(), (*what).to_owned())));
        table += &format!("| {} | {on} | {refused} | {unpromised} | {broken} |\n", rule.name);
    }
    table
}

fn names(places: &BTreeSet<&str>) -> String {
    places.iter().copied().collect::<Vec<_>>().join("; ")
}

/// With `DURAFILE_PLACE_TABLE`, which names what a run has seen, and `DURAFILE_PLACE_PAGE`: `check` or `write`.
#[test]
fn the_page_says_what_was_seen() {
    let Ok(job) = std::env::var("DURAFILE_PLACE_PAGE") else { return };
    let seen = fs::read_to_string(std::env::var("DURAFILE_PLACE_TABLE").unwrap()).unwrap();
    let ([before, told, after], table) = (page(), rendered(&seen));
    if job == "write" {
        fs::write(PAGE, before + &table + &after).unwrap();
    } else {
        assert_eq!(told, table, "docs/platforms.md differs from what was seen; ci/places --write mends it");
    }
}

/// Those two agree without a run: the tests of the places fail where `known.rs` is wrong.
#[test]
fn the_page_says_what_is_known() {
    let [_, told, _] = page();
    for rule in all() {
        let row = told.lines().find_map(|line| line.strip_prefix(&format!("| {} | ", rule.name)));
        let row = row.unwrap_or_else(|| panic!("docs/platforms.md has no row for {:?}", rule.name));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let of_rule = |(_, name, _): &&Entry| *name == rule.name;
        let known = [KNOWN, RIGHTLY_REFUSED, NOT_PROMISED].into_iter().flatten().filter(of_rule);
        let known = exceptions(known.map(|(place, _, what)| ((*place).to_owned(), (*what).to_owned())));
        assert_eq!(cells[1..4], known, "docs/platforms.md differs from known.rs: {}", rule.name);
    }
}

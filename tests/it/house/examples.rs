//! Goal: whoever looks up a public item finds an example that runs, and what it fails with. Method: reading the
//! sources as text. `unreachable_pub` sees to it that what is `pub` in `src` is public.

use crate::house::tidy::{none, sources};

const ITEMS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];

/// The name of the public item that a line begins.
fn public_item(line: &str) -> Option<&str> {
    let words = line.trim().strip_prefix("pub ")?;
    let words = words.strip_prefix("const fn ").map_or(words, |name| &words[words.len() - name.len() - 3..]);
    let (kind, rest) = words.split_once(' ')?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    ITEMS.contains(&kind).then_some(&rest[..end])
}

/// The lines of documentation above an item, without their marks. Attributes may stand between them.
fn documentation<'t>(above: &[&'t str]) -> Vec<&'t str> {
    let lines = above.iter().rev().map(|line| line.trim());
    let belongs = |line: &&str| ["///", "#[", ")]"].iter().any(|mark| line.starts_with(mark));
    let mut lines: Vec<_> = lines.take_while(belongs).filter_map(|line| line.strip_prefix("///")).collect();
    lines.reverse();
    lines.iter().map(|line| line.trim()).collect()
}

/// An example that is compiled and run, which `no_run`, `ignore` or `text` are not.
fn has_example(documentation: &[&str]) -> bool {
    let fences = documentation.iter().filter(|line| line.starts_with("```"));
    fences.step_by(2).any(|opening| *opening == "```")
}

fn can_fail(signature: &[&str]) -> bool {
    let ends = |line: &&str| line.ends_with(['{', ';']);
    let length = signature.iter().position(ends).map_or(signature.len(), |last| last + 1);
    let text = signature[..length].concat();
    // `Fn(&Path) -> Outcome` and the like are arguments: what is returned comes last.
    text.rsplit_once("->").is_some_and(|(_, returned)| returned.trim().starts_with("Result<"))
}

fn undocumented(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = public_item(line) else { continue };
        let documentation = documentation(&lines[..at]);
        if !has_example(&documentation) {
            findings.push(format!("{path}:{}: {name} has no example that runs", at + 1));
        }
        if line.contains("fn ") && can_fail(&lines[at..]) && !documentation.contains(&"# Errors") {
            findings.push(format!("{path}:{}: {name} does not tell its errors", at + 1));
        }
    }
    findings
}

#[test]
fn every_public_item_has_an_example_that_runs_and_tells_its_errors() {
    let library: Vec<_> = sources().into_iter().filter(|(path, _)| path.starts_with("src")).collect();
    let count: usize = library.iter().map(|(_, text)| text.lines().filter_map(public_item).count()).sum();
    assert!(count > 200, "only {count} public items were found");
    let findings: Vec<_> =
        library.iter().flat_map(|(path, text)| undocumented(&path.display().to_string(), text)).collect();
    none(&findings, "document these");
}

#[test]
fn an_item_without_an_example_and_one_without_its_errors_are_found() {
    let text = "\
/// ```
/// run();
/// ```
#[must_use]
pub fn run(f: impl Fn() -> u8) -> Result<()> {
/// ```no_run
/// stay();
/// ```
pub const fn stay() -> Option<Result<()>> {
/// ```
/// ```
///
/// # Errors
pub fn both(
    &self,
) -> Result<()> {
pub(crate) fn inner() -> Result<()> {
pub use inner;
";
    let found = ["a.rs:5: run does not tell its errors", "a.rs:9: stay has no example that runs"];
    assert_eq!(undocumented("a.rs", text), found);
}

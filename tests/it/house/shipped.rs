//! What of a source file ships, for the rules that don't hold in tests.

/// The lines that ship, with their numbers. An item marked `#[cfg(test)]` is left out, be it a `use`, a field or an arm
/// of a `match`; the test module ends the file. Comments are not left out.
///
/// An item is known by its indentation, which rustfmt sees to: it goes on with what stands deeper than its mark, and
/// with the lines that open or close its brackets.
pub(crate) fn shipped(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut lines = text.lines().zip(1..).map(|(line, number)| (number, line)).peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            found.push((number, line));
            continue;
        }
        let own = depth(line);
        // Other attributes, and comments, may stand between the mark and its item.
        let begins = |next: &str| !is_inside(own, next) && !starts_with(next, &["#[", "//"]);
        match lines.by_ref().find(|(_, next)| begins(next)) {
            Some((_, item)) if !starts_with(item, &["mod tests {"]) => {}
            _ => break,
        }
        let opens = |next: &str| depth(next) == own && starts_with(next, &["{", "where"]);
        let goes_on = |next: &str| is_inside(own, next) || opens(next);
        while lines.next_if(|(_, next)| goes_on(next)).is_some() {}
    }
    found
}

fn depth(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn starts_with(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.trim_start().starts_with(word))
}

fn is_inside(own: usize, line: &str) -> bool {
    let closes = || depth(line) == own && starts_with(line, &["}", ")", "]", ">"]);
    line.trim().is_empty() || depth(line) > own || closes()
}

#[test]
fn only_what_is_marked_is_left_out() {
    let text = "\
use one::One;
#[cfg(test)]
use gone::{
    Gone,
};
enum Job {
    Sync,
    #[cfg(test)]
    Gone(u8),
}
#[cfg(test)]
mod tests;
mod work;
fn perform(job: Job) {
    match job {
        #[cfg(test)]
        // Why.
        #[expect(
            gone
        )]
        Job::Gone(_) => {
            gone();

            gone()
        }
        (Job::Sync) => sync(),
    }
    #[cfg(test)]
    let gone = gone()
        .gone();
    last()
}
#[cfg(test)]
fn gone<T>(
    gone: T,
) -> u8
where
    T: Gone,
{
    gone
}
fn after() {}
#[cfg(test)]
#[cfg(unix)]
mod tests {
}
fn gone() {}
";
    let left = shipped(text);
    let numbers: Vec<usize> = left.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 6, 7, 10, 13, 14, 15, 26, 27, 31, 32, 42], "{left:#?}");
    assert!(left.iter().all(|(_, line)| !line.to_lowercase().contains("gone")), "{left:#?}");
}

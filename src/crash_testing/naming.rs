//! States by name, and in words.

use std::fmt::Write as _;

use crate::crash_testing::content::Choice;
use crate::crash_testing::states::{Choices, States};
use crate::crash_testing::trace::Trace;

impl States<'_> {
    /// The crash point, and a sign for each unit before it.
    pub(crate) fn name(&self, point: usize, choices: &[Choice]) -> String {
        let signs: String = choices.iter().map(|choice| choice.sign()).collect();
        format!("{point}:{signs}")
    }

    /// The state of that name; none if this save has none such.
    pub(crate) fn named(&self, name: &str) -> Option<(usize, Choices)> {
        let (point, signs) = name.split_once(':')?;
        let point: usize = point.parse().ok()?;
        let choices: Choices = signs.chars().map(Choice::of_sign).collect::<Option<_>>()?;
        (choices.len() == self.units_before(point)).then_some((point, choices))
    }

    /// The operations of a trace, each with what became of it.
    pub(crate) fn annotate(&self, trace: &Trace, point: usize, choices: &[Choice]) -> String {
        let mut text = String::new();
        for (number, operation) in trace.operations().iter().enumerate() {
            if number == point {
                text.push_str("         ===== crash =====\n");
            }
            let of_it = self.units.all.iter().zip(choices).filter(|(unit, _)| unit.op == number);
            let marks: String = of_it.map(|(_, choice)| mark(*choice)).collect();
            let _ = writeln!(text, "  {marks:>2} {number:>3}  {operation}");
        }
        text
    }
}

fn mark(choice: Choice) -> char {
    match choice {
        Choice::Whole => '+',
        Choice::Absent => '-',
        _ => '~',
    }
}

//! The table, as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;
use crate::ground::Kind;
use crate::guarantees::{Answers, QUESTIONS};
use crate::run::{Results, Row};
use crate::saves::Side;

const INTRO: &str = include_str!("intro.md");
/// For the versions of the peers.
const LOCK: &str = include_str!("../../../Cargo.lock");
const PEERS: [&str; 8] = [
    "atomic-write-file",
    "atomicwrites",
    "cap-std-ext",
    "fs-transaction",
    "fstx",
    "fsys",
    "gix-lock",
    "tempfile",
];
const LIMITS: &str = include_str!("limits.md");

#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) results: &'a [Results],
    pub(crate) guarantees: &'a [Answers],
    pub(crate) quick: bool,
}

/// How a ratio to the raw loop is read.
#[derive(Clone, Copy)]
enum Ratio {
    Time,
    Speed,
}

impl Report<'_> {
    pub(crate) fn write(&self, out: &Path) -> Outcome {
        let mut text = INTRO.to_owned();
        if self.quick {
            text.push_str(
                "\n**This is a quick run: it shows that everything works, and measures nothing well.**\n",
            );
        }
        self.machine(&mut text)?;
        if !self.goals().is_empty() {
            writeln!(text, "\n## The goals\n")?;
        }
        self.goals().iter().try_for_each(|goal| writeln!(text, "- {goal}"))?;
        let len = self.results.first().map_or(0, |first| first.set_len);
        self.scenario(&mut text, "One save: 4 KiB, replacing a warm file", "one-save", Ratio::Time, |r| {
            &r.saves
        })?;
        let title = format!("{len} new files of 1 KiB in one directory");
        self.scenario(&mut text, &title, "new-files", Ratio::Speed, |r| &r.new_files)?;
        let title = format!("{len} replaced files of 1 KiB in one directory");
        self.scenario(&mut text, &title, "replaced-files", Ratio::Speed, |r| &r.replaced)?;
        writeln!(text, "\n![durafile on all file systems](file-systems.svg)")?;
        self.sizes(&mut text)?;
        self.promises(&mut text)?;
        text.push_str(LIMITS);
        Ok(std::fs::write(out.join("README.md"), text)?)
    }

    fn machine(&self, text: &mut String) -> Outcome {
        writeln!(text, "\n## Measured on\n")?;
        let labels: Vec<&str> = self.results.iter().map(|r| r.label.as_str()).collect();
        header(text, "", &labels)?;
        let Some(first) = self.results.first() else { return Ok(()) };
        for (at, (fact, _)) in first.facts.iter().enumerate() {
            let values: Vec<&str> = self.results.iter().map(|r| r.facts[at].1.as_str()).collect();
            writeln!(text, "| {fact} | {} |", values.join(" | "))?;
        }
        let peers: Vec<String> = PEERS.iter().flat_map(|name| versions(name)).collect();
        writeln!(text, "\nThe crates: {}.", peers.join(", "))?;
        Ok(())
    }

    /// Details for the first file system, and the ratio for each.
    fn scenario(
        &self,
        text: &mut String,
        title: &str,
        plot: &str,
        ratio: Ratio,
        rows: fn(&Results) -> &Vec<Row>,
    ) -> Outcome {
        let Some(first) = self.results.first() else { return Ok(()) };
        let is_set = matches!(ratio, Ratio::Speed);
        writeln!(text, "\n## {title}\n\n![{title}]({plot}.svg)\n")?;
        writeln!(
            text,
            "{}\n",
            match ratio {
                Ratio::Time =>
                    "Time, as a multiple of the raw loop's; in brackets, where half of the rounds lie.",
                Ratio::Speed =>
                    "How many times faster than the raw loop; in brackets, where half of the rounds lie.",
            }
        )?;
        let labels: Vec<String> = self.results.iter().map(|r| r.label.clone()).collect();
        let mut heads = labels.clone();
        heads.extend([
            format!("ms, {}", first.label),
            "system calls".into(),
            "sync calls".into(),
            "flushes".into(),
        ]);
        header(text, "", &heads)?;
        for (at, row) in rows(first).iter().enumerate() {
            let mut cells = Vec::new();
            for results in self.results {
                let rows = rows(results);
                cells.push(ratio.cell(&rows[at], &rows[0]));
            }
            cells.push(format!("{:.2}", row.times.median().as_secs_f64() * 1e3));
            let calls = row.calls.map(|calls| (calls.total, calls.syncs));
            cells.push(number(calls.map(|(total, _)| total)));
            cells.push(number(calls.map(|(_, syncs)| syncs)));
            cells.push(number(row.times.median_flushes()));
            writeln!(text, "| {} | {} |", row_name(row, is_set), cells.join(" | "))?;
        }
        Ok(())
    }

    fn sizes(&self, text: &mut String) -> Outcome {
        writeln!(text, "\n## What a file costs in a batch, by its size\n\n![Cost per file](per-file.svg)\n")?;
        writeln!(text, "Microseconds for each new file of 1 KiB.")?;
        for results in self.results {
            let Some(first) = results.sizes.first() else { continue };
            let heads: Vec<String> = first.points.iter().map(|(len, _)| len.to_string()).collect();
            writeln!(text)?;
            header(text, &format!("{}: files", results.label), &heads)?;
            for series in &results.sizes {
                let mut cells: Vec<String> = series.points.iter().map(|(_, us)| format!("{us:.1}")).collect();
                cells.resize(heads.len(), "-".to_owned());
                writeln!(text, "| Batch, {} | {} |", series.name, cells.join(" | "))?;
            }
        }
        Ok(())
    }

    fn promises(&self, text: &mut String) -> Outcome {
        writeln!(text, "\n## What each keeps when it replaces a file\n")?;
        writeln!(text, "Tried out by the same program, on the host's file system.\n")?;
        header(text, "", &QUESTIONS.map(|(question, _)| question))?;
        for row in self.guarantees {
            writeln!(text, "| {} | {} |", row.name, row.answers.join(" | "))?;
        }
        Ok(())
    }

    /// What was aimed at, on the ext4 image.
    pub(crate) fn goals(&self) -> Vec<String> {
        let Some(ext4) = self.results.iter().find(|results| results.kind == Kind::Ext4) else {
            return Vec::new();
        };
        let at_least = |ours: &str, base: &str, goal: f64| {
            let times = |name| &named(&ext4.new_files, name).times;
            let (found, best) = (times(ours).speed(times(base)), times(ours).best_speed(times(base)));
            let verdict = verdict(found >= goal);
            format!(
                "{ours}: {found:.1} times {base}, goal at least {goal}: {verdict}; \
                 by the fastest rounds {best:.1}"
            )
        };
        let at_most = |ours: &str, goal: f64| {
            let (ours_times, raw) = (&named(&ext4.saves, ours).times, &ext4.saves[0].times);
            let (found, best) = (1.0 / ours_times.speed(raw), 1.0 / ours_times.best_speed(raw));
            let verdict = verdict(found <= goal);
            format!(
                "one save, {ours}: {found:.2} of the raw save, goal at most {goal}: {verdict}; \
                 by the fastest rounds {best:.2}"
            )
        };
        let mut goals = vec![
            at_most("durafile", 1.05),
            at_most("durafile, single_flush", 0.55),
            at_least("Batch, Auto", "raw loop", 16.0),
            at_least("Batch, FileSystem", "raw loop", 25.0),
            at_least("Batch, single_flush", "raw loop", 25.0),
            at_least("Transaction, Auto", "fs-transaction, ChangeSet", 8.0),
            at_least("Transaction, Auto", "fstx", 8.0),
        ];
        for series in &ext4.sizes {
            let costs = series.points.iter().map(|(_, us)| *us);
            let growth = costs.clone().zip(costs.skip(1)).map(|(less, more)| more / less).fold(0.0, f64::max);
            goals.push(format!(
                "Batch, {}: the cost of a file grows at most {growth:.2} times from one size to the next, \
                 goal flat or falling: {}",
                series.name,
                verdict(growth <= 1.1),
            ));
        }
        goals
    }
}

impl Ratio {
    fn cell(self, row: &Row, raw: &Row) -> String {
        if row.side == Side::Raw {
            return "1".to_owned();
        }
        let (low, high) = row.times.speed_spread(&raw.times);
        let speed = row.times.speed(&raw.times);
        match self {
            Ratio::Speed => format!("{} ({} to {})", three(speed), three(low), three(high)),
            Ratio::Time => format!("{} ({} to {})", three(1.0 / speed), three(1.0 / high), three(1.0 / low)),
        }
    }
}

/// The row of that name: the names are this program's own.
pub(crate) fn named<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).expect("a method of that name")
}

fn row_name(row: &Row, is_set: bool) -> String {
    let mark = if is_set && row.all_or_none { " (all or none)" } else { "" };
    match row.side {
        Side::Ours => format!("**{}**{mark}", row.name),
        Side::Floor => format!("*{}* (promises less)", row.name),
        Side::Peer | Side::Raw => format!("{}{mark}", row.name),
    }
}

fn header(text: &mut String, first: &str, heads: &[impl AsRef<str>]) -> Outcome {
    let heads: Vec<&str> = heads.iter().map(AsRef::as_ref).collect();
    writeln!(text, "| {first} | {} |", heads.join(" | "))?;
    writeln!(text, "| --- |{}", " --- |".repeat(heads.len()))?;
    Ok(())
}

/// Name and version, for each version that is built.
fn versions(name: &str) -> Vec<String> {
    let head = format!("name = \"{name}\"\nversion = \"");
    let found = LOCK.split(&head).skip(1).filter_map(|rest| rest.split('"').next());
    found.map(|version| format!("{name} {version}")).collect()
}

/// About three digits.
pub(crate) fn three(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 0.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

//! The results as Markdown.

use crate::work::operation::{Kind, What};

/// One cell.
#[derive(Clone, Debug)]
pub struct Row {
    pub column: String,
    pub name: String,
    pub what: What,
    /// Why there are no numbers.
    pub failed: Option<String>,
    pub states: usize,
    pub unmountable: usize,
    pub violations: usize,
    /// States with a finding of each kind, in the order of `Kind::ALL`.
    pub found: [usize; Kind::ALL.len()],
}

impl Row {
    /// As the process that tried it tells the one that prints the table.
    pub fn to_line(&self) -> String {
        let what = match self.what {
            What::Library => "library",
            What::Recovery => "recovery",
            What::Control => "control",
            What::Broken => "broken",
        };
        let found = self.found.map(|count| count.to_string()).join(",");
        let failed = self.failed.as_deref().unwrap_or("").replace(['\t', '\n'], " ");
        let Row { column, name, states, unmountable, violations, .. } = self;
        format!("{column}\t{name}\t{what}\t{failed}\t{states}\t{unmountable}\t{violations}\t{found}")
    }

    pub fn from_line(line: &str) -> Option<Row> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (column, name) = (next()?.to_owned(), next()?.to_owned());
        let what = match next()? {
            "library" => What::Library,
            "recovery" => What::Recovery,
            "control" => What::Control,
            "broken" => What::Broken,
            _ => return None,
        };
        let failed = Some(next()?.to_owned()).filter(|why| !why.is_empty());
        let mut number = || next()?.parse().ok();
        let (states, unmountable, violations) = (number()?, number()?, number()?);
        let counts: Vec<usize> = next()?.split(',').filter_map(|count| count.parse().ok()).collect();
        let found = counts.try_into().ok()?;
        Some(Row { column, name, what, failed, states, unmountable, violations, found })
    }

    /// Whether this is as it must be.
    pub fn is_good(&self) -> bool {
        self.failed.is_none()
            && match self.what {
                What::Library | What::Recovery | What::Control => self.violations == 0 && self.states > 0,
                What::Broken => self.violations > 0,
            }
    }

    fn cell(&self) -> String {
        if let Some(why) = &self.failed {
            return format!("**failed**: {why}");
        }
        let mut violations = Vec::new();
        let mut remarks = Vec::new();
        for (kind, count) in Kind::ALL.iter().zip(self.found).filter(|(_, count)| *count > 0) {
            let list = if *kind == Kind::Back { &mut remarks } else { &mut violations };
            list.push(format!("{}{count}", kind.letter()));
        }
        if self.unmountable > 0 {
            remarks.push(format!("U{}", self.unmountable));
        }
        let found = if violations.is_empty() { "0".to_owned() } else { violations.join(" ") };
        let mut cell = format!("{found} of {}", self.states);
        if !remarks.is_empty() {
            cell += &format!(" ({})", remarks.join(" "));
        }
        if self.is_good() { cell } else { format!("**{cell}**") }
    }
}

pub fn print(rows: &[Row]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows {
        if !columns.contains(&row.column.as_str()) {
            columns.push(&row.column);
        }
    }
    let mut text = String::new();
    let parts = [
        ("operation", [What::Library, What::Recovery]),
        ("by hand, right", [What::Control; 2]),
        ("by hand, known to be wrong", [What::Broken; 2]),
    ];
    for (title, kinds) in parts {
        let mut names: Vec<&str> = Vec::new();
        for row in rows.iter().filter(|row| kinds.contains(&row.what)) {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        if names.is_empty() {
            continue;
        }
        text += &format!("| {title} | {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len() + 1));
        for name in names {
            let cells = columns.iter().map(|column| {
                let mut rows = rows.iter();
                let row =
                    rows.find(|row| row.name == name && row.column == *column && kinds.contains(&row.what));
                row.map_or_else(|| "-".to_owned(), Row::cell)
            });
            text += &format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
        text.push('\n');
    }
    text
}

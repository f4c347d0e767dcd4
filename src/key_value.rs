//! Small texts of `key value` lines, complete or not valid: a crash may cut them short, and
//! a reader may look while they are written.

use std::fmt::{Display, Write};
use std::str::FromStr;
use std::time::Duration;

/// No text of this kind is longer.
pub(crate) const MAX_LEN: usize = 1024;

const LAST_LINE: &str = "end";

/// Puts a text together. The title is its first line.
#[derive(Debug)]
pub(crate) struct Writer(String);

impl Writer {
    pub(crate) fn new(title: &str) -> Writer {
        Writer(format!("{title}\n"))
    }

    /// Control characters in a value would end its line; they become question marks.
    pub(crate) fn line(mut self, key: &str, value: impl Display) -> Writer {
        let value = value.to_string().replace(char::is_control, "?");
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{key} {value}");
        self
    }

    pub(crate) fn line_if(self, key: &str, value: Option<impl Display>) -> Writer {
        match value {
            Some(value) => self.line(key, value),
            None => self,
        }
    }

    pub(crate) fn duration(self, key: &str, value: Duration) -> Writer {
        self.line(key, format_args!("{}.{:09}", value.as_secs(), value.subsec_nanos()))
    }

    pub(crate) fn finish(self) -> String {
        self.0 + LAST_LINE + "\n"
    }
}

/// The lines of a complete text, without its title and its last line.
#[derive(Debug)]
pub(crate) struct KeyValues<'a>(&'a str);

impl<'a> KeyValues<'a> {
    /// Parses the text at the beginning of `bytes`; the rest is ignored. `None` if it is cut short or has another title.
    pub(crate) fn parse(title: &str, bytes: &'a [u8]) -> Option<KeyValues<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let body = text.strip_prefix(title)?.strip_prefix('\n')?;
        let end = format!("\n{LAST_LINE}\n");
        body.find(&end).and_then(|at| body.get(..at)).map(KeyValues)
    }

    pub(crate) fn value<T: FromStr>(&self, key: &str) -> Option<T> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(found, _)| *found == key)?.1.parse().ok()
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        let text: String = self.value(key)?;
        let (seconds, nanoseconds) = text.split_once('.')?;
        let nanoseconds = nanoseconds.parse().ok().filter(|&part| part < 1_000_000_000)?;
        Some(Duration::new(seconds.parse().ok()?, nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_lines_stay_lines() {
        let text = Writer::new("title 1")
            .line("number", 4711)
            .line("text", "two words\nnumber 12")
            .line_if("none", None::<u32>)
            .duration("time", Duration::new(3, 5))
            .finish();
        let values = KeyValues::parse("title 1", text.as_bytes()).unwrap();
        assert_eq!(values.value("number"), Some(4711));
        assert_eq!(values.value("text"), Some("two words?number 12".to_owned()));
        assert_eq!(values.value::<String>("none"), None);
        assert_eq!(values.duration("time"), Some(Duration::new(3, 5)));
        assert!(KeyValues::parse("title 2", text.as_bytes()).is_none());
    }

    #[test]
    fn a_text_that_is_cut_short_anywhere_is_none() {
        let text = Writer::new("title").line("key", "value").finish();
        for len in 0..text.len() {
            assert!(KeyValues::parse("title", &text.as_bytes()[..len]).is_none(), "{len}");
        }
    }
}

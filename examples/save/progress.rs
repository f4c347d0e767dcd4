//! A progress bar on the way to the target.

use std::io::{self, IsTerminal as _, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Counts what is read and, for a long input and a person who watches, shows it.
pub(crate) struct Progress<R> {
    input: R,
    read: u64,
    started: Instant,
    /// Standard error is a terminal, and nobody is typing the input.
    wanted: bool,
    /// The length of the input, where it is a file.
    total: Option<u64>,
    bar: Option<ProgressBar>,
}

impl<R: Read> Progress<R> {
    /// A shorter wait than this needs no bar.
    const PATIENCE: Duration = Duration::from_millis(800);

    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            read: 0,
            started: Instant::now(),
            wanted: io::stderr().is_terminal() && !io::stdin().is_terminal(),
            total: stdin_len(),
            bar: None,
        }
    }

    fn show(&mut self) {
        let bar = self.bar.get_or_insert_with(|| {
            let (bar, style) = match self.total {
                Some(len) => (ProgressBar::new(len), "{wide_bar} {bytes} of {total_bytes} {msg}"),
                None => (ProgressBar::new_spinner(), "{spinner} {bytes} in {elapsed} {msg}"),
            };
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.with_elapsed(self.started.elapsed())
        });
        bar.set_position(self.read);
    }

    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buf)?;
        self.read += len as u64;
        if self.wanted && self.read >= 1024 * 1024 && self.started.elapsed() >= Self::PATIENCE {
            self.show();
        }
        if let (0, Some(bar)) = (len, &self.bar) {
            bar.set_message("waiting for the disk");
        }
        Ok(len)
    }
}

/// How long standard input is, if it is a file and the system has a name for it.
fn stdin_len() -> Option<u64> {
    let metadata = std::fs::metadata("/dev/stdin").ok()?;
    metadata.is_file().then_some(metadata.len())
}

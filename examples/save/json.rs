//! JSON on its way through: checked and laid out while it streams, never held in memory.

use std::io::{self, BufReader, Read, Write as _};

use durafile::{AtomicFile, CancelToken, Committed};
use serde::Deserialize as _;
use serde::de::IgnoredAny;

use crate::{Args, CHUNK, Failure};

/// Checks the input while it streams into the staged file; publishes only a valid document.
pub(crate) fn save(args: &Args, token: &CancelToken, input: &mut impl Read) -> Result<Committed, Failure> {
    let mut tee = Tee {
        input,
        file: args.options(token).open(&args.target).map_err(Failure::Save)?,
        layout: args.pretty.then(Layout::default),
        utf8: Utf8::default(),
        broken: None,
    };
    let mut document = serde_json::Deserializer::from_reader(BufReader::with_capacity(CHUNK, &mut tee));
    let verdict = IgnoredAny::deserialize(&mut document).and_then(|_| document.end());
    drop(document);
    match (tee.broken, verdict) {
        // A writer that failed stays failed: commit() returns the error, with its context.
        (Some(Broken::Write), _) | (None, Ok(())) => tee.file.commit().map_err(Failure::Save),
        // The input gave up because of the token; so does the stream.
        (Some(Broken::Read(_)), _) if token.is_cancelled() => tee.file.commit().map_err(Failure::Save),
        (Some(Broken::Read(error)), _) => Err(Failure::of_input(error)),
        (Some(Broken::Utf8(error)), _) => Err(Failure::NotUtf8(error)),
        (None, Err(error)) => Err(Failure::Json(error)),
    }
}

/// Hands on what it reads, and writes the same to the staged file.
struct Tee<R> {
    input: R,
    file: AtomicFile,
    layout: Option<Layout>,
    utf8: Utf8,
    broken: Option<Broken>,
}

/// Which side of the tee failed; the parser in between would only see "an I/O error".
enum Broken {
    Read(io::Error),
    Utf8(io::Error),
    Write,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let stop = || io::Error::other("stopped");
        let len = match self.input.read(buf) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.broken = Some(Broken::Read(error));
                return Err(stop());
            }
        };
        let chunk = &buf[..len];
        if let Err(error) = self.utf8.check(chunk) {
            self.broken = Some(Broken::Utf8(error));
            return Err(stop());
        }
        let written = match &mut self.layout {
            Some(layout) => layout.write(chunk, &mut self.file),
            None => self.file.write_all(chunk),
        };
        if written.is_err() {
            self.broken = Some(Broken::Write);
            return Err(stop());
        }
        Ok(len)
    }
}

/// Checks UTF-8 chunk by chunk: serde_json does not look into the strings that it skips.
#[derive(Default)]
struct Utf8 {
    /// The start of a character that the last chunk cut in two, and its length.
    pending: [u8; 4],
    len: usize,
    /// How many bytes came before `pending`.
    offset: u64,
}

impl Utf8 {
    /// An empty chunk is the end of the input.
    fn check(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        if chunk.is_empty() && self.len > 0 {
            return Err(self.invalid());
        }
        while self.len > 0 && !chunk.is_empty() {
            self.pending[self.len] = chunk[0];
            self.len += 1;
            chunk = &chunk[1..];
            match std::str::from_utf8(&self.pending[..self.len]) {
                Ok(_) => {
                    self.offset += self.len as u64;
                    self.len = 0;
                }
                // Still only the start of a character, three bytes at most.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(self.invalid()),
            }
        }
        let Err(error) = std::str::from_utf8(chunk) else {
            self.offset += chunk.len() as u64;
            return Ok(());
        };
        let rest = &chunk[error.valid_up_to()..];
        self.offset += error.valid_up_to() as u64;
        if error.error_len().is_some() {
            return Err(self.invalid());
        }
        self.pending[..rest.len()].copy_from_slice(rest);
        self.len = rest.len();
        Ok(())
    }

    fn invalid(&self) -> io::Error {
        let text = format!("invalid UTF-8 at byte offset {}", self.offset);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

/// Lays JSON out as serde_json's pretty printer does, but changes nothing except white space.
/// It works on any bytes; whether they are JSON is judged elsewhere.
#[derive(Default)]
struct Layout {
    out: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The container opened last is still empty.
    just_opened: bool,
}

impl Layout {
    fn write(&mut self, chunk: &[u8], file: &mut AtomicFile) -> io::Result<()> {
        for &byte in chunk {
            self.push(byte, file)?;
        }
        file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn push(&mut self, byte: u8, file: &mut AtomicFile) -> io::Result<()> {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.out.push(byte);
            return Ok(());
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return Ok(()),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.just_opened) {
                    self.new_line(file)?;
                }
                self.out.push(byte);
            }
            b',' => {
                self.out.push(byte);
                self.new_line(file)?;
            }
            b':' => self.out.extend_from_slice(b": "),
            _ => {
                if std::mem::take(&mut self.just_opened) {
                    self.new_line(file)?;
                }
                self.out.push(byte);
                self.in_string = byte == b'"';
                if matches!(byte, b'{' | b'[') {
                    self.depth += 1;
                    self.just_opened = true;
                }
            }
        }
        Ok(())
    }

    fn new_line(&mut self, file: &mut AtomicFile) -> io::Result<()> {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
        // Deep nesting makes long indents: hand them on before they pile up.
        if self.out.len() > CHUNK {
            file.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

//! The first bytes of a recording: enough to refuse what is no WAV file while its sender listens.

use crate::failure::{Failure, Invalid, Outcome};

/// `RIFF`, four bytes of length, `WAVE`.
const LEN: usize = 12;

/// Gathers the first bytes of a body that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: [u8; LEN],
    len: usize,
}

impl Head {
    /// The next piece of the body. An error as soon as it can't become a WAV file.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Outcome {
        let before = self.len;
        for (to, from) in self.bytes.iter_mut().skip(before).zip(piece) {
            *to = *from;
            self.len += 1;
        }
        if before < LEN && self.len == LEN { self.judge() } else { Ok(()) }
    }

    /// Nothing that follows matters.
    pub(crate) fn is_complete(&self) -> bool {
        self.len == LEN
    }

    /// The body has ended.
    pub(crate) fn end(&self) -> Outcome {
        match self.len {
            0 => Err(Failure::Empty),
            LEN => Ok(()),
            _ => Err(Failure::Invalid(Invalid::NotWav, None)),
        }
    }

    fn judge(&self) -> Outcome {
        match self.bytes.starts_with(b"RIFF") && self.bytes.ends_with(b"WAVE") {
            true => Ok(()),
            false => Err(Failure::Invalid(Invalid::NotWav, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pieces: &[&[u8]]) -> Result<(), &'static str> {
        let mut head = Head::default();
        let all = pieces.iter().try_for_each(|piece| head.add(piece));
        all.and_then(|()| head.end()).map_err(|e| e.kind())
    }

    #[test]
    fn the_first_bytes_decide_however_they_come() {
        assert_eq!(judged(&[b"RIFF\0\0\0\0WAVEfmt "]), Ok(()));
        assert_eq!(judged(&[b"R", b"", b"IFFabcdWAV", b"E and", b"more"]), Ok(()));
        assert_eq!(judged(&[]), Err("empty"));
        assert_eq!(judged(&[b"", b""]), Err("empty"));
        for wrong in [&b"RIFF"[..], b"RIFFabcdWAV", b"RIFFabcdAVI and so on", b"ID3\x04 and so on"] {
            assert_eq!(judged(&[wrong]), Err("not_a_wav"));
        }
    }
}

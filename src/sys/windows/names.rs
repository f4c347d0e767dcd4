//! Names that mean what they say. Paths are used in their literal form, `\\?\`, in which Windows
//! passes names on as they are: what other programs could not open again is refused here.

use std::ffi::OsStr;
use std::io;
use std::path::is_separator;

/// Names of devices, with a dot and anything behind them too.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Names of devices, with a digit behind them; Windows takes ¹, ² and ³ for digits here.
const PORTS: [&str; 2] = ["COM", "LPT"];

/// A name, or a relative path of names.
pub(super) fn check(path: &OsStr) -> io::Result<()> {
    let valid = path.to_str().is_some_and(|path| path.split(is_separator).all(is_plain));
    if valid { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// `a:b` is a stream of `a`; a dot or space at the end is dropped by most programs.
fn is_plain(name: &str) -> bool {
    let forbidden = |c: char| c.is_control() || "<>:\"|?*".contains(c);
    !name.is_empty() && !name.contains(forbidden) && !name.ends_with(['.', ' ']) && !is_device(name)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_digit = |rest: &str| {
        let mut rest = rest.chars();
        rest.next().is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c)) && rest.next().is_none()
    };
    let is_port = PORTS.iter().any(|port| stem.strip_prefix(port).is_some_and(is_digit));
    is_port || DEVICES.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_every_program_can_open_are_plain() {
        for name in [
            "a",
            "a.b",
            ".durafile-x",
            "é",
            "console",
            "com",
            "COM10",
            "a b",
            "nul_",
            "conin",
            "COM⁴",
            "com¹¹",
        ] {
            assert!(check(OsStr::new(name)).is_ok(), "{name}");
        }
        for name in [
            "",
            "a:b",
            "a ",
            "a.",
            "a?",
            "x\u{1}",
            "NUL",
            "con.txt",
            "lpt1",
            "COM1 .x",
            "a|b",
            "conin$",
            "CONOUT$.txt",
            "COM¹",
            "lpt².x",
        ] {
            assert!(check(OsStr::new(name)).is_err(), "{name}");
        }
        assert!(check(OsStr::new("a/b\\c")).is_ok());
        assert!(check(OsStr::new("a//c")).is_err());
    }
}

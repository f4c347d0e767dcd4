//! Files that can't be replaced and are overwritten, under crash test; entries of the table. The rename over the
//! target is refused, as for a mount point or in somebody else's sticky directory.

use std::io::Write;
use std::path::Path;

use durafile::crash_testing::{CrashTest, Fault};
use durafile::{Durability, InPlace, WriteOptions};
use rustix::io::Errno;

use crate::crash::case::Case;

/// The blocks of a content differ from each other, and from those of another content.
fn blocks(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add((at / 512) as u8)).collect()
}

const LONG: usize = 3 * 4096 + 100;
const SHORT: usize = 4096 + 10;
const TINY: usize = 20;

fn of_length<const LEN: usize>(dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join("neighbour"), "untouched")?;
    std::fs::write(dir.join("target"), blocks(0, LEN))
}

fn with_undo_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("undo"))?;
    of_length::<LONG>(dir)
}

fn is_immutable(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "rename", errno: Errno::ACCESS.raw_os_error() })
}

fn is_sticky(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "rename", errno: Errno::PERM.raw_os_error() })
}

/// The directory of the target takes no new file.
fn takes_no_file(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Fail { operation: 0, errno: Errno::ACCESS.raw_os_error() })
}

fn options() -> WriteOptions {
    WriteOptions::new().in_place(InPlace::Fallback)
}

fn save<const LEN: usize>(options: WriteOptions) -> impl Fn(&Path) -> durafile::Result<Durability> {
    move |dir| {
        let committed = options.write(dir.join("target"), blocks(100, LEN))?;
        Ok(committed.durability())
    }
}

fn stream(dir: &Path) -> durafile::Result<Durability> {
    let mut file = options().open(dir.join("target"))?;
    file.write_all(&blocks(100, SHORT)).map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
    Ok(file.commit()?.durability())
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |option, initial: crate::crash::case::Prepare, len: usize| {
        move |save: fn(&Path) -> durafile::Result<Durability>| {
            Case::new(("overwrite", option), initial, save).at("target", blocks(100, len)).overwrites()
        }
    };
    vec![
        case("immutable, shrinks", of_length::<LONG>, SHORT)(|dir| save::<SHORT>(options())(dir))
            .setup(is_immutable),
        case("sticky, grows", of_length::<SHORT>, LONG)(|dir| save::<LONG>(options())(dir)).setup(is_sticky),
        case("same length", of_length::<SHORT>, SHORT)(|dir| save::<SHORT>(options())(dir)).setup(is_sticky),
        case("within a sector", of_length::<LONG>, TINY)(|dir| save::<TINY>(options())(dir)).setup(is_sticky),
        case("from within a sector", of_length::<TINY>, LONG)(|dir| save::<LONG>(options())(dir))
            .setup(is_sticky),
        case("stream", of_length::<LONG>, SHORT)(stream).setup(is_sticky),
        case("Data", of_length::<LONG>, SHORT)(|dir| {
            save::<SHORT>(options().durability(Durability::Data))(dir)
        })
        .durability(Durability::Data)
        .setup(is_sticky),
        case("skip_unchanged, miss", of_length::<LONG>, SHORT)(|dir| {
            save::<SHORT>(options().skip_unchanged(true))(dir)
        })
        .setup(is_sticky),
        case("undo_dir", with_undo_dir, SHORT)(|dir| {
            // Killed, it is run again, and may be allowed then what it was refused at first.
            let options = options().undo_dir(dir.join("undo"));
            options.write(dir.join("target"), blocks(100, SHORT)).map(|committed| committed.durability())
        })
        .setup(takes_no_file),
    ]
}

/// Outside of a recording nothing is refused, and the same saves replace the file.
#[test]
fn each_case_overwrites() {
    for case in cases() {
        let (_, recording) = case.learn();
        let operations = recording.trace().operations();
        assert!(operations.iter().any(|operation| operation.name() == "reserve"), "{}", case.name());
    }
}

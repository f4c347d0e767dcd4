//! What each way to save one file keeps and promises, tried out.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Outcome;
use crate::saves::{self, Saver, Side};

/// The answers for one method, in the order of [`QUESTIONS`].
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) name: &'static str,
    pub(crate) answers: Vec<String>,
}

type Probe = fn(&Saver, &Path) -> Outcome<String>;

/// Heading and probe. Each probe gets an empty directory.
pub(crate) const QUESTIONS: [(&str, Probe); 9] = [
    ("mode of a new file (umask 022)", new_mode),
    ("mode 0640 replaced", mode),
    ("owner", owner),
    ("xattr", xattr),
    ("target is a link to a 0640 file", link),
    ("255-byte name", long_name),
    ("link planted at the temporary name", planted),
    ("readers find it missing", missing),
    ("a failed save leaves", leftovers),
];

pub(crate) fn probe_all() -> Outcome<Vec<Answers>> {
    let ground = tempfile::Builder::new().prefix("durafile-peers-").tempdir()?;
    let probed = |saver: &&Saver| matches!(saver.side, Side::Ours | Side::Peer);
    let mut all = Vec::new();
    for (row, saver) in saves::ALL.iter().filter(probed).enumerate() {
        let mut answers = Vec::new();
        for (column, (_, probe)) in QUESTIONS.iter().enumerate() {
            let dir = ground.path().join(format!("{row}-{column}"));
            fs::create_dir(&dir)?;
            answers.push(probe(saver, &dir).unwrap_or_else(|error| format!("fails: {error}")));
        }
        all.push(Answers { name: saver.name, answers });
    }
    Ok(all)
}

fn save_once(saver: &Saver, target: &Path) -> Outcome {
    (saver.prepare)(target)?(b"new")?;
    match fs::read(target)? == b"new" {
        true => Ok(()),
        false => Err("the content is not there".into()),
    }
}

fn old_file(dir: &Path) -> Outcome<PathBuf> {
    let target = dir.join("target");
    fs::write(&target, "old")?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640))?;
    Ok(target)
}

fn octal(path: &Path) -> Outcome<String> {
    Ok(format!("{:04o}", fs::symlink_metadata(path)?.mode() & 0o7777))
}

fn new_mode(saver: &Saver, dir: &Path) -> Outcome<String> {
    let target = dir.join("target");
    save_once(saver, &target)?;
    octal(&target)
}

fn mode(saver: &Saver, dir: &Path) -> Outcome<String> {
    let target = old_file(dir)?;
    save_once(saver, &target)?;
    Ok(match octal(&target)?.as_str() {
        "0640" => "kept".to_owned(),
        other => format!("**{other}**"),
    })
}

fn owner(saver: &Saver, dir: &Path) -> Outcome<String> {
    let target = old_file(dir)?;
    if chown(&target, Some(1), Some(1)).is_err() {
        return Ok("only as root".to_owned());
    }
    save_once(saver, &target)?;
    let found = fs::metadata(&target)?;
    Ok(if (found.uid(), found.gid()) == (1, 1) { "kept" } else { "**lost**" }.to_owned())
}

fn xattr(saver: &Saver, dir: &Path) -> Outcome<String> {
    let (target, name) = (old_file(dir)?, "user.peers");
    if rustix::fs::setxattr(&target, name, b"x", rustix::fs::XattrFlags::empty()).is_err() {
        return Ok("no xattrs here".to_owned());
    }
    save_once(saver, &target)?;
    let kept = rustix::fs::getxattr(&target, name, &mut [0_u8; 8]).is_ok();
    Ok(if kept { "kept" } else { "**lost**" }.to_owned())
}

fn link(saver: &Saver, dir: &Path) -> Outcome<String> {
    let referent = old_file(dir)?;
    let target = dir.join("link");
    symlink("target", &target)?;
    if save_once(saver, &target).is_err() {
        return Ok("refused".to_owned());
    }
    if fs::symlink_metadata(&target)?.is_symlink() {
        return Ok(format!("followed, {}", octal(&referent)?));
    }
    Ok(match octal(&target)? {
        mode if mode.ends_with('7') => format!("link replaced, **{mode}**"),
        mode => format!("link replaced, {mode}"),
    })
}

fn long_name(saver: &Saver, dir: &Path) -> Outcome<String> {
    let works = save_once(saver, &dir.join("n".repeat(255))).is_ok();
    Ok(if works { "works" } else { "**fails**" }.to_owned())
}

/// The names that crates here use and that anybody can foretell.
fn planted(saver: &Saver, dir: &Path) -> Outcome<String> {
    let (target, victim) = (old_file(dir)?, dir.join("victim"));
    fs::write(&victim, "precious")?;
    for name in [".target.fstx-tmp", "target.lock", "target.tmp"] {
        symlink("victim", dir.join(name))?;
    }
    let saved = save_once(saver, &target);
    Ok(if fs::read(&victim)? != b"precious" {
        "**its victim is overwritten**".to_owned()
    } else if saved.is_err() {
        "**can't save**".to_owned()
    } else {
        "harmless".to_owned()
    })
}

fn missing(saver: &Saver, dir: &Path) -> Outcome<String> {
    let target = old_file(dir)?;
    let mut save = (saver.prepare)(&target)?;
    let over = AtomicBool::new(false);
    let never = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = std::iter::from_fn(|| (!over.load(Ordering::Relaxed)).then(|| target.exists()));
            looks.all(|there| there)
        });
        let saved = (0..100).try_for_each(|_| save(b"new"));
        over.store(true, Ordering::Relaxed);
        let never = reader.join().map_err(|_| "the reader panicked")?;
        saved.map(|()| never)
    })?;
    Ok(if never { "no" } else { "**yes**" }.to_owned())
}

/// The target is a directory, so the save fails, in the end.
fn leftovers(saver: &Saver, dir: &Path) -> Outcome<String> {
    let target = dir.join("target");
    fs::create_dir(&target)?;
    if save_once(saver, &target).is_ok() {
        return Err("saved over a directory".into());
    }
    let mut left = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        left += usize::from(name != "target" && name != ".fstx");
    }
    Ok(if left == 0 { "nothing" } else { "**its staged file**" }.to_owned())
}

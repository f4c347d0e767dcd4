//! The rules of single operations and options, a row each.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use durafile::{
    AtomicFile, Committed, DirOptions, ErrorKind, HardLinks, InPlace, SpecialFiles, TargetState,
    TransactionOptions, WriteOptions,
};
use rustix::fs::inotify;

use super::Site;
use super::rules::{ensure_is, names, remnants, text};
use super::suite::{Answer, Rule, Scene, Wrong, ensure, rule, violated};

pub(crate) const RULES: &[Rule] = &[
    rule("updates of one file lose none", updates),
    rule("expect refuses a file that was changed", expectation),
    rule("InPlace::Fallback replaces where it can", in_place),
    Rule { name: "InPlace::Fallback overwrites a mount point", applies: can_bind, check: mount_point },
    rule("keep_previous", previous),
    rule("HardLinks::Refuse", hard_links),
    rule("SpecialFiles::Skip", special_files),
    rule("open_in and commit_as", named_at_the_end),
    rule("create_dir_all", create_dir_all),
    rule("rename", rename),
    rule("rename_new of a file", rename_new),
    rule("rename_new of a directory", rename_new_dir),
    rule("remove_file", remove_file),
    rule("remove_dir_all", remove_dir_all),
    rule("sync", sync),
    rule("final_newline", final_newline),
    rule("TransactionOptions::files", files_of_a_transaction),
    rule("DirOptions::files", files_of_a_directory),
    rule("a watcher hears of a new file", watched),
];

fn told(committed: &Committed) -> Answer {
    Ok(format!("{:?}", committed.durability()))
}

/// Nothing but these names is there, as the other client sees it.
fn ensure_names(scene: &Scene<'_>, expected: &[&str]) -> Result<(), Wrong> {
    let found = names(&scene.second())?;
    ensure(found == expected, "something else is there", found)
}

fn ensure_kind<T>(saved: durafile::Result<T>, kind: ErrorKind) -> Result<(), Wrong> {
    match saved {
        Ok(_) => Err(violated("Ok", kind)),
        Err(e) if e.kind() == kind => {
            ensure(e.target() == TargetState::Unchanged, "refused, but it may have been done", &e)
        }
        Err(e) => Err(e.into()),
    }
}

fn updates(scene: &Scene<'_>) -> Answer {
    const EACH: u64 = 10;
    let folders = [scene.first(), scene.second()];
    let add = |folder: &Path| {
        let mut changed = 0;
        let mut added = 0;
        while added < EACH {
            let one_more = |old: Option<&[u8]>| {
                let old: u64 =
                    old.map_or(Ok(0), |old| std::str::from_utf8(old)?.parse().map_err(Failure::from))?;
                Ok((old + 1).to_string().into_bytes())
            };
            match durafile::update(folder.join("count"), one_more) {
                Ok(_) => added += 1,
                // What was read may be cut off where the file system remembers an old length.
                Err(e) if e.kind() == ErrorKind::Changed => changed += 1,
                Err(e) => return Err(e),
            }
        }
        Ok(changed)
    };
    type Failure = Box<dyn std::error::Error + Send + Sync>;
    let changed = std::thread::scope(|scope| {
        let adding = folders.each_ref().map(|folder| scope.spawn(move || add(folder)));
        adding.into_iter().map(|adding| adding.join().unwrap()).sum::<durafile::Result<u64>>()
    })?;
    ensure_is(&scene.second().join("count"), &(2 * EACH).to_string())?;
    ensure_names(scene, &["count"])?;
    Ok(format!("{changed} were told of a change"))
}

fn expectation(scene: &Scene<'_>) -> Answer {
    let path = scene.first().join("doc");
    durafile::write(&path, text(0))?;
    let (_, opened) = durafile::read_version(&path)?;
    let saved = WriteOptions::new().expect(&opened).write(&path, text(1))?;
    std::fs::write(scene.second().join("doc"), text(22))?;
    let next = saved.version().ok_or_else(|| violated("no version is told", ""))?;
    ensure_kind(WriteOptions::new().expect(&next).write(&path, text(2)), ErrorKind::Changed)?;
    ensure_is(&path, &text(22))?;
    ensure_names(scene, &["doc"])?;
    told(&saved)
}

fn in_place(scene: &Scene<'_>) -> Answer {
    let path = scene.first().join("doc");
    let options = WriteOptions::new().in_place(InPlace::Fallback);
    for version in 0..2 {
        let committed = options.write(&path, text(version))?;
        ensure(!committed.was_in_place(), "overwritten without need", version)?;
        ensure_is(&scene.second().join("doc"), &text(version))?;
    }
    ensure_names(scene, &["doc"])?;
    Ok(String::new())
}

/// Binds a file of the place to a name of it.
fn bind(scene: &Path) -> std::io::Result<bool> {
    let (file, name) = (scene.join("other"), scene.join("bound"));
    std::fs::write(&file, "old")?;
    std::fs::write(&name, "")?;
    Ok(Command::new("mount").arg("--bind").args([&file, &name]).output()?.status.success())
}

fn unbind(scene: &Path) -> std::io::Result<()> {
    Command::new("umount").arg(scene.join("bound")).output()?;
    ["other", "bound"].iter().try_for_each(|name| std::fs::remove_file(scene.join(name)))
}

fn can_bind(site: &Site) -> bool {
    let bound = bind(&site.first).unwrap();
    unbind(&site.first).unwrap();
    bound
}

fn mount_point(scene: &Scene<'_>) -> Answer {
    let folder = scene.first();
    bind(&folder)?;
    let path = folder.join("bound");
    let saved = WriteOptions::new().in_place(InPlace::Fallback).write(&path, text(1));
    let checked = saved.map_err(Wrong::from).and_then(|saved| {
        ensure(saved.was_in_place(), "a mount point was replaced", "")?;
        ensure_is(&path, &text(1))
    });
    unbind(&folder)?;
    checked?;
    ensure_names(scene, &[])?;
    Ok(String::new())
}

fn previous(scene: &Scene<'_>) -> Answer {
    let options = WriteOptions::new().keep_previous("doc.old");
    let saved = (0..3).map(|version| options.write(scene.first().join("doc"), text(version)));
    let saved = saved.collect::<durafile::Result<Vec<_>>>()?;
    ensure_is(&scene.second().join("doc"), &text(2))?;
    ensure_is(&scene.second().join("doc.old"), &text(1))?;
    ensure_names(scene, &["doc", "doc.old"])?;
    told(&saved[2])
}

fn hard_links(scene: &Scene<'_>) -> Answer {
    let path = scene.first().join("doc");
    let options = WriteOptions::new().hard_links(HardLinks::Refuse);
    options.write(&path, text(0))?;
    options.write(&path, text(1))?;
    if std::fs::hard_link(&path, scene.first().join("other")).is_err() {
        return Ok("there are no links".into());
    }
    ensure_kind(options.write(&path, text(2)), ErrorKind::HardLinked)?;
    ensure_is(&path, &text(1))?;
    ensure_names(scene, &["doc", "other"])?;
    Ok(String::new())
}

fn special_files(scene: &Scene<'_>) -> Answer {
    let tree = scene.first().join("tree");
    std::fs::create_dir(&tree)?;
    std::fs::write(tree.join("a"), "old")?;
    if !Command::new("mkfifo").arg(tree.join("fifo")).output()?.status.success() {
        return Ok("there are no FIFOs".into());
    }
    let refused = durafile::AtomicDir::update(&tree).and_then(|next| next.commit());
    ensure(refused.is_err_and(|e| e.kind() != ErrorKind::Io), "it is carried over, or lost", "")?;
    let mut next = DirOptions::new().special_files(SpecialFiles::Skip).update(&tree)?;
    next.write("b", text(1))?;
    next.commit()?;
    let found = names(&scene.second().join("tree"))?;
    ensure(found == ["a", "b"], "something else is there", found)?;
    Ok(String::new())
}

fn named_at_the_end(scene: &Scene<'_>) -> Answer {
    std::fs::create_dir(scene.first().join("inner"))?;
    let stream = |folder: &Path| -> Result<AtomicFile, Wrong> {
        let mut stream = WriteOptions::new().open_in(folder)?;
        stream.write_all(text(1).as_bytes())?;
        Ok(stream)
    };
    stream(&scene.first())?.commit_as(scene.first().join("here"))?;
    let committed = stream(&scene.first())?.commit_as(scene.first().join("inner/there"))?;
    stream(&scene.first())?.discard()?;
    for name in ["here", "inner/there"] {
        ensure_is(&scene.second().join(name), &text(1))?;
    }
    ensure_names(scene, &["here", "inner"])?;
    told(&committed)
}

fn create_dir_all(scene: &Scene<'_>) -> Answer {
    let made = durafile::create_dir_all(scene.first().join("a/b/c"))?;
    durafile::create_dir_all(scene.first().join("a/b/c"))?;
    ensure(scene.second().join("a/b/c").is_dir(), "it is not there", "")?;
    told(&made)
}

/// A file and a directory with something in it, for what gives and takes names.
fn prepared(scene: &Scene<'_>) -> Result<std::path::PathBuf, Wrong> {
    let root = scene.first();
    std::fs::create_dir_all(root.join("tree/deep"))?;
    for name in ["file", "taken", "tree/deep/file"] {
        std::fs::write(root.join(name), name)?;
    }
    Ok(root)
}

fn rename(scene: &Scene<'_>) -> Answer {
    let root = prepared(scene)?;
    let renamed = durafile::rename(root.join("file"), root.join("taken"))?;
    durafile::rename(root.join("tree/deep"), root.join("moved"))?;
    ensure_is(&scene.second().join("taken"), "file")?;
    ensure_is(&scene.second().join("moved/file"), "tree/deep/file")?;
    ensure_names(scene, &["moved", "taken", "tree"])?;
    told(&renamed)
}

fn rename_new(scene: &Scene<'_>) -> Answer {
    let root = prepared(scene)?;
    ensure_kind(durafile::rename_new(root.join("file"), root.join("taken")), ErrorKind::AlreadyExists)?;
    ensure_is(&root.join("taken"), "taken")?;
    let renamed = durafile::rename_new(root.join("file"), root.join("new"))?;
    ensure_is(&scene.second().join("new"), "file")?;
    ensure_names(scene, &["new", "taken", "tree"])?;
    told(&renamed)
}

fn rename_new_dir(scene: &Scene<'_>) -> Answer {
    let root = prepared(scene)?;
    let renamed = durafile::rename_new(root.join("tree"), root.join("moved"))?;
    ensure_is(&scene.second().join("moved/deep/file"), "tree/deep/file")?;
    ensure_names(scene, &["file", "moved", "taken"])?;
    told(&renamed)
}

fn remove_file(scene: &Scene<'_>) -> Answer {
    let root = prepared(scene)?;
    let removed = durafile::remove_file(root.join("file"))?;
    ensure_kind(durafile::remove_file(root.join("file")), ErrorKind::NotFound)?;
    ensure_names(scene, &["taken", "tree"])?;
    told(&removed)
}

fn remove_dir_all(scene: &Scene<'_>) -> Answer {
    let removed = durafile::remove_dir_all(prepared(scene)?.join("tree"))?;
    ensure_names(scene, &["file", "taken"])?;
    told(&removed)
}

fn sync(scene: &Scene<'_>) -> Answer {
    let root = prepared(scene)?;
    durafile::sync(root.join("file"))?;
    let synced = durafile::sync(root.join("tree"))?;
    ensure_names(scene, &["file", "taken", "tree"])?;
    told(&synced)
}

fn final_newline(scene: &Scene<'_>) -> Answer {
    WriteOptions::new().final_newline(true).write_json(scene.first().join("list"), &[1, 2])?;
    ensure_is(&scene.second().join("list"), "[1,2]\n")?;
    Ok(String::new())
}

/// What differs is seen in the content, and in what is refused.
fn of_sets() -> WriteOptions {
    WriteOptions::new().final_newline(true).size_limit(6)
}

fn files_of_a_transaction(scene: &Scene<'_>) -> Answer {
    let mut change = TransactionOptions::new().files(of_sets()).begin(scene.first())?;
    change.write_json("list", &[1, 2])?;
    ensure_kind(change.write("long", "1234567"), ErrorKind::TooLarge)?;
    change.discard()?;
    let mut change = TransactionOptions::new().files(of_sets()).begin(scene.first())?;
    change.write_json("list", &[1, 2])?;
    change.commit()?;
    ensure_is(&scene.second().join("list"), "[1,2]\n")?;
    ensure_names(scene, &["list"])?;
    Ok(String::new())
}

fn files_of_a_directory(scene: &Scene<'_>) -> Answer {
    let target = scene.first().join("tree");
    let mut next = DirOptions::new().files(of_sets()).create(&target)?;
    ensure_kind(next.write("long", "1234567"), ErrorKind::TooLarge)?;
    next.discard()?;
    let mut next = DirOptions::new().files(of_sets()).create(&target)?;
    next.write_json("list", &[1, 2])?;
    next.commit()?;
    ensure_is(&scene.second().join("tree/list"), "[1,2]\n")?;
    ensure_names(scene, &["tree"])?;
    Ok(String::new())
}

/// A watcher of names that are moved in, and of ends of writing.
fn watched(scene: &Scene<'_>) -> Answer {
    let watcher = inotify::init(inotify::CreateFlags::NONBLOCK).map_err(std::io::Error::from)?;
    let ends = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watcher, scene.first(), ends).map_err(std::io::Error::from)?;
    let mut expected = vec!["one"];
    durafile::write(scene.first().join("one"), text(1))?;
    match WriteOptions::new().create_new(true).write(scene.first().join("two"), text(1)) {
        // Another rule says so.
        Err(e) if e.kind() == ErrorKind::Unsupported => {}
        created => created.map(|_| expected.push("two"))?,
    }
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut heard = Vec::new();
    let mut reader = inotify::Reader::new(&watcher, &mut buffer);
    while let Ok(event) = reader.next() {
        heard.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    let all = expected.iter().all(|name| heard.iter().any(|heard| heard == name));
    ensure(all, "it is not told", &heard)?;
    let left = remnants(&scene.second())?;
    ensure(left.is_empty(), "a remnant is left", left)?;
    Ok(String::new())
}

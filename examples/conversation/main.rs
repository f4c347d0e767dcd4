//! `conversation`: a chat program in small. Each conversation is a directory of files that belong
//! together: `metadata.json`, `events.json`, and whatever the user adds, such as
//! `QUERY_MESSAGE.md`.
//!
//! ```text
//! conversation chats say rome "What is the capital of Italy?"
//! conversation chats show rome
//! yes "And of France?" | conversation chats talk rome    # kill it: nothing is ever half saved
//! conversation chats watch rome                          # meanwhile: two readers
//! ```
//!
//! Every turn is one update of the directory, so that the two files never disagree, whenever the
//! program or the machine dies. What a crash left is settled at the next start, and said.

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use durafile::{AtomicDir, Carry, DirOptions, DirSnapshot, ErrorKind, TargetState};
use serde::{Deserialize, Serialize};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A chat program in small.
#[derive(Debug, Parser)]
#[command(name = "conversation", version)]
struct Args {
    /// The directory of all conversations
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add one turn
    Say {
        /// The conversation
        name: String,
        /// What is said
        text: String,
    },
    /// Add a turn for each line of standard input
    Talk {
        /// The conversation
        name: String,
    },
    /// Print a conversation, and check that its files belong together
    Show {
        /// The conversation
        name: String,
    },
    /// Read with two readers, one of which keeps the version that it found, until Ctrl-C
    Watch {
        /// The conversation
        name: String,
        /// How many times to look
        #[arg(long, default_value_t = u32::MAX)]
        looks: u32,
    },
    /// Print the names of all conversations
    List,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Metadata {
    turns: usize,
    /// Seconds since 1970.
    updated: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Events(Vec<String>);

fn main() -> Outcome {
    let Args { home, command } = Args::parse();
    std::fs::create_dir_all(&home)?;
    settle(&home)?;
    match command {
        Command::Say { name, text } => say(&conversation(&home, &name)?, text),
        Command::Talk { name } => {
            let path = conversation(&home, &name)?;
            std::io::stdin().lock().lines().try_for_each(|line| say(&path, line?))
        }
        Command::Show { name } => show(&DirSnapshot::open(conversation(&home, &name)?)?),
        Command::Watch { name, looks } => watch(&conversation(&home, &name)?, looks),
        Command::List => list(&home),
    }
}

/// The start of the program: what a crash left is put right before anything is read.
fn settle(home: &Path) -> Outcome {
    let recovery = durafile::recover(home)?;
    for path in recovery.completed() {
        eprintln!("completed the interrupted save of {}", path.display());
    }
    for path in recovery.rolled_back() {
        eprintln!("took back the interrupted save of {}", path.display());
    }
    for path in recovery.removed() {
        eprintln!("removed what an interrupted save left: {}", path.display());
    }
    for path in recovery.quarantined() {
        eprintln!("this could not be judged, please look at it: {}", path.display());
    }
    if !recovery.in_use().is_empty() {
        eprintln!("another program is at work here; it was left alone");
    }
    Ok(())
}

/// A conversation's name is one name: no path that leads elsewhere.
fn conversation(home: &Path, name: &str) -> Outcome<PathBuf> {
    let is_plain = Path::new(name).file_name().is_some_and(|last| last == name);
    if !is_plain || durafile::is_remnant(name) {
        return Err(format!("{name:?} is no name for a conversation").into());
    }
    Ok(home.join(name))
}

/// One turn. Of two programs that speak at the same time, one waits, and both are heard.
fn say(path: &Path, text: String) -> Outcome {
    // The user's files are linked, not copied: this program never writes in place, and neither
    // should an editor that works on them.
    let options = DirOptions::new().carry(Carry::HardLink).lock_timeout(Duration::from_secs(10));
    let mut next = options.update(path)?;
    // Nobody else writes from here on, so that what is read now is what is replaced.
    let (mut metadata, mut events) = match DirSnapshot::open(path) {
        Ok(present) => read(&present)?,
        Err(e) if e.kind() == ErrorKind::NotFound => Default::default(),
        Err(e) => return Err(e.into()),
    };
    events.0.push(text);
    metadata.turns = events.0.len();
    metadata.updated = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    next.write_json("metadata.json", &metadata)?;
    next.write_json("events.json", &events)?;
    commit(next)
}

fn commit(next: AtomicDir) -> Outcome {
    match next.commit() {
        Ok(_) => Ok(()),
        Err(e) if e.target() == TargetState::Replaced => {
            eprintln!("saved, perhaps not durably: {e}");
            Ok(())
        }
        Err(e) => {
            eprintln!("{}", e.hint());
            Err(e.into())
        }
    }
}

/// Both files of one version.
fn read(version: &DirSnapshot) -> Outcome<(Metadata, Events)> {
    let metadata: Metadata = serde_json::from_slice(&version.read("metadata.json")?)?;
    let events: Events = serde_json::from_slice(&version.read("events.json")?)?;
    if metadata.turns != events.0.len() {
        return Err(format!("{} turns and {} events", metadata.turns, events.0.len()).into());
    }
    Ok((metadata, events))
}

fn show(version: &DirSnapshot) -> Outcome {
    let (metadata, events) = read(version)?;
    for (number, text) in events.0.iter().enumerate() {
        println!("{}: {text}", number + 1);
    }
    println!("-- {} turns, in {} files", metadata.turns, version.entries()?.len());
    Ok(())
}

/// One reader stays with the version that it found first; the other takes a new one each time.
fn watch(path: &Path, looks: u32) -> Outcome {
    let first = DirSnapshot::open(path)?;
    for _ in 0..looks {
        let now = DirSnapshot::open(path)?;
        println!("the first reader has {} turns, the second {}", read(&first)?.0.turns, read(&now)?.0.turns);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn list(home: &Path) -> Outcome {
    for entry in std::fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !durafile::is_remnant(entry.file_name()) {
            println!("{}", entry.file_name().to_string_lossy());
        }
    }
    Ok(())
}

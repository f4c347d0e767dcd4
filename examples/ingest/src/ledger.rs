//! What has become of each recording: a small SQLite database that several services share.
//!
//! With an ordinary rollback journal: unlike the write-ahead log it needs no shared memory, so that it
//! works wherever files can be locked. `synchronous = EXTRA` makes a commit survive power loss.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use serde::Serialize;

use crate::failure::{Failure, Invalid, Outcome};
use crate::layout::RecordingId;

/// The one index says "exactly once": no content is done twice, whoever tries.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS recordings (
        id       TEXT PRIMARY KEY,
        name     TEXT NOT NULL,
        state    TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'duplicate', 'failed')),
        received INTEGER NOT NULL,
        finished INTEGER,
        sha256   TEXT,
        seconds  REAL,
        service  TEXT,
        starts   INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        error    TEXT,
        message  TEXT
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS done_once ON recordings (sha256) WHERE state = 'done';
    CREATE INDEX IF NOT EXISTS by_time ON recordings (received);
    CREATE INDEX IF NOT EXISTS by_state ON recordings (state);
";

/// How long to wait for another service that writes.
const BUSY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Waiting,
    Done,
    /// Its content was done before, under another id.
    Duplicate,
    Failed,
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<State> {
        match value.as_str()? {
            "waiting" => Ok(State::Waiting),
            "done" => Ok(State::Done),
            "duplicate" => Ok(State::Duplicate),
            "failed" => Ok(State::Failed),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// One recording, as the interface shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: State,
    /// Seconds since 1970.
    pub(crate) received: i64,
    pub(crate) finished: Option<i64>,
    pub(crate) sha256: Option<String>,
    pub(crate) seconds: Option<f64>,
    pub(crate) service: Option<String>,
    /// How often work on it was begun and neither finished nor put back.
    #[serde(skip)]
    pub(crate) starts: u32,
    pub(crate) attempts: u32,
    pub(crate) error: Option<String>,
    pub(crate) message: Option<String>,
    /// Whether `ingest retry` may help: it failed, and not for what its content is.
    pub(crate) can_be_retried: bool,
}

impl Entry {
    const COLUMNS: &str =
        "id, name, state, received, finished, sha256, seconds, service, starts, attempts, error, message";

    fn of(row: &Row<'_>) -> rusqlite::Result<Entry> {
        let (state, error) = (row.get(2)?, row.get::<_, Option<String>>(10)?);
        Ok(Entry {
            id: row.get(0)?,
            name: row.get(1)?,
            state,
            received: row.get(3)?,
            finished: row.get(4)?,
            sha256: row.get(5)?,
            seconds: row.get(6)?,
            service: row.get(7)?,
            starts: row.get(8)?,
            attempts: row.get(9)?,
            can_be_retried: state == State::Failed && !error.as_deref().is_some_and(Invalid::is_meant_by),
            error,
            message: row.get(11)?,
        })
    }
}

/// How many recordings are in which state. Those that wait are counted in the inbox.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) duplicate: u64,
    pub(crate) failed: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    connection: Mutex<Connection>,
    service: String,
}

impl Ledger {
    pub(crate) fn open(path: &Path, service: &str) -> Outcome<Ledger> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        let setup = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        setup.execute_batch(SCHEMA)?;
        setup.commit()?;
        Ok(Ledger { connection: Mutex::new(connection), service: service.to_owned() })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic left is rolled back by its drop.
        self.connection.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// A recording came in. The worker may have been quicker, and not known what it is called.
    pub(crate) fn received(&self, id: &RecordingId, name: &str) -> Outcome {
        let insert = "INSERT INTO recordings (id, name, state, received) VALUES (?1, ?2, 'waiting', ?3)
                      ON CONFLICT (id) DO UPDATE SET name = excluded.name";
        self.connection().execute(insert, params![id.as_str(), name, now()])?;
        Ok(())
    }

    /// Work on a recording begins; a file that somebody put into the inbox becomes known now.
    pub(crate) fn begin(&self, id: &RecordingId) -> Outcome<Entry> {
        let upsert = format!(
            "INSERT INTO recordings (id, name, state, received, starts) VALUES (?1, ?1, 'waiting', ?2, 1)
             ON CONFLICT (id) DO UPDATE SET starts = starts + (state = 'waiting') RETURNING {}",
            Entry::COLUMNS
        );
        Ok(self.connection().query_row(&upsert, params![id.as_str(), now()], Entry::of)?)
    }

    /// Work on it was given up before its end, on purpose.
    pub(crate) fn put_back(&self, id: &RecordingId) -> Outcome {
        let update = "UPDATE recordings SET starts = max(starts - 1, 0) WHERE id = ?1 AND state = 'waiting'";
        self.connection().execute(update, [id.as_str()])?;
        Ok(())
    }

    pub(crate) fn find(&self, id: &RecordingId) -> Outcome<Option<Entry>> {
        let select = format!("SELECT {} FROM recordings WHERE id = ?1", Entry::COLUMNS);
        Ok(self.connection().query_row(&select, [id.as_str()], Entry::of).optional()?)
    }

    /// The recording that this content was done for.
    pub(crate) fn done_as(&self, sha256: &str) -> Outcome<Option<String>> {
        let select = "SELECT id FROM recordings WHERE sha256 = ?1 AND state = 'done'";
        Ok(self.connection().query_row(select, [sha256], |row| row.get(0)).optional()?)
    }

    /// The result is in place. Done twice, the second is a duplicate.
    pub(crate) fn done(&self, id: &RecordingId, sha256: &str, seconds: f64, attempts: u32) -> Outcome {
        let update = "UPDATE recordings SET state = 'done', sha256 = ?2, seconds = ?3, attempts = ?4,
                      finished = ?5, service = ?6, starts = 0, error = NULL, message = NULL
                      WHERE id = ?1 AND state = 'waiting'";
        let params = params![id.as_str(), sha256, seconds, attempts, now(), self.service];
        let done = self.connection().execute(update, params);
        match done {
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                self.duplicate(id, sha256)
            }
            done => Ok(done.map(drop)?),
        }
    }

    pub(crate) fn duplicate(&self, id: &RecordingId, sha256: &str) -> Outcome {
        let update = "UPDATE recordings SET state = 'duplicate', sha256 = ?2, finished = ?3, service = ?4,
                      seconds = (SELECT seconds FROM recordings WHERE sha256 = ?2 AND state = 'done'),
                      starts = 0, error = NULL, message = NULL
                      WHERE id = ?1 AND state = 'waiting'";
        self.connection().execute(update, params![id.as_str(), sha256, now(), self.service])?;
        Ok(())
    }

    pub(crate) fn failed(&self, id: &RecordingId, why: &Failure, attempts: u32) -> Outcome {
        let update = "UPDATE recordings SET state = 'failed', error = ?2, message = ?3, attempts = ?4,
                      finished = ?5, service = ?6
                      WHERE id = ?1 AND state = 'waiting'";
        let params = params![id.as_str(), why.kind(), why.hint(), attempts, now(), self.service];
        self.connection().execute(update, params)?;
        Ok(())
    }

    /// A failed recording gets another chance.
    pub(crate) fn retry(&self, id: &RecordingId) -> Outcome {
        let upsert = "INSERT INTO recordings (id, name, state, received) VALUES (?1, ?1, 'waiting', ?2)
                      ON CONFLICT (id) DO UPDATE SET state = 'waiting', starts = 0, attempts = 0,
                      error = NULL, message = NULL, finished = NULL";
        self.connection().execute(upsert, params![id.as_str(), now()])?;
        Ok(())
    }

    pub(crate) fn counts(&self) -> Outcome<Counts> {
        let select =
            "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'duplicate'),
                      count(*) FILTER (WHERE state = 'failed') FROM recordings";
        let counts =
            |row: &Row<'_>| Ok(Counts { done: row.get(0)?, duplicate: row.get(1)?, failed: row.get(2)? });
        Ok(self.connection().query_row(select, [], counts)?)
    }

    /// The newest first.
    pub(crate) fn recent(&self, most: u32) -> Outcome<Vec<Entry>> {
        let select =
            format!("SELECT {} FROM recordings ORDER BY received DESC, rowid DESC LIMIT ?1", Entry::COLUMNS);
        let connection = self.connection();
        let mut statement = connection.prepare(&select)?;
        let rows = statement.query_map([most], Entry::of)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_lets_no_content_be_done_twice() {
        let home = tempfile::tempdir().unwrap();
        // Two services.
        let open = |service| Ledger::open(&home.path().join("ledger.sqlite"), service).unwrap();
        let (one, two) = (open("one"), open("two"));
        let ids = ["a", "b"].map(|id| RecordingId::parse(id).unwrap());
        for (ledger, id) in [(&one, &ids[0]), (&two, &ids[1])] {
            ledger.received(id, "name").unwrap();
            ledger.begin(id).unwrap();
            ledger.done(id, "same", 1.0, 1).unwrap();
        }
        let states = ids.map(|id| one.find(&id).unwrap().unwrap().state);
        assert_eq!(states, [State::Done, State::Duplicate]);
        assert_eq!(two.done_as("same").unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn what_is_settled_is_not_begun_again() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&home.path().join("ledger.sqlite"), "one").unwrap();
        let id = RecordingId::parse("a").unwrap();
        assert_eq!(ledger.begin(&id).unwrap().starts, 1);
        assert_eq!(ledger.begin(&id).unwrap().starts, 2, "the first was cut short");
        ledger.put_back(&id).unwrap();
        ledger.done(&id, "x", 1.0, 1).unwrap();
        ledger.failed(&id, &Failure::Cancelled, 1).unwrap();
        let entry = ledger.begin(&id).unwrap();
        assert_eq!((entry.state, entry.starts), (State::Done, 0));
    }
}

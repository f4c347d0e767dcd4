//! The names of the objects.
//!
//! ```text
//! P/versions/<seq, 20 digits>   records: created once, never changed, never deleted
//! P/data/<session>/<n>          content: packs of small files, and long files by themselves
//! P/data/<session>/manifest-<base>
//! P/hint                        some seq that existed; saves a listing, decides nothing
//! P/check/<random>/...          what `check_store` tries out
//! ```

use std::fmt;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

/// One attempt to publish, or to collect: 128 random bits. A key is used once because its session is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Session(String);

impl Session {
    const DIGITS: usize = 32;

    pub(crate) fn random() -> std::io::Result<Session> {
        let mut bytes = [0; Session::DIGITS / 2];
        getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Session::of(bytes))
    }

    pub(crate) fn of(bytes: [u8; Session::DIGITS / 2]) -> Session {
        Session(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl TryFrom<String> for Session {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Session, &'static str> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == Session::DIGITS && text.bytes().all(digit) {
            true => Ok(Session(text)),
            false => Err("not the name of a session"),
        }
    }
}

impl From<Session> for String {
    fn from(session: Session) -> String {
        session.0
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object below `data/`, as records and manifests name it: without the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct DataKey {
    session: Session,
    name: String,
}

impl DataKey {
    pub(crate) fn content(session: &Session, number: u64) -> DataKey {
        DataKey { session: session.clone(), name: number.to_string() }
    }

    pub(crate) fn manifest(session: &Session, base: u64) -> DataKey {
        DataKey { session: session.clone(), name: format!("manifest-{base}") }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

impl TryFrom<String> for DataKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<DataKey, &'static str> {
        const WRONG: &str = "not the name of an object below data/";
        let (session, name) =
            text.strip_prefix("data/").and_then(|rest| rest.split_once('/')).ok_or(WRONG)?;
        let number = name.strip_prefix("manifest-").unwrap_or(name);
        if number.is_empty() || number.len() > 20 || !number.bytes().all(|c| c.is_ascii_digit()) {
            return Err(WRONG);
        }
        Ok(DataKey { session: session.to_owned().try_into()?, name: name.to_owned() })
    }
}

impl From<DataKey> for String {
    fn from(key: DataKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data/{}/{}", self.session, self.name)
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: Path,
}

impl Layout {
    pub(crate) fn new(prefix: Path) -> Layout {
        Layout { prefix }
    }

    fn below(&self, rest: &str) -> Path {
        self.prefix.parts().chain(Path::from(rest).parts()).collect()
    }

    pub(crate) fn records(&self) -> Path {
        self.below("versions")
    }

    pub(crate) fn record(&self, seq: u64) -> Path {
        self.below(&format!("versions/{seq:020}"))
    }

    /// The number of a record, if that is the name of one.
    pub(crate) fn seq_of(&self, path: &Path) -> Option<u64> {
        let digits = path.filename()?;
        (digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
    }

    pub(crate) fn hint(&self) -> Path {
        self.below("hint")
    }

    pub(crate) fn all_data(&self) -> Path {
        self.below("data")
    }

    pub(crate) fn data(&self, key: &DataKey) -> Path {
        self.below(&key.to_string())
    }

    /// What the object is called in records and manifests, if it is one of ours.
    pub(crate) fn data_key(&self, path: &Path) -> Option<DataKey> {
        let rest: Path = path.prefix_match(&self.prefix)?.collect();
        rest.to_string().try_into().ok()
    }

    pub(crate) fn check(&self, attempt: &Session, name: &str) -> Path {
        self.below(&format!("check/{attempt}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let session = Session::of([7; 16]);
        for prefix in ["", "a", "sites/main"] {
            let layout = Layout::new(prefix.into());
            for key in [DataKey::content(&session, 12), DataKey::manifest(&session, 3)] {
                assert_eq!(layout.data_key(&layout.data(&key)), Some(key.clone()));
                assert_eq!(DataKey::try_from(key.to_string()), Ok(key));
            }
            assert_eq!(layout.seq_of(&layout.record(u64::MAX)), Some(u64::MAX));
            assert_eq!(layout.seq_of(&layout.hint()), None);
        }
    }

    #[test]
    fn what_a_manifest_names_can_t_lead_elsewhere() {
        let session = Session::of([7; 16]);
        let near = [
            "versions/00000000000000000001".to_owned(),
            format!("data/{session}"),
            format!("data/{session}/"),
            format!("data/{session}/../x"),
            format!("data/{session}/1/2"),
            format!("data/{}/1", session.to_string().to_uppercase().replace('0', "A")),
            format!("/data/{session}/1"),
            format!("data/{session}/-1"),
            "data/../1".to_owned(),
        ];
        for text in near {
            assert!(DataKey::try_from(text.clone()).is_err(), "{text}");
        }
    }
}

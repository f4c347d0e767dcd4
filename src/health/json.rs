//! Health as JSON: nothing of the system but numbers and fixed words.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::error_kind::ErrorKind;
use crate::health::{DirHealth, Health};

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Health", 2)?;
        out.serialize_field("healthy", &self.healthy)?;
        out.serialize_field("dirs", &self.dirs)?;
        out.end()
    }
}

impl Serialize for DirHealth {
    /// The error by its [`as_str`](ErrorKind::as_str). A path that is not UTF-8 has replacement
    /// characters, so that it never makes the whole answer fail.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("DirHealth", 12)?;
        out.serialize_field("path", &self.path.to_string_lossy())?;
        out.serialize_field("exists", &self.exists)?;
        out.serialize_field("writable", &self.writable)?;
        out.serialize_field("error", &self.error.map(ErrorKind::as_str))?;
        out.serialize_field("free_bytes", &self.free_bytes)?;
        out.serialize_field("total_bytes", &self.total_bytes)?;
        out.serialize_field("used_percent", &self.used_percent)?;
        out.serialize_field("durable", &self.durable)?;
        out.serialize_field("dir_swap", &self.dir_swap)?;
        out.serialize_field("locks", &self.locks)?;
        out.serialize_field("network", &self.network)?;
        out.serialize_field("fixed_owners", &self.fixed_owners)?;
        out.end()
    }
}

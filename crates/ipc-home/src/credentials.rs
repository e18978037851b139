//! A user name with its password, as it is stored, sealed, in `admin.cred`.
//!
//! The client uses it if it was given no credentials, and `ipc-setup` when it makes the admin. The
//! home knows the file and the keys that seal it.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The name of the user in a new home.
pub const ADMIN_USERNAME: &str = "ipc-admin";

/// A user name and its password. The password is wiped on drop, and `Debug` does not show it.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl Credentials {
    /// Combines a user name and a password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: Zeroizing::new(password.into()) }
    }

    /// Serialises as `{"username":…,"password":…}`.
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        // The capacity is large enough for every byte to become six, as in `\u00xx`. So the vector
        // never grows, and leaves no copy of the password.
        let capacity = 64 + 6 * (self.username.len() + self.password.len());
        let mut json = Zeroizing::new(Vec::with_capacity(capacity));
        let stored = StoredRef { username: &self.username, password: &self.password };
        serde_json::to_writer(&mut *json, &stored)
            .expect("two strings always serialise, and a vector takes any bytes");
        json
    }

    /// The inverse of [`to_json`](Self::to_json); `None` for anything else.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(json).ok()?;
        Some(Self { username: stored.username, password: Zeroizing::new(stored.password) })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct StoredRef<'a> {
    username: &'a str,
    password: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    username: String,
    password: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_brings_both_back() {
        let credentials = Credentials::new("ipc-admin", "päss\"\\\u{1}word");
        let json = credentials.to_json();
        let back = Credentials::from_json(&json).unwrap();
        assert_eq!((back.username, back.password), (credentials.username, credentials.password));
    }

    #[test]
    fn anything_else_is_none() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"username":"a"}"#,
            r#"{"username":"a","password":"b","x":1}"#,
            "\u{80}",
        ] {
            assert!(Credentials::from_json(json.as_bytes()).is_none(), "{json}");
        }
    }

    #[test]
    fn debug_never_shows_the_password() {
        let shown = format!("{:?}", Credentials::new("ipc-admin", "hunter2"));
        assert!(shown.contains("ipc-admin") && !shown.contains("hunter2"), "{shown}");
    }
}

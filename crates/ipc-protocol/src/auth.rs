//! The frame bodies of `POST /client/auth`. Their secrets are wiped when dropped, and `Debug` omits
//! them.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The credentials that a client sends to log in.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthRequest {
    /// The user's name; both ends compare it in normal form C, see [`to_nfc`](crate::to_nfc).
    pub username: String,
    /// The user's password.
    #[serde(with = "secret")]
    pub password: Zeroizing<String>,
}

/// What a login grants.
#[derive(Serialize, Deserialize)]
pub struct AuthReply {
    /// The session token, opaque to the client: base64url text of a few hundred characters. The
    /// client puts it into the `session` of every frame that needs one.
    #[serde(with = "secret")]
    pub session: Zeroizing<String>,
    /// How long the session lasts from now, in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest").field("username", &self.username).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthReply").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

mod secret {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        secret: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_stable() {
        let request = AuthRequest { username: "a".into(), password: Zeroizing::new("b".into()) };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"username":"a","password":"b"}"#);
        let reply = AuthReply { session: Zeroizing::new("t".into()), expires_in: 3600 };
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"session":"t","expires_in":3600}"#);
    }

    #[test]
    fn a_request_with_more_or_less_than_its_two_members_is_refused() {
        for text in [
            r#"{"username":"a"}"#,
            r#"{"password":"a"}"#,
            r#"{"username":"a","password":"b","x":1}"#,
            r#"{"username":"a","password":1}"#,
        ] {
            assert!(serde_json::from_str::<AuthRequest>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let request =
            AuthRequest { username: "a".into(), password: Zeroizing::new("hunter2".into()) };
        let reply = AuthReply { session: Zeroizing::new("hunter2".into()), expires_in: 1 };
        assert!(!format!("{request:?}{reply:?}").contains("hunter2"));
    }
}

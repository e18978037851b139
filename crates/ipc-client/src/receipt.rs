//! The results of successful calls. Plain values.

use std::fmt;

use ipc_protocol::MessageId;
use serde::Deserialize;

/// What a server says of itself without a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The server's clock, in seconds since the Unix epoch, by the `Date` of its response (RFC
    /// 9110, section 6.6.1). `None` if there was none.
    pub server_time_secs: Option<u64>,
}

/// A message that is in the server's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The id of the message, as the receiving application sees it.
    pub id: MessageId,
    /// Whether the server had the message already from an earlier attempt whose answer was lost. It
    /// is in the inbox once.
    pub duplicate: bool,
}

/// The reply of the application to a request.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The id of the request, as the receiving application saw it.
    pub id: MessageId,
    /// Whether the server had the request already from an earlier attempt of the same call. The
    /// application saw it once, and this is its first reply.
    pub duplicate: bool,
    pub(crate) body: String,
}

impl Reply {
    /// The JSON object as text, exactly as the application sent it.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The JSON object as a value: a `serde_json::Value`, or a type of the caller's.
    ///
    /// # Errors
    /// [`ParseError`] if `T` cannot represent the object. A `serde_json::Value` always can.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ParseError> {
        serde_json::from_str(&self.body).map_err(ParseError)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("id", &self.id)
            .field("duplicate", &self.duplicate)
            .finish_non_exhaustive()
    }
}

/// A reply that does not have the requested form.
#[derive(Debug, thiserror::Error)]
#[error("the reply does not have the requested form")]
pub struct ParseError(#[source] serde_json::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_as_asked_for_and_shows_no_body_in_a_log() {
        let reply = Reply {
            id: MessageId::from_bytes([1; 16]),
            duplicate: false,
            body: r#"{"n":7}"#.to_owned(),
        };
        let n: std::collections::BTreeMap<&str, u8> = reply.parse().unwrap();
        assert_eq!(n["n"], 7);
        let error = reply.parse::<Vec<u8>>().unwrap_err();
        let shown = ipc_base::chain(&error).to_string();
        assert!(shown.starts_with("the reply does not have the requested form: "), "{shown}");
        assert!(!format!("{reply:?}").contains("\"n\""));
    }
}

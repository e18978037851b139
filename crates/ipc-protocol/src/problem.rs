//! Refusals: a stable code for each, its HTTP status, and whether a client may try again. Both ends
//! use the table in this file. It depends on no HTTP library; a status is a number.

use serde::{Deserialize, Serialize};

/// Why a request was refused. The text form (`malformed_envelope` …) is stable and part of the
/// protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400: the target or the `Host` of the HTTP request is malformed.
    MalformedRequest,
    /// 400: the body is not an envelope that this server's keys open. The response does not say
    /// which check failed.
    MalformedEnvelope,
    /// 400: the envelope is authentic, but was sealed too long ago or in the future: a clock is
    /// wrong, or the envelope is a replay.
    StaleEnvelope,
    /// 400: the plaintext is not a frame, or it is a frame for another route.
    MalformedFrame,
    /// 400: the frame's body is not a JSON object.
    NotAnObject,
    /// 401: unknown user or wrong password. The response and its delay are the same for both.
    BadCredentials,
    /// 403: the client's certificate is not valid here, or no longer, or the session was granted to
    /// another certificate.
    WrongCertificate,
    /// 403: the client's certificate was revoked.
    CertificateRevoked,
    /// 403: this client gets no new certificate, because it was not enrolled, or was enrolled with
    /// another key.
    RenewalRefused,
    /// 404: the path is not a route.
    NotFound,
    /// 405: the route takes another method, which `Allow` names.
    MethodNotAllowed,
    /// 408: the request's body did not arrive in time.
    RequestTimeout,
    /// 410: the request was answered before, and the server does not have the reply any more.
    ReplyForgotten,
    /// 413: the body is longer than the server accepts.
    TooLarge,
    /// 419: no session, an expired one, or one whose user is gone or has a new password. Log in and
    /// send again.
    SessionExpired,
    /// 422: a message with this id and another body was accepted before.
    IdReused,
    /// 426: the route is a WebSocket, and the request does not ask to upgrade to it.
    UpgradeRequired,
    /// 429: too many logins failed or are waiting. Wait as long as `Retry-After` says.
    TooManyAttempts,
    /// 500: the server failed. Its log says why.
    InternalError,
    /// 501: the server issues no certificates, because it does not have the authority's key.
    RenewalUnavailable,
    /// 502: the application finished the request without a reply.
    NotAnswered,
    /// 503: the inbox is full. Wait as long as `Retry-After` says.
    InboxFull,
    /// 503: the server remembers as many message ids as it may, of this user or in all. It forgets
    /// none before clients have stopped to retry. Wait as long as `Retry-After` says.
    IdsFull,
    /// 503: the server is stopping. Of `/is/running`: it is stopping, or soon will.
    ShuttingDown,
    /// 503: a database that the server needs, that of its users or of its inbox, does not work at
    /// the moment.
    Unavailable,
    /// 504: the application gave no reply within the time that the client set. It may still be
    /// working on the request.
    NoReplyInTime,
}

/// Whether a client sends a refused message again, and what it does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never: the same message will be refused again.
    Never,
    /// Once, after a login.
    AfterLogin,
    /// After a pause: that of `Retry-After`, if the response has one.
    AfterPause,
}

impl ProblemCode {
    /// Every code.
    pub const ALL: [ProblemCode; 26] = [
        ProblemCode::MalformedRequest,
        ProblemCode::MalformedEnvelope,
        ProblemCode::StaleEnvelope,
        ProblemCode::MalformedFrame,
        ProblemCode::NotAnObject,
        ProblemCode::BadCredentials,
        ProblemCode::WrongCertificate,
        ProblemCode::CertificateRevoked,
        ProblemCode::RenewalRefused,
        ProblemCode::NotFound,
        ProblemCode::MethodNotAllowed,
        ProblemCode::RequestTimeout,
        ProblemCode::ReplyForgotten,
        ProblemCode::TooLarge,
        ProblemCode::SessionExpired,
        ProblemCode::IdReused,
        ProblemCode::UpgradeRequired,
        ProblemCode::TooManyAttempts,
        ProblemCode::InternalError,
        ProblemCode::RenewalUnavailable,
        ProblemCode::NotAnswered,
        ProblemCode::InboxFull,
        ProblemCode::IdsFull,
        ProblemCode::ShuttingDown,
        ProblemCode::Unavailable,
        ProblemCode::NoReplyInTime,
    ];

    /// The stable text form, HTTP status, title and retry of a code.
    const fn row(self) -> (&'static str, u16, &'static str, Retry) {
        match self {
            ProblemCode::MalformedRequest => {
                ("malformed_request", 400, "Bad Request", Retry::Never)
            }
            ProblemCode::MalformedEnvelope => {
                ("malformed_envelope", 400, "Bad Request", Retry::Never)
            }
            ProblemCode::StaleEnvelope => ("stale_envelope", 400, "Bad Request", Retry::AfterPause),
            ProblemCode::MalformedFrame => ("malformed_frame", 400, "Bad Request", Retry::Never),
            ProblemCode::NotAnObject => ("not_an_object", 400, "Bad Request", Retry::Never),
            ProblemCode::BadCredentials => ("bad_credentials", 401, "Unauthorized", Retry::Never),
            ProblemCode::WrongCertificate => ("wrong_certificate", 403, "Forbidden", Retry::Never),
            ProblemCode::CertificateRevoked => {
                ("certificate_revoked", 403, "Forbidden", Retry::Never)
            }
            ProblemCode::RenewalRefused => ("renewal_refused", 403, "Forbidden", Retry::Never),
            ProblemCode::NotFound => ("not_found", 404, "Not Found", Retry::Never),
            ProblemCode::MethodNotAllowed => {
                ("method_not_allowed", 405, "Method Not Allowed", Retry::Never)
            }
            ProblemCode::RequestTimeout => {
                ("request_timeout", 408, "Request Timeout", Retry::AfterPause)
            }
            ProblemCode::ReplyForgotten => ("reply_forgotten", 410, "Gone", Retry::Never),
            ProblemCode::TooLarge => ("too_large", 413, "Content Too Large", Retry::Never),
            // 419 is not in the IANA registry. The Python tool uses it, and its users know it.
            ProblemCode::SessionExpired => {
                ("session_expired", 419, "Session Expired", Retry::AfterLogin)
            }
            ProblemCode::IdReused => ("id_reused", 422, "Unprocessable Content", Retry::Never),
            ProblemCode::UpgradeRequired => {
                ("upgrade_required", 426, "Upgrade Required", Retry::Never)
            }
            ProblemCode::TooManyAttempts => {
                ("too_many_attempts", 429, "Too Many Requests", Retry::AfterPause)
            }
            ProblemCode::InternalError => {
                ("internal_error", 500, "Internal Server Error", Retry::AfterPause)
            }
            ProblemCode::RenewalUnavailable => {
                ("renewal_unavailable", 501, "Not Implemented", Retry::Never)
            }
            ProblemCode::NotAnswered => ("not_answered", 502, "Bad Gateway", Retry::Never),
            ProblemCode::InboxFull => ("inbox_full", 503, "Service Unavailable", Retry::AfterPause),
            ProblemCode::IdsFull => ("ids_full", 503, "Service Unavailable", Retry::AfterPause),
            ProblemCode::ShuttingDown => {
                ("shutting_down", 503, "Service Unavailable", Retry::AfterPause)
            }
            ProblemCode::Unavailable => {
                ("unavailable", 503, "Service Unavailable", Retry::AfterPause)
            }
            ProblemCode::NoReplyInTime => {
                ("no_reply_in_time", 504, "Gateway Timeout", Retry::Never)
            }
        }
    }

    /// The text form on the wire, such as `malformed_envelope`.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of the refusal.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// Whether a client sends the same message again, and what it does first.
    pub const fn retry(self) -> Retry {
        self.row().3
    }

    /// Reads the text form. Returns `None` for a code that this version does not know.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == code)
    }
}

impl std::fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of a refusal, `application/problem+json` (RFC 9457). It has no `type`, which means
/// `about:blank`: the status gives the kind of problem, and `code` the exact one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The reason phrase of the status.
    pub title: String,
    /// The HTTP status, the same as on the status line.
    pub status: u16,
    /// The stable code. A client that does not know it goes by the status.
    pub code: String,
    /// A sentence for a person. It never contains a secret, a path or another user's data.
    pub detail: String,
}

impl Problem {
    /// Makes a refusal. `detail` is a sentence for a person.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let (text, status, title, _) = code.row();
        Problem { title: title.into(), status, code: text.into(), detail: detail.into() }
    }

    /// The JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("three strings and a number are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back_and_no_two_are_alike() {
        for code in ProblemCode::ALL {
            assert_eq!(ProblemCode::from_code(code.as_str()), Some(code));
        }
        assert_eq!(ProblemCode::from_code("no_such_code"), None);
    }

    #[test]
    fn the_wire_form_is_stable() {
        assert_eq!(
            Problem::new(ProblemCode::InboxFull, "wait").to_json(),
            r#"{"title":"Service Unavailable","status":503,"code":"inbox_full","detail":"wait"}"#
        );
    }

    #[test]
    fn only_a_lost_session_is_mended_by_a_login() {
        let by_login: Vec<_> =
            ProblemCode::ALL.into_iter().filter(|code| code.retry() == Retry::AfterLogin).collect();
        assert_eq!(by_login, [ProblemCode::SessionExpired]);
    }
}

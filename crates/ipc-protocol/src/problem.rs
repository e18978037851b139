//! Refusals: one stable code each, its HTTP status, and what a client may do about it. The table
//! here is the one both ends use. No HTTP library is known here; a status is a number.

use serde::{Deserialize, Serialize};

/// Why a request was refused. The text form (`malformed_envelope` …) is stable and part of the
/// protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400: the head of the request does not say where it is to go: its target, or its `Host`, is
    /// of no form that it may have.
    MalformedRequest,
    /// 400: the body is no envelope this server's keys open. Which check failed is not said.
    MalformedEnvelope,
    /// 400: the envelope is good but was sealed too long ago or in the future: a clock is wrong, or
    /// it is a replay.
    StaleEnvelope,
    /// 400: the plaintext is not a frame, or a frame for another route.
    MalformedFrame,
    /// 400: the frame's body is not a JSON object.
    NotAnObject,
    /// 401: unknown user or wrong password; one answer for both, after the same time.
    BadCredentials,
    /// 403: the client's certificate is not (or no longer) good here, or not the one its session
    /// was granted to.
    WrongCertificate,
    /// 403: the client's certificate was revoked.
    CertificateRevoked,
    /// 403: this client gets no new certificate: its enrolment was accepted with another key, or it
    /// is none that was enrolled.
    RenewalRefused,
    /// 404: there is no such route.
    NotFound,
    /// 405: the route answers another method, named in `Allow`.
    MethodNotAllowed,
    /// 408: the request's body did not arrive in time.
    RequestTimeout,
    /// 410: the request was answered before, and the answer is not kept any more.
    ReplyForgotten,
    /// 413: the body is longer than the server takes.
    TooLarge,
    /// 419: no session, an expired one, or one whose user is gone or has a new password. Log in and
    /// send again.
    SessionExpired,
    /// 422: the id was accepted before, with another body.
    IdReused,
    /// 426: the route is a WebSocket, and the request does not ask for one.
    UpgradeRequired,
    /// 429: too many logins, failed or waiting; wait as `Retry-After` says.
    TooManyAttempts,
    /// 500: the server failed in a way of its own; its log says how.
    InternalError,
    /// 501: the server issues no certificates: it has no authority's key.
    RenewalUnavailable,
    /// 502: the application let the request go without a reply.
    NotAnswered,
    /// 503: the inbox is full; wait as `Retry-After` says.
    InboxFull,
    /// 503: the server is stopping.
    ShuttingDown,
    /// 503: something the server needs (its user database, or the inbox's) does not work at the
    /// moment.
    Unavailable,
    /// 504: the application gave no reply in the time that the caller set. It may still be at it.
    NoReplyInTime,
}

/// Whether, and after what, a client sends a refused message again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not at all: the same message will be refused again.
    Never,
    /// Once, after a login.
    AfterLogin,
    /// After a pause, the one in `Retry-After` where there is one.
    AfterPause,
}

impl ProblemCode {
    /// Every code.
    pub const ALL: [ProblemCode; 25] = [
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
        ProblemCode::ShuttingDown,
        ProblemCode::Unavailable,
        ProblemCode::NoReplyInTime,
    ];

    /// The stable text form, HTTP status, title and retry: one row a code.
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
            // Not in the IANA registry; the Python tool uses it, and its users know it.
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

    /// The HTTP status it is sent with.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// Whether, and after what, a client sends the same message again.
    pub const fn retry(self) -> Retry {
        self.row().3
    }

    /// Reads the text form; `None` for one that this version does not know.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == code)
    }
}

impl std::fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of a refusal, `application/problem+json` (RFC 9457). `type` is left out, which means
/// `about:blank`: the status says what kind of problem it is and `code` which one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The phrase of the status.
    pub title: String,
    /// The HTTP status, the same as on the status line.
    pub status: u16,
    /// The stable code; a client that does not know it goes by the status.
    pub code: String,
    /// A sentence for a person. It never holds a secret, a path or another user's data.
    pub detail: String,
}

impl Problem {
    /// A refusal with a sentence for a person.
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

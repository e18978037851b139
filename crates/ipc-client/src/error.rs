//! Why a send failed, what became of the message, and what to do about it.
//!
//! Callers match on these types. No variant holds a secret, and no type of an HTTP or TLS library
//! is public.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipc_base::{CertificateProblem, End, Place, Remedy, refused_because};
use ipc_protocol::{BodyError, ProblemCode, reason_of_detail};

/// A cause whose type is not part of the interface.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// What became of a message whose send failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The client or the server refused it. It is not in the inbox. The same message will be
    /// refused again.
    Refused,
    /// It is not in the inbox: it did not reach the server, or the server refused it because the
    /// session had expired. It may be sent again.
    NeverArrived,
    /// It may be in the inbox or not: it was in flight, and no answer came. Sending it again with a
    /// new id may deliver it twice.
    NotKnown,
    /// It is in the inbox, but there is no reply to it. Only requests have this outcome.
    Accepted,
}

/// Where the credentials of a client are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsOrigin {
    /// The program [gave](crate::ClientBuilder::credentials) them.
    Given,
    /// The home's `admin.cred`.
    AdminCred,
    /// The `client.cred` of an enrolled client's home.
    ClientCred,
}

/// What a peer speaks that is none of what it was spoken to in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// TLS instead of plain HTTP.
    Tls,
    /// Another protocol instead of TLS.
    NoTls,
    /// Another protocol instead of HTTP.
    NoHttp {
        /// Why it is not HTTP.
        fault: String,
    },
}

impl std::fmt::Display for Speaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Speaks::Tls => f.write_str("speaks https, not plain http"),
            Speaks::NoTls => f.write_str("does not speak TLS"),
            Speaks::NoHttp { fault } => write!(f, "does not speak HTTP ({fault})"),
        }
    }
}

/// Why there is no reply to a request that the server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoReply {
    /// The application dropped the request without a reply (status 502). It may have acted on it.
    NotGiven,
    /// The application declined the request, and says why (status 502). It may have acted on it.
    Declined {
        /// The application's words: one line of at most
        /// [`REASON_BYTES_MAX`](ipc_protocol::REASON_BYTES_MAX) bytes, without control characters.
        reason: String,
    },
    /// No reply came within the caller's time (status 504). The application may still be working on
    /// it.
    NotInTime {
        /// The caller's time.
        wait: Duration,
    },
    /// The reply went to an earlier attempt, and the server has removed it (status 410).
    Forgotten,
}

impl NoReply {
    /// The application's words for why it gave no reply, if it said why.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            NoReply::Declined { reason } => Some(reason),
            _ => None,
        }
    }

    fn code(&self) -> ProblemCode {
        match self {
            NoReply::NotGiven | NoReply::Declined { .. } => ProblemCode::NotAnswered,
            NoReply::NotInTime { .. } => ProblemCode::NoReplyInTime,
            NoReply::Forgotten => ProblemCode::ReplyForgotten,
        }
    }
}

impl std::fmt::Display for NoReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoReply::NotGiven => f.write_str("the application gave no reply"),
            NoReply::Declined { reason } => write!(f, "the application gave no reply: {reason}"),
            NoReply::NotInTime { wait } => {
                write!(f, "no reply came within {} s", wait.as_secs_f64())
            }
            NoReply::Forgotten => f.write_str("the server does not have the reply any more"),
        }
    }
}

/// What a server of the unmodified Python tool cannot do, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PythonFault {
    /// It answered `failed` (status 500): it could not open the message, or found no dict in it. It
    /// has another message key.
    NotRead,
    /// It has no such service: replies, or renewals of certificates.
    Lacks {
        /// What it lacks.
        what: &'static str,
    },
    /// The message is one that every server would refuse. Nothing was sent.
    NotPickled {
        /// Which rule it breaks.
        reason: String,
    },
}

impl std::fmt::Display for PythonFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PythonFault::NotRead => {
                f.write_str("the server of the Python tool could not read the message")
            }
            PythonFault::Lacks { what } => {
                write!(f, "a server of the Python tool has no {what}")
            }
            PythonFault::NotPickled { reason } => f.write_str(reason),
        }
    }
}

/// Why a message was not sent, or a request not answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The value is not a JSON object, or JSON cannot represent it exactly. Nothing was sent.
    #[error(transparent)]
    Body(Arc<BodyError>),
    /// The frame is longer than [`plaintext_bytes_max`](crate::ClientBuilder::plaintext_bytes_max).
    /// It was not sent.
    #[error("the message is too large: {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// The length in bytes of JSON text: of the frame, or of the message if that alone exceeds
        /// the limit.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The server refused the message, or the login before it, with a status of its own.
    #[error("{}", refused(*.status, *.code, .detail))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem code, if the response has a known one.
        code: Option<ProblemCode>,
        /// The server's text about the refusal. May be empty.
        detail: String,
    },
    /// The server does not know the user or the password.
    #[error("the server refused the user name or password of `{username}`")]
    BadCredentials {
        /// The user name.
        username: String,
        /// Where the client has them from.
        origin: CredentialsOrigin,
    },
    /// The server refused this client's certificate in the TLS handshake.
    #[error("the server refused this client's certificate `{identity}`: {}", refused_because(.alert, End::Server))]
    CertificateRefused {
        /// The name of the certificate pair that was presented.
        identity: String,
        /// The TLS alert of the server (RFC 8446, section 6), such as `CertificateExpired`.
        alert: String,
    },
    /// The client does not trust the server's certificate.
    #[error("the certificate of the server `{name}` {reason}")]
    ServerNotTrusted {
        /// The expected name of the server.
        name: String,
        /// What is wrong with the certificate.
        reason: CertificateProblem,
    },
    /// The server speaks another protocol. Another attempt would not help.
    #[error("the server at {address} {speaks}")]
    WrongProtocol {
        /// The address.
        address: String,
        /// What it speaks.
        speaks: Speaks,
    },
    /// The TLS handshake failed for a reason other than a certificate, such as no common version
    /// among 1.2 and 1.3.
    #[error("no TLS connection could be made with {address}")]
    Handshake {
        /// The address.
        address: String,
        /// The error of the TLS library.
        #[source]
        source: Cause,
    },
    /// No connection could be made.
    #[error("no connection to {address} could be made")]
    Unreachable {
        /// The address.
        address: String,
        /// The error of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection broke, or the time ran out, while the request was in flight.
    #[error("no answer from the server at {address}")]
    NoAnswer {
        /// The address.
        address: String,
        /// The error of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// The response is not one of a web-ipc server.
    #[error("unexpected response (status {status}): {detail}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the response.
        detail: String,
    },
    /// Other calls used all connections until the deadline.
    #[error("all {connections_max} connections were busy")]
    Busy {
        /// The limit, see [`connections_max`](crate::ClientBuilder::connections_max).
        connections_max: usize,
    },
    /// The time ran out, or the server asked for a longer wait than the time that was left.
    #[error("{}", timed_out(*.timeout, *.outcome, .last))]
    Timeout {
        /// The timeout of the call.
        timeout: Duration,
        /// What became of the message, considering all attempts.
        outcome: Outcome,
        /// Why the last attempt failed.
        #[source]
        last: Box<SendError>,
    },
    /// An attempt got no answer, and the next one was refused. Whether the first one delivered the
    /// message is unknown.
    #[error("an earlier attempt got no answer, and the last one failed")]
    InDoubt {
        /// Why the last attempt failed.
        #[source]
        last: Box<SendError>,
    },
    /// The server asked for a login before it accepts the message. The login got no answer, or an
    /// invalid one.
    #[error("the login failed")]
    LoginFailed {
        /// Why the login failed.
        #[source]
        last: Box<SendError>,
    },
    /// The server accepted the request, and there is no reply to it.
    #[error("the server accepted the request, but {reason}")]
    NoReply {
        /// Why there is no reply.
        reason: NoReply,
    },
    /// The server is one of the unmodified Python tool, and cannot do this. Only a client that was
    /// told so has this error, see
    /// [`python_compat`](crate::ClientBuilder#method.python_compat).
    #[error("{fault}")]
    PythonTool {
        /// What it cannot do.
        fault: PythonFault,
    },
    /// The operating system gave no random numbers. Nothing was sent.
    #[error("the operating system gave no random numbers")]
    NoRandomness {
        /// The error of the operating system.
        #[source]
        source: Cause,
    },
    /// The client's thread has ended, which only a bug can cause.
    #[error("the client has stopped")]
    Stopped,
}

impl From<BodyError> for SendError {
    fn from(error: BodyError) -> Self {
        SendError::Body(Arc::new(error))
    }
}

impl SendError {
    /// What became of the message.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            // A server that failed in the middle, or a proxy that lost it, has the message or has
            // it not. One that cannot do something at all (501), or not now (503), did not begin.
            SendError::Refused { status, .. } if *status >= 500 && ![501, 503].contains(status) => {
                Outcome::NotKnown
            }
            SendError::Body(_)
            | SendError::TooLarge { .. }
            | SendError::Refused { .. }
            | SendError::PythonTool { .. }
            | SendError::BadCredentials { .. }
            | SendError::CertificateRefused { .. } => Outcome::Refused,
            SendError::NoReply { .. } => Outcome::Accepted,
            // The server asked for the login, so it had not accepted the message.
            SendError::LoginFailed { .. }
            | SendError::ServerNotTrusted { .. }
            | SendError::WrongProtocol { speaks: Speaks::Tls | Speaks::NoTls, .. }
            | SendError::Handshake { .. }
            | SendError::Unreachable { .. }
            | SendError::Busy { .. }
            | SendError::NoRandomness { .. } => Outcome::NeverArrived,
            SendError::NoAnswer { .. }
            | SendError::WrongProtocol { speaks: Speaks::NoHttp { .. }, .. }
            | SendError::Unexpected { .. }
            | SendError::InDoubt { .. }
            | SendError::Stopped => Outcome::NotKnown,
            SendError::Timeout { outcome, .. } => *outcome,
        }
    }

    /// The error for a refusal that says that there is no reply to a request. `wait` is how long
    /// the caller waited. `None` for other errors.
    pub(crate) fn no_reply(&self, wait: Duration) -> Option<SendError> {
        let SendError::Refused { code: Some(code), detail, .. } = self else { return None };
        let reason = match code {
            ProblemCode::NotAnswered => match reason_of_detail(detail) {
                Some(reason) => NoReply::Declined { reason },
                None => NoReply::NotGiven,
            },
            ProblemCode::NoReplyInTime => NoReply::NotInTime { wait },
            ProblemCode::ReplyForgotten => NoReply::Forgotten,
            _ => return None,
        };
        Some(SendError::NoReply { reason })
    }

    /// The application's words for why it gave no reply to a request, if it said why.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            SendError::NoReply { reason } => reason.reason(),
            _ => None,
        }
    }

    /// The problem code of the refusal, if the server sent one. After several attempts, that of the
    /// last one.
    #[must_use]
    pub fn code(&self) -> Option<ProblemCode> {
        match self {
            SendError::Refused { code, .. } => *code,
            SendError::BadCredentials { .. } => Some(ProblemCode::BadCredentials),
            SendError::NoReply { reason } => Some(reason.code()),
            SendError::Timeout { last, .. }
            | SendError::InDoubt { last }
            | SendError::LoginFailed { last } => last.code(),
            _ => None,
        }
    }

    /// The HTTP status of the server's response, if there was one. After several attempts, that of
    /// the last one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            SendError::Refused { status, .. } | SendError::Unexpected { status, .. } => {
                Some(*status)
            }
            SendError::Timeout { last, .. }
            | SendError::InDoubt { last }
            | SendError::LoginFailed { last } => last.status(),
            SendError::PythonTool { fault: PythonFault::NotRead } => Some(500),
            _ => self.code().map(ProblemCode::status),
        }
    }

    /// Whether the time of the call ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            SendError::Timeout { .. } | SendError::NoReply { reason: NoReply::NotInTime { .. } }
        )
    }

    /// Whether the same message, under the [same id](crate::SendCall::id), may succeed later. That
    /// is so for a temporary failure, such as a server that is down or a full inbox.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            SendError::Timeout { .. }
            | SendError::Unreachable { .. }
            | SendError::NoAnswer { .. }
            | SendError::Busy { .. } => true,
            SendError::Refused { status, code, .. } => code
                .map_or(*status == 429 || *status >= 500, |code| {
                    code.retry() != ipc_protocol::Retry::Never
                }),
            SendError::NoReply { reason } => matches!(reason, NoReply::NotInTime { .. }),
            SendError::InDoubt { last } | SendError::LoginFailed { last } => last.is_retryable(),
            _ => false,
        }
    }

    /// The same failure of a message that an earlier attempt may have delivered.
    pub(crate) fn in_doubt(self) -> Self {
        match self {
            SendError::Timeout {
                timeout,
                outcome: Outcome::Refused | Outcome::NeverArrived,
                last,
            } => SendError::Timeout { timeout, outcome: Outcome::NotKnown, last },
            error => match error.outcome() {
                Outcome::NotKnown | Outcome::Accepted => error,
                Outcome::Refused | Outcome::NeverArrived => {
                    SendError::InDoubt { last: Box::new(error) }
                }
            },
        }
    }

    /// What a person can do about it. `None` if only the cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            SendError::BadCredentials { username, origin } => match origin {
                CredentialsOrigin::Given => Remedy::TestCredentials { user: username.clone() },
                CredentialsOrigin::AdminCred => Remedy::RenewCredentials { user: username.clone() },
                CredentialsOrigin::ClientCred => Remedy::EnrolAnew,
            },
            SendError::CertificateRefused { identity, .. } => {
                Remedy::ReplaceOwnCertificate { name: Some(identity.clone()) }
            }
            SendError::ServerNotTrusted { name, reason } => remedy_of_certificate(name, reason),
            SendError::Body(_) => "send a JSON object whose values JSON can hold".into(),
            SendError::TooLarge { .. } => SEND_LESS.into(),
            SendError::PythonTool { fault: PythonFault::NotRead } => Remedy::UseServersKeys,
            SendError::PythonTool { .. } => return None,
            SendError::Refused { code: Some(code), .. } => return remedy_of_refusal(*code),
            SendError::Refused { .. } | SendError::Stopped => return None,
            SendError::WrongProtocol { speaks: Speaks::Tls, .. } => Remedy::UseHttps,
            SendError::WrongProtocol { speaks: Speaks::NoTls, .. } => Remedy::CheckAddressOrUseHttp,
            SendError::WrongProtocol { speaks: Speaks::NoHttp { .. }, .. }
            | SendError::Unexpected { .. } => {
                "check that a web-ipc server answers at this address".into()
            }
            SendError::Handshake { .. } => {
                "check that the server speaks https at this address".into()
            }
            SendError::Unreachable { .. } => "check the address and that the server runs".into(),
            SendError::NoAnswer { .. } => "check that the server runs and what its log says".into(),
            SendError::Busy { .. } => "allow more connections or a longer deadline".into(),
            SendError::Timeout { last, .. }
            | SendError::InDoubt { last }
            | SendError::LoginFailed { last } => return last.remedy(),
            SendError::NoReply { reason } => match reason {
                NoReply::NotGiven | NoReply::Declined { .. } => {
                    "look into the log of the receiving application".into()
                }
                NoReply::NotInTime { .. } => {
                    "give the receiving application more time, or have it reply sooner".into()
                }
                NoReply::Forgotten => "have the server keep replies for longer".into(),
            },
            SendError::NoRandomness { .. } => {
                "check the operating system's random number generator".into()
            }
        })
    }
}

/// The alert with which a server refuses a certificate that it has revoked.
const REVOKED_ALERT: &str = "CertificateRevoked";

const SEND_LESS: &str = "send less at once, or raise the limit at both ends";

/// The remedy for a server certificate that is not trusted.
fn remedy_of_certificate(name: &str, reason: &CertificateProblem) -> Remedy {
    let reissue = || Remedy::issue(name, true, Place::ServersHome);
    match reason {
        // The client cannot know which home this is, or whether it has the authority's key.
        CertificateProblem::UnknownAuthority => {
            Remedy::TrustServersAuthority { name: name.to_owned() }
        }
        CertificateProblem::WrongName { presented } => {
            // The new certificate keeps the old names, since other clients may use them.
            let names = std::iter::once(name).chain(presented.iter().map(String::as_str));
            let reissue = Remedy::IssueCertificate {
                name: name.to_owned(),
                alt_names: names.map(str::to_owned).collect(),
                replace: true,
                place: Place::ServersHome,
            };
            Remedy::UseCertifiedName.or(reissue)
        }
        CertificateProblem::Expired { .. } | CertificateProblem::NotValidYet { .. } => {
            Remedy::CheckClocks.then(reissue())
        }
        _ => reissue(),
    }
}

fn remedy_of_refusal(code: ProblemCode) -> Option<Remedy> {
    Some(match code {
        ProblemCode::MalformedEnvelope => Remedy::UseServersKeys,
        ProblemCode::StaleEnvelope => "set the clocks of both hosts".into(),
        ProblemCode::MalformedFrame => {
            "check that both ends have the same version of web-ipc".into()
        }
        ProblemCode::WrongCertificate => Remedy::BindUser { user: None, peer: None },
        ProblemCode::CertificateRevoked => Remedy::ReplaceOwnCertificate { name: None },
        ProblemCode::RenewalRefused => Remedy::EnrolAnew,
        ProblemCode::RenewalUnavailable => {
            "ask the server whose home has the key of the authority, web-ipc-ca.key".into()
        }
        ProblemCode::TooLarge => SEND_LESS.into(),
        ProblemCode::InboxFull => "have the receiving application take its messages faster".into(),
        ProblemCode::IdsFull => {
            "send more slowly: the server remembers the id of each message for ten minutes, and \
             of so many at most"
                .into()
        }
        ProblemCode::TooManyAttempts => "wait, then try again".into(),
        ProblemCode::InternalError | ProblemCode::Unavailable => {
            "look into the server's log".into()
        }
        _ => return None,
    })
}

/// A login that has to wait for longer than the call ends the call at once, so its text names no
/// time in which the message was tried.
fn timed_out(timeout: Duration, outcome: Outcome, last: &SendError) -> String {
    match (last.code(), outcome) {
        (Some(ProblemCode::TooManyAttempts), Outcome::Refused | Outcome::NeverArrived) => {
            "the message was not sent".to_owned()
        }
        _ => format!("the message could not be sent within {} s", timeout.as_secs_f64()),
    }
}

fn refused(status: u16, code: Option<ProblemCode>, detail: &str) -> String {
    if code == Some(ProblemCode::CertificateRevoked) {
        let reason = refused_because(REVOKED_ALERT, End::Server);
        return format!("the server refused this client's certificate: {reason}");
    }
    let said = match (code, detail) {
        (None, "") => String::new(),
        (None, detail) => format!(": {detail}"),
        (Some(code), "") => format!(" ({code})"),
        (Some(code), detail) => format!(" ({code}): {detail}"),
    };
    let what = match code {
        // Only a login has this code, and only a renewal these.
        Some(ProblemCode::TooManyAttempts) => "login",
        Some(ProblemCode::RenewalRefused | ProblemCode::RenewalUnavailable) => "renewal",
        // It was not opened, so that nobody knows what was in it: a login has none of a message.
        Some(ProblemCode::MalformedEnvelope | ProblemCode::StaleEnvelope) => "envelope",
        _ => "message",
    };
    format!("the server refused the {what} with status {status}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<ProblemCode>) -> SendError {
        SendError::Refused { status, code, detail: "why".into() }
    }

    #[test]
    fn the_outcome_says_what_became_of_the_message() {
        assert_eq!(refused(400, None).outcome(), Outcome::Refused);
        assert_eq!(refused(503, Some(ProblemCode::InboxFull)).outcome(), Outcome::Refused);
        let ids = refused(503, Some(ProblemCode::IdsFull));
        assert_eq!(ids.outcome(), Outcome::Refused);
        let remedy = ids.remedy().unwrap().to_string();
        assert!(remedy.starts_with("send more slowly: "), "{remedy}");
        assert_eq!(refused(500, Some(ProblemCode::InternalError)).outcome(), Outcome::NotKnown);
        assert_eq!(refused(504, None).outcome(), Outcome::NotKnown);
        let unreachable = SendError::Unreachable {
            address: "a:1".into(),
            source: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        assert_eq!(unreachable.outcome(), Outcome::NeverArrived);
        let no_answer = SendError::NoAnswer {
            address: "a:1".into(),
            source: Arc::new(io::ErrorKind::ConnectionReset.into()),
        };
        assert_eq!(no_answer.outcome(), Outcome::NotKnown);
    }

    #[test]
    fn a_request_without_a_reply_was_accepted_and_a_failed_login_leaves_the_message_where_it_was() {
        let no_reply =
            SendError::NoReply { reason: NoReply::NotInTime { wait: Duration::from_millis(1500) } };
        assert_eq!(
            no_reply.to_string(),
            "the server accepted the request, but no reply came within 1.5 s"
        );
        assert_eq!(no_reply.outcome(), Outcome::Accepted);
        let said = "the application gave no reply: ended with exit status: 3\u{1b}[1m";
        let refused = SendError::Refused {
            status: 502,
            code: Some(ProblemCode::NotAnswered),
            detail: said.into(),
        };
        let declined = refused.no_reply(Duration::ZERO).unwrap();
        assert_eq!(declined.reason(), Some("ended with exit status: 3 [1m"));
        assert_eq!(
            declined.to_string(),
            "the server accepted the request, but the application gave no reply: ended with exit status: 3 [1m"
        );
        assert_eq!((no_reply.reason(), declined.code()), (None, Some(ProblemCode::NotAnswered)));
        let last = Box::new(SendError::Unexpected { status: 200, detail: "odd".into() });
        assert_eq!(last.outcome(), Outcome::NotKnown);
        let login = SendError::LoginFailed { last };
        assert_eq!(login.outcome(), Outcome::NeverArrived);
        assert!(login.remedy().unwrap().to_string().contains("web-ipc server"));
    }

    #[test]
    fn doubt_covers_what_would_claim_to_know_better() {
        let claims = refused(403, None).in_doubt();
        assert!(
            matches!(&claims, SendError::InDoubt { .. }) && claims.outcome() == Outcome::NotKnown
        );
        let late = SendError::Timeout {
            timeout: Duration::ZERO,
            outcome: Outcome::NeverArrived,
            last: Box::new(refused(503, None)),
        };
        let late = late.in_doubt();
        assert!(matches!(&late, SendError::Timeout { outcome: Outcome::NotKnown, .. }), "{late:?}");
        assert!(matches!(SendError::Stopped.in_doubt(), SendError::Stopped));
    }

    #[test]
    fn a_refusal_shows_its_code_and_the_servers_sentence() {
        assert_eq!(
            refused(422, Some(ProblemCode::IdReused)).to_string(),
            "the server refused the message with status 422 (id_reused): why"
        );
        for (code, what) in [
            (ProblemCode::RenewalRefused, "renewal"),
            (ProblemCode::StaleEnvelope, "envelope"),
            (ProblemCode::WrongCertificate, "message"),
        ] {
            let said = refused(code.status(), Some(code)).to_string();
            assert!(said.starts_with(&format!("the server refused the {what} with ")), "{said}");
        }
        let bare = SendError::Refused { status: 302, code: None, detail: String::new() };
        assert_eq!(bare.to_string(), "the server refused the message with status 302");
    }

    #[test]
    fn a_missed_deadline_hands_on_the_remedy_of_its_cause() {
        let error = SendError::Timeout {
            timeout: Duration::from_millis(1500),
            outcome: Outcome::Refused,
            last: Box::new(refused(400, Some(ProblemCode::StaleEnvelope))),
        };
        assert_eq!(error.to_string(), "the message could not be sent within 1.5 s");
        assert_eq!(error.remedy(), Some("set the clocks of both hosts".into()));
        assert!(error.source().unwrap().to_string().contains("stale_envelope"));
    }

    #[test]
    fn a_login_that_has_to_wait_is_told_as_such_and_not_as_a_late_message() {
        let late = |outcome| SendError::Timeout {
            timeout: Duration::from_secs(30),
            outcome,
            last: Box::new(refused(429, Some(ProblemCode::TooManyAttempts))),
        };
        let error = late(Outcome::Refused);
        assert_eq!(error.to_string(), "the message was not sent");
        assert_eq!(
            error.source().unwrap().to_string(),
            "the server refused the login with status 429 (too_many_attempts): why"
        );
        assert_eq!(error.remedy(), Some("wait, then try again".into()));
        // Nobody may say that a message was not sent which an earlier attempt may have delivered.
        let in_doubt = late(Outcome::NotKnown);
        assert_eq!(in_doubt.to_string(), "the message could not be sent within 30 s");
    }

    #[test]
    fn a_user_name_is_tried_on_the_servers_host_and_the_homes_own_admin_is_renewed() {
        let refused = |username: &str, origin| {
            SendError::BadCredentials { username: username.into(), origin }.remedy()
        };
        assert_eq!(
            refused("a; b", CredentialsOrigin::Given),
            Some(Remedy::TestCredentials { user: "a; b".into() })
        );
        assert_eq!(
            refused("ipc-admin", CredentialsOrigin::AdminCred),
            Some(Remedy::RenewCredentials { user: "ipc-admin".into() })
        );
        assert_eq!(refused("worker1", CredentialsOrigin::ClientCred), Some(Remedy::EnrolAnew));
    }

    #[test]
    fn a_distrusted_certificate_is_told_with_dates_and_names_and_what_mends_it() {
        let secs = 1_829_699_460;
        let name = || "localhost".to_owned();
        let reissue = || Remedy::issue("localhost", true, Place::ServersHome);
        for (reason, says, remedy) in [
            (
                CertificateProblem::Expired { not_after_secs: Some(secs) },
                "the certificate of the server `localhost` expired at 2027-12-25T01:51:00Z",
                Remedy::CheckClocks.then(reissue()),
            ),
            (
                CertificateProblem::NotValidYet { not_before_secs: Some(secs) },
                "the certificate of the server `localhost` is not valid before 2027-12-25T01:51:00Z",
                Remedy::CheckClocks.then(reissue()),
            ),
            (
                CertificateProblem::WrongName {
                    presented: vec!["a.example".into(), "192.0.2.1".into()],
                },
                "the certificate of the server `localhost` is for a.example, 192.0.2.1",
                Remedy::UseCertifiedName.or(Remedy::IssueCertificate {
                    name: name(),
                    alt_names: vec![name(), "a.example".into(), "192.0.2.1".into()],
                    replace: true,
                    place: Place::ServersHome,
                }),
            ),
            (
                CertificateProblem::UnknownAuthority,
                "the certificate of the server `localhost` was not issued by this home's authority",
                Remedy::TrustServersAuthority { name: name() },
            ),
        ] {
            let error = SendError::ServerNotTrusted { name: name(), reason };
            assert_eq!(error.to_string(), says);
            assert!(error.source().is_none());
            assert_eq!(error.remedy(), Some(remedy));
        }
    }

    #[test]
    fn a_revoked_certificate_is_told_in_words_and_is_to_be_replaced() {
        let by_alert = SendError::CertificateRefused {
            identity: "worker1".into(),
            alert: "CertificateRevoked".into(),
        };
        assert_eq!(
            by_alert.to_string(),
            "the server refused this client's certificate `worker1`: it has been revoked"
        );
        let by_code = SendError::Refused {
            status: 403,
            code: Some(ProblemCode::CertificateRevoked),
            detail: "why".into(),
        };
        assert_eq!(
            by_code.to_string(),
            "the server refused this client's certificate: it has been revoked"
        );
        for (error, name) in [(by_alert, Some("worker1".to_owned())), (by_code, None)] {
            assert_eq!(error.remedy(), Some(Remedy::ReplaceOwnCertificate { name }));
            assert_eq!(error.outcome(), Outcome::Refused);
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn a_refused_certificate_is_told_in_words() {
        let refused = |alert: &str| SendError::CertificateRefused {
            identity: "peer1".into(),
            alert: alert.into(),
        };
        assert!(
            refused("CertificateExpired")
                .to_string()
                .ends_with("it has expired or is not valid yet")
        );
        assert!(refused("UnknownCA").to_string().ends_with("the authority that the server trusts"));
        let replace = Remedy::ReplaceOwnCertificate { name: Some("peer1".into()) };
        assert_eq!(refused("AccessDenied").remedy(), Some(replace));
    }
}

//! A refusal says what is wrong with a request, with one message for the peer and another for the
//! log.
//!
//! Every file that checks requests comes here. `answer` turns a refusal into a response.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use ipc_protocol::{PROBLEM_TYPE, Problem, ProblemCode};
use log::Level;

/// When a client should come again after the inbox was full or the server was stopping.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The refusal of a request.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: ProblemCode,
    /// The message for the peer.
    detail: Cow<'static, str>,
    /// The message for the log. It never contains a secret.
    cause: Option<String>,
    level: Level,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, detail: detail.into(), cause: None, level: Level::Info, retry_after: None }
    }

    /// Adds a message that only the log gets.
    pub(crate) fn because(mut self, cause: impl Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Marks the refusal as the server's fault: it is logged as an error.
    pub(crate) fn logged_as_error(mut self) -> Self {
        self.level = Level::Error;
        self
    }

    /// Adds `Retry-After`, rounded up to whole seconds.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn code(&self) -> ProblemCode {
        self.code
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Returns the message for the log.
    pub(crate) fn into_cause(self) -> Option<String> {
        self.cause
    }

    /// The problem code and the message for the log.
    pub(crate) fn for_the_log(&self) -> String {
        match &self.cause {
            Some(cause) => format!(" {} ({cause})", self.code),
            None => format!(" {}", self.code),
        }
    }

    /// Makes the response.
    pub(crate) fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.code.status())
            .expect("every code has a status of three digits");
        let mut response = HttpResponse::build(status);
        response.content_type(PROBLEM_TYPE);
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs_f64().ceil().to_string()));
        }
        if self.code == ProblemCode::UpgradeRequired {
            // Required by RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
            response.insert_header((header::UPGRADE, "websocket"));
            response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
        }
        if self.code == ProblemCode::BadCredentials {
            // RFC 9110, section 11.6.1: a 401 names a scheme.
            response.insert_header((header::WWW_AUTHENTICATE, "Web-IPC"));
        }
        response.body(Problem::new(self.code, self.detail.as_ref()).to_json())
    }
}

/// The refusal of every request while the server stops, and of `/is/running` while it drains.
pub(crate) fn shutting_down() -> Refusal {
    Refusal::new(ProblemCode::ShuttingDown, "the server is stopping").retry_after(RETRY_AFTER)
}

/// The refusal if the server itself failed. `what` and `error` go into the log.
pub(crate) fn internal(what: &str, error: impl Display) -> Refusal {
    let detail = "the server failed; its log says how";
    Refusal::new(ProblemCode::InternalError, detail)
        .because(format!("{what}: {error}"))
        .logged_as_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        for (wait, seconds) in [
            (Duration::from_millis(1), "1"),
            (Duration::from_millis(1500), "2"),
            (Duration::from_secs(3), "3"),
        ] {
            let refusal = Refusal::new(ProblemCode::InboxFull, "full").retry_after(wait);
            assert_eq!(refusal.response().headers().get(header::RETRY_AFTER).unwrap(), seconds);
        }
    }

    #[test]
    fn what_is_for_the_log_is_not_for_the_peer() {
        let refusal = Refusal::new(ProblemCode::InternalError, "public").because("private");
        let body =
            actix_web::body::MessageBody::try_into_bytes(refusal.response().into_body()).unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("public") && !text.contains("private"));
    }
}

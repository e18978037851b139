//! Answers: the few good ones, and refusals with one message for the peer and another for the log.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use ipc_protocol::{DUPLICATE_HEADER, PROBLEM_TYPE, Problem, ProblemCode, RAW_ENVELOPE_TYPE, SUBMIT_TEXT};
use log::Level;

use crate::log_limit::{Kind, LogLimit, shown};
use crate::state::State;

use crate::reply_body::ReplyBody;

/// Characters of a path that the log gets.
const SHORT_CHARS: usize = 200;

/// When a client that found the inbox full, or the server stopping, may come again.
pub(crate) const COME_AGAIN: Duration = Duration::from_secs(1);

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: ProblemCode,
    /// For the peer.
    detail: Cow<'static, str>,
    /// For the log; never a secret.
    cause: Option<String>,
    level: Level,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, detail: detail.into(), cause: None, level: Level::Info, retry_after: None }
    }

    /// Adds what only the log is told.
    pub(crate) fn because(mut self, cause: impl Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Says that it is the server's fault: its line in the log is an error.
    pub(crate) fn logged_as_error(mut self) -> Self {
        self.level = Level::Error;
        self
    }

    /// Adds when to come again, rounded up to whole seconds.
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

    /// What only the log is told.
    pub(crate) fn into_cause(self) -> Option<String> {
        self.cause
    }

    fn for_the_log(&self) -> String {
        match &self.cause {
            Some(cause) => format!(" {} ({cause})", self.code),
            None => format!(" {}", self.code),
        }
    }

    fn response(&self) -> HttpResponse {
        let status =
            StatusCode::from_u16(self.code.status()).expect("every code has a status of three digits");
        let mut response = HttpResponse::build(status);
        response.content_type(PROBLEM_TYPE);
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs_f64().ceil().to_string()));
        }
        if self.code == ProblemCode::UpgradeRequired {
            // RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
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

/// The refusal of everything while the server stops.
pub(crate) fn shutting_down() -> Refusal {
    Refusal::new(ProblemCode::ShuttingDown, "the server is stopping").retry_after(COME_AGAIN)
}

/// The refusal where the server failed in a way of its own, which the log gets.
pub(crate) fn internal(what: &str, error: impl Display) -> Refusal {
    let detail = "the server failed; its log says how";
    Refusal::new(ProblemCode::InternalError, detail).because(format!("{what}: {error}")).logged_as_error()
}

/// The answer 200 to a message.
pub(crate) fn accepted(is_duplicate: bool) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/plain; charset=utf-8");
    let mut response = response.body(SUBMIT_TEXT);
    if is_duplicate {
        mark_duplicate(&mut response);
    }
    response
}

/// Says that a message was accepted before.
pub(crate) fn mark_duplicate(response: &mut HttpResponse) {
    response
        .headers_mut()
        .insert(HeaderName::from_static(DUPLICATE_HEADER), HeaderValue::from_static("true"));
}

/// The answer 200 with an envelope.
pub(crate) fn envelope(envelope: ReplyBody, is_raw: bool) -> HttpResponse {
    let content_type = if is_raw { RAW_ENVELOPE_TYPE } else { "text/plain; charset=utf-8" };
    HttpResponse::Ok().content_type(content_type).body(envelope)
}

/// Makes the response and writes the line of the log that a request gets, if its peer has had not too many: peer, method, path,
/// status.
pub(crate) fn answer(request: &HttpRequest, result: Result<HttpResponse, Refusal>) -> HttpResponse {
    let (response, refusal) = match result {
        Ok(response) => (response, None),
        Err(refusal) => (refusal.response(), Some(refusal)),
    };
    if let Some(state) = request.app_data::<web::Data<State>>() {
        let what = (request.method(), request.path(), response.status());
        note(&state.log, request.peer_addr(), what, refusal.as_ref());
    }
    response
}

/// [`answer`] for a request that is refused before actix-web has it.
pub(crate) fn refuse(request: &actix_http::Request, refusal: &Refusal, log: &LogLimit) -> HttpResponse {
    let response = refusal.response();
    note(log, request.peer_addr(), (request.method(), request.path(), response.status()), Some(refusal));
    response
}

fn note(
    log: &LogLimit,
    peer: Option<SocketAddr>,
    (method, path, status): (&Method, &str, StatusCode),
    refusal: Option<&Refusal>,
) {
    let level = refusal.map_or(Level::Info, |refusal| refusal.level);
    let code = refusal.map_or("", |refusal| refusal.code.as_str());
    if log::log_enabled!(level) && log.takes(level, peer, Kind::Answer(status.as_u16(), code)) {
        let (peer, method, path) = (shown(peer), short(method.as_str()), short(path));
        let why = refusal.map(Refusal::for_the_log).unwrap_or_default();
        log::log!(level, "{peer} - \"{method} {path}\" {}{why}", status.as_u16());
    }
}

/// The beginning of what a peer chose, so that it does not fill the log.
fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHORT_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
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
    fn the_log_gets_the_beginning_of_a_long_path() {
        assert_eq!(short("/is/running"), "/is/running");
        assert_eq!(short(&"é".repeat(SHORT_CHARS)), "é".repeat(SHORT_CHARS));
        assert_eq!(short(&"é".repeat(60_000)), format!("{}…", "é".repeat(SHORT_CHARS)));
    }

    #[test]
    fn what_is_for_the_log_is_not_for_the_peer() {
        let refusal = Refusal::new(ProblemCode::InternalError, "public").because("private");
        let body = actix_web::body::MessageBody::try_into_bytes(refusal.response().into_body()).unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("public") && !text.contains("private"));
    }
}

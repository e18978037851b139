//! Makes the responses, successes and refusals, and logs one line for each request.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use ipc_protocol::{DUPLICATE_HEADER, RAW_ENVELOPE_TYPE, SUBMIT_TEXT};
use log::Level;

use crate::peer::PeerCertificate;
use crate::rate_limited_log::{Kind, RateLimitedLog, shown};
use crate::refusal::Refusal;
use crate::reply_body::ReplyBody;
use crate::state::State;

/// How many characters of a path are logged.
const SHORT_CHARS: usize = 200;

/// The response 200 to a message.
pub(crate) fn accepted(is_duplicate: bool) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/plain; charset=utf-8");
    let mut response = response.body(SUBMIT_TEXT);
    if is_duplicate {
        mark_duplicate(&mut response);
    }
    response
}

/// Marks a response as that to a duplicate: the message was accepted before.
pub(crate) fn mark_duplicate(response: &mut HttpResponse) {
    response
        .headers_mut()
        .insert(HeaderName::from_static(DUPLICATE_HEADER), HeaderValue::from_static("true"));
}

/// A response 200 with an envelope as its body.
pub(crate) fn envelope(envelope: ReplyBody, is_raw: bool) -> HttpResponse {
    let content_type = if is_raw { RAW_ENVELOPE_TYPE } else { "text/plain; charset=utf-8" };
    HttpResponse::Ok().content_type(content_type).body(envelope)
}

/// Makes the response to a request and logs one line with peer, method, path and status. The log's
/// rate limit may suppress the line.
pub(crate) fn answer(request: &HttpRequest, result: Result<HttpResponse, Refusal>) -> HttpResponse {
    let (response, refusal) = match result {
        Ok(response) => (response, None),
        Err(refusal) => (refusal.response(), Some(refusal)),
    };
    if let Some(state) = request.app_data::<web::Data<State>>() {
        if let Some(refusal) = &refusal {
            let peer = request.conn_data::<Rc<PeerCertificate>>().and_then(|shown| shown.name());
            state.statistics.refused(refusal.code(), request.peer_addr(), peer);
        }
        let what = (request.method(), request.path(), response.status());
        note(&state.log, request.peer_addr(), what, refusal.as_ref());
    }
    response
}

/// Like [`answer`], for a request that is refused before actix-web sees it.
pub(crate) fn refuse(
    request: &actix_http::Request,
    refusal: &Refusal,
    state: &State,
) -> HttpResponse {
    let response = refusal.response();
    let peer = request.conn_data::<Rc<PeerCertificate>>().and_then(|shown| shown.name());
    state.statistics.refused(refusal.code(), request.peer_addr(), peer);
    note(
        &state.log,
        request.peer_addr(),
        (request.method(), request.path(), response.status()),
        Some(refusal),
    );
    response
}

fn note(
    log: &RateLimitedLog,
    peer: Option<SocketAddr>,
    (method, path, status): (&Method, &str, StatusCode),
    refusal: Option<&Refusal>,
) {
    let level = refusal.map_or(Level::Info, Refusal::level);
    let code = refusal.map_or("", |refusal| refusal.code().as_str());
    if log::log_enabled!(level) && log.takes(level, peer, Kind::Answer(status.as_u16(), code)) {
        let (peer, method, path) = (shown(peer), short(method.as_str()), short(path));
        let why = refusal.map(Refusal::for_the_log).unwrap_or_default();
        log::log!(level, "{peer} - \"{method} {path}\" {}{why}", status.as_u16());
    }
}

/// Shortens text that a peer chose, so that it does not fill the log.
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
    fn the_log_gets_the_beginning_of_a_long_path() {
        assert_eq!(short("/is/running"), "/is/running");
        assert_eq!(short(&"é".repeat(SHORT_CHARS)), "é".repeat(SHORT_CHARS));
        assert_eq!(short(&"é".repeat(60_000)), format!("{}…", "é".repeat(SHORT_CHARS)));
    }
}

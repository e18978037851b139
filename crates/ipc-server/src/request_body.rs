//! Determines the length of a request's body, and whether its connection can be kept, from what
//! actix-http parsed.
//!
//! `http` comes here with each request, before any route sees it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::error::PayloadError;
use actix_http::{ConnectionType, Payload, RequestHead};
use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, header};
use actix_web::web::Bytes;
use futures_util::Stream;
use ipc_protocol::Route;

use crate::framing::BodyLength;

/// Returns the length of a request's body, and whether the request is the last of its connection.
///
/// After `Upgrade: websocket` (whatever `Content-Length` says) and after `CONNECT`, actix-http
/// treats everything that follows as the body. A server may ignore the wish to upgrade (RFC 9110,
/// section 7.8). Such a request therefore gets only the body that its length gives, except on the
/// route that upgrades the connection, which gets everything. In both cases the connection cannot
/// be kept, as actix-http parses no further request on it.
pub(crate) fn settle(request: &mut ServiceRequest) -> (BodyLength, bool) {
    // actix-http keeps no other connections. It never keeps one that asks for any upgrade.
    let wants_close = request.head().connection_type() != ConnectionType::KeepAlive;
    if let Payload::None = request.parts().1 {
        return (BodyLength::None, wants_close);
    }
    let head = request.head();
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // actix-http accepts no transfer coding but `chunked`.
        return (BodyLength::Chunked, wants_close);
    }
    let has_no_end = takes_all(head);
    // A request without a length has no body (RFC 9112, section 6.3).
    let length = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse().ok());
    let length = length.unwrap_or(0);
    let is_channel = has_no_end && length == 0 && is_for_a_channel(head);
    if has_no_end && !is_channel {
        let payload = request.take_payload();
        request.set_payload(Payload::Stream {
            payload: Box::pin(LimitedBody { payload, missing: length }),
        });
    }
    (BodyLength::Bytes(length), wants_close || has_no_end)
}

/// Whether actix-http treats everything after a head as the body. For `CONNECT` with a length it
/// does not, but such a connection need not be kept either.
fn takes_all(head: &RequestHead) -> bool {
    let is_websocket = |value: &header::HeaderValue| {
        value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
    };
    head.method == Method::CONNECT || head.headers.get_all(header::UPGRADE).any(is_websocket)
}

/// Whether a request asks for a channel. Only called if [`takes_all`] holds.
fn is_for_a_channel(head: &RequestHead) -> bool {
    head.method == Method::GET && head.uri.path() == Route::MessageChannel.path()
}

/// Limits a payload without an end of its own to its first bytes.
struct LimitedBody {
    payload: Payload,
    missing: u64,
}

impl Stream for LimitedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.missing == 0 {
            return Poll::Ready(None);
        }
        let mut next = ready!(Pin::new(&mut this.payload).poll_next(context));
        if let Some(Ok(bytes)) = &mut next {
            // `gate` already hands on no more than the length, but this does not rely on it.
            bytes.truncate(usize::try_from(this.missing).unwrap_or(usize::MAX));
            this.missing -= bytes.len() as u64;
        }
        Poll::Ready(next)
    }
}

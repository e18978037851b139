//! How long the body of a request is, and whether its connection can be kept, by what actix-http
//! made of its head.
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

/// Returns how long the body of a request is, and whether the request is the last of its
/// connection.
///
/// After `Upgrade: websocket`, whatever `Content-Length` says, and after `CONNECT`, actix-http
/// takes everything that follows for the body. A server may ignore the wish (RFC 9110, section
/// 7.8): such a request gets the body that its length gives, but for the route that upgrades the
/// connection, which gets all of it. Its connection cannot be kept, as actix-http parses no further
/// request on it.
pub(crate) fn settle(request: &mut ServiceRequest) -> (BodyLength, bool) {
    // actix-http keeps no other connections: none that asks for an upgrade, whatever to.
    let wants_close = request.head().connection_type() != ConnectionType::KeepAlive;
    if let Payload::None = request.parts().1 {
        return (BodyLength::None, wants_close);
    }
    let head = request.head();
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // actix-http takes `chunked` alone.
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

/// Whether actix-http takes everything behind a head for the body. It does not for `CONNECT` with a
/// length, which may as well go without its connection.
fn takes_all(head: &RequestHead) -> bool {
    let is_websocket = |value: &header::HeaderValue| {
        value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
    };
    head.method == Method::CONNECT || head.headers.get_all(header::UPGRADE).any(is_websocket)
}

/// Whether a request, after which actix-http takes everything for its body, asks for a channel.
fn is_for_a_channel(head: &RequestHead) -> bool {
    head.method == Method::GET && head.uri.path() == Route::MessageChannel.path()
}

/// The first bytes of a payload that has no end of its own.
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
            // `gate` hands on no more than the length; this does not rely on it.
            bytes.truncate(usize::try_from(this.missing).unwrap_or(usize::MAX));
            this.missing -= bytes.len() as u64;
        }
        Poll::Ready(next)
    }
}

//! Checks the opening handshake of a channel (RFC 6455, section 4.2) and makes the head of its
//! response.

use actix_http::ResponseBuilder;
use actix_http::ws::{HandshakeError, handshake};
use actix_web::dev::RequestHead;
use actix_web::http::header;
use ipc_protocol::{CHANNEL_LIMITS_HEADER, CHANNEL_SUBPROTOCOL, ChannelLimits, ProblemCode};

use crate::refusal::Refusal;

/// Makes the response 101 to a request for a channel.
///
/// # Errors
/// 426 if the request does not ask for a WebSocket, or for another version or subprotocol; 400 if
/// it is malformed or has a body.
pub(super) fn accept(
    head: &RequestHead,
    limits: ChannelLimits,
) -> Result<ResponseBuilder, Refusal> {
    let malformed = |detail| Refusal::new(ProblemCode::MalformedRequest, detail);
    let upgrade = |detail| Refusal::new(ProblemCode::UpgradeRequired, detail);
    let mut response = handshake(head).map_err(|error| match error {
        HandshakeError::UnsupportedVersion => {
            upgrade("this route supports WebSocket version 13 only")
        }
        HandshakeError::NoVersionHeader => {
            malformed("the handshake has no `Sec-WebSocket-Version`")
        }
        HandshakeError::BadWebsocketKey => {
            malformed("the handshake's `Sec-WebSocket-Key` is missing or malformed")
        }
        _ => upgrade("this route is a WebSocket"),
    })?;
    if has_body(head) {
        return Err(malformed("the handshake has a body"));
    }
    if !asks_for_the_subprotocol(head) {
        return Err(upgrade("this route supports the WebSocket subprotocol web-ipc.1 only"));
    }
    response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, CHANNEL_SUBPROTOCOL));
    response.insert_header((CHANNEL_LIMITS_HEADER, limits.to_string()));
    Ok(response)
}

fn has_body(head: &RequestHead) -> bool {
    let headers = &head.headers;
    let has_length = headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length.as_bytes().trim_ascii() != b"0");
    has_length || headers.contains_key(header::TRANSFER_ENCODING)
}

fn asks_for_the_subprotocol(head: &RequestHead) -> bool {
    let mut offers = head.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    offers.any(|offer| {
        let mut names = offer.as_bytes().split(|byte| *byte == b',');
        // Names of subprotocols are case-sensitive (RFC 6455, section 4.2.2).
        names.any(|name| name.trim_ascii() == CHANNEL_SUBPROTOCOL.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;

    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "other, web-ipc.1"),
    ];

    /// The result of a good handshake after one header was changed, removed or added.
    fn with(name: &str, value: Option<&str>) -> Result<ResponseBuilder, ProblemCode> {
        let mut request = TestRequest::get();
        for (known, good) in GOOD {
            match value {
                Some(value) if known == name => request = request.append_header((known, value)),
                None if known == name => (),
                _ => request = request.append_header((known, good)),
            }
        }
        if let (Some(value), false) = (value, GOOD.iter().any(|(known, _)| *known == name)) {
            request = request.append_header((name.to_owned(), value.to_owned()));
        }
        let request = request.to_request();
        let mut request = request;
        if name == "connection" && value == Some("keep-alive") {
            request.head_mut().set_connection_type(actix_http::ConnectionType::KeepAlive);
        } else {
            request.head_mut().set_connection_type(actix_http::ConnectionType::Upgrade);
        }
        accept(request.head(), ChannelLimits::default()).map_err(|refusal| refusal.code())
    }

    #[test]
    fn a_good_handshake_is_answered_with_what_a_client_has_to_know() {
        let response = with("", None).unwrap().finish();
        let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // The example of RFC 6455, section 1.3.
        assert_eq!(header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(header("sec-websocket-protocol"), "web-ipc.1");
        assert_eq!(header("web-ipc-limits"), "message-bytes=73728, entries=1000, requests=4096");
        assert!(with("content-length", Some("0")).is_ok());
    }

    #[test]
    fn a_handshake_that_is_none_or_for_something_else_is_refused() {
        for (name, value, code) in [
            ("upgrade", None, ProblemCode::UpgradeRequired),
            ("upgrade", Some("h2c"), ProblemCode::UpgradeRequired),
            ("connection", Some("keep-alive"), ProblemCode::UpgradeRequired),
            ("sec-websocket-protocol", None, ProblemCode::UpgradeRequired),
            ("sec-websocket-protocol", Some("web-ipc.2, Web-IPC.1"), ProblemCode::UpgradeRequired),
            ("sec-websocket-version", Some("8"), ProblemCode::UpgradeRequired),
            ("sec-websocket-version", None, ProblemCode::MalformedRequest),
            ("sec-websocket-key", None, ProblemCode::MalformedRequest),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZQ=="), ProblemCode::MalformedRequest),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZ===="), ProblemCode::MalformedRequest),
            ("content-length", Some("1"), ProblemCode::MalformedRequest),
            ("transfer-encoding", Some("chunked"), ProblemCode::MalformedRequest),
        ] {
            assert_eq!(with(name, value).err(), Some(code), "{name}: {value:?}");
        }
    }
}

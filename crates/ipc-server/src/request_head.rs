//! Checks that a request's head states unambiguously where the request goes: its target and its
//! `Host` (RFC 9112, section 3.2).
//!
//! `http` comes here with each request, before any route sees it. actix-http has already checked
//! that an HTTP/1.1 request has exactly one `Host`.

use std::net::Ipv6Addr;

use actix_http::RequestHead;
use actix_web::http::{Method, Uri, header};
use ipc_protocol::ProblemCode;

use crate::refusal::Refusal;

/// Checks the target and, if there is one, `Host`. `has_fragment` says whether the target has a
/// `#`, which the parsed target does not show.
///
/// # Errors
/// 400 if one of them has no valid form.
pub(crate) fn check(head: &RequestHead, has_fragment: bool) -> Result<(), Refusal> {
    let refused = |detail: &'static str| Err(Refusal::new(ProblemCode::MalformedRequest, detail));
    if has_fragment {
        return refused("the request's target has a fragment, which must not be sent to a server");
    }
    if !is_target(&head.uri, &head.method) {
        return refused("the request's target is neither a path nor an http URL");
    }
    match head.headers.get(header::HOST) {
        Some(host) if !is_host(host.as_bytes()) => {
            refused("the request's `Host` is not a host with or without a port")
        }
        _ => Ok(()),
    }
}

/// Whether the target has one of the four forms, and its method allows that form.
fn is_target(uri: &Uri, method: &Method) -> bool {
    match (uri.scheme_str(), uri.authority()) {
        // Origin form, or `*` (section 3.2.4).
        (None, None) => {
            uri.path().starts_with('/') || (uri.path() == "*" && *method == Method::OPTIONS)
        }
        // Absolute form (3.2.2). Its authority must not have a user name (RFC 9110, section 4.2.4).
        (Some(scheme), Some(authority)) => {
            let is_http =
                scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            is_http && is_host(authority.as_str().as_bytes())
        }
        // Authority form (3.2.3).
        (None, Some(authority)) => {
            *method == Method::CONNECT && is_host(authority.as_str().as_bytes())
        }
        (Some(_), None) => false,
    }
}

/// Parses `uri-host [ ":" port ]` (RFC 3986, section 3.2.2). The host must not be empty: an http
/// URL has none that is (RFC 9110, section 4.2.1).
fn is_host(text: &[u8]) -> bool {
    let (is_good, rest) = if let Some(bracketed) = text.strip_prefix(b"[") {
        let Some(end) = bracketed.iter().position(|byte| *byte == b']') else { return false };
        let address = std::str::from_utf8(&bracketed[..end]).ok();
        let is_address = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        (is_address, &bracketed[end + 1..])
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        (end > 0 && is_name(&text[..end]), &text[end..])
    };
    let is_port = match rest.split_first() {
        None => true,
        Some((b':', digits)) => digits.is_empty() || is_port_number(digits),
        Some(_) => false,
    };
    is_good && is_port
}

fn is_port_number(digits: &[u8]) -> bool {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
    number.is_some() && digits.iter().all(u8::is_ascii_digit)
}

/// A registered name. An IPv4 address has the same form.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((byte, behind)) = rest.split_first() {
        rest = match byte {
            b'%' => match behind {
                [first, second, behind @ ..]
                    if first.is_ascii_hexdigit() && second.is_ascii_hexdigit() =>
                {
                    behind
                }
                _ => return false,
            },
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => behind,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "a",
            "localhost",
            "server1.example",
            "127.0.0.1",
            "127.0.0.1:3000",
            "[::1]",
            "[::1]:3000",
            "a:",
            "a:0",
            "b%C3%BCcher.example",
            "_x",
            "a:65535",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":",
            ":80",
            "a b",
            "a b@c/d",
            "a/b",
            "user@a",
            "a:x",
            "a:65536",
            "a:+1",
            "a:1:2",
            "[::1",
            "::1",
            "[]",
            "[a]",
            "[::1]x",
            "a,b c",
            "a?b",
            "a#b",
            "%",
            "%g0",
            "b\u{fc}cher",
            "a\\b",
            "\"a\"",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_target_has_a_form_that_its_method_may_have() {
        let is_good = |method: &str, target: &str| {
            target
                .parse()
                .is_ok_and(|uri| is_target(&uri, &Method::from_bytes(method.as_bytes()).unwrap()))
        };
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/is/running?x=1"),
            ("GET", "//a"),
            ("GET", "http://a/is/running"),
            ("GET", "HTTPS://[::1]:3000/is/running"),
            ("GET", "https://a"),
            ("OPTIONS", "*"),
            ("CONNECT", "a:443"),
        ] {
            assert!(is_good(method, target), "{method} {target}");
        }
        for (method, target) in [
            ("GET", "*"),
            ("GET", "a:443"),
            ("GET", "localhost"),
            ("GET", "ftp://a/x"),
            ("GET", "http://user@a/x"),
            ("GET", "http:///x"),
            ("GET", ""),
            ("GET", "is/running"),
        ] {
            assert!(!is_good(method, target), "{method} {target}");
        }
    }
}

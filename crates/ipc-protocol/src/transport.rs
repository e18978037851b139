//! The protocol under a connection, HTTPS or plain HTTP, as both ends name it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The protocol that carries the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP over TLS, with certificates on both sides.
    #[default]
    Https,
    /// Plain HTTP, for loopback and for a proxy on the same host that terminates TLS. Envelopes are
    /// still sealed, but anybody on the network path can drop and delay them, and no certificate is
    /// verified.
    Http,
}

/// The text names neither `https` nor `http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the protocol must be https or http")]
pub struct ProtocolError;

impl Protocol {
    /// The URI scheme: `https` or `http`.
    pub const fn scheme(self) -> &'static str {
        match self {
            Protocol::Https => "https",
            Protocol::Http => "http",
        }
    }
}

/// Whether an address is a loopback address, for which [`Protocol::Http`] is allowed:
/// `127.0.0.0/8`, `::1`, and the IPv4-mapped form `::ffff:127.0.0.1` (RFC 4291, section 2.5.5.2).
pub const fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        [Protocol::Https, Protocol::Http]
            .into_iter()
            .find(|known| known.scheme() == text)
            .ok_or(ProtocolError)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_loopback_in_every_spelling() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:7f09:909"] {
            assert!(is_loopback(address.parse().unwrap()), "{address}");
        }
        for address in
            ["0.0.0.0", "10.0.0.1", "::", "::2", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1"]
        {
            assert!(!is_loopback(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn it_reads_what_it_writes_and_nothing_else() {
        assert_eq!("https".parse(), Ok(Protocol::Https));
        assert_eq!("http".parse(), Ok(Protocol::Http));
        for text in ["", "HTTPS", "ftp", "http "] {
            assert_eq!(text.parse::<Protocol>(), Err(ProtocolError), "{text}");
        }
    }
}

//! The address of a server: parsed when a client is built, resolved for each connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// A host or an IP address, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `127.0.0.1:3000`, `[::1]:3000`
    Socket(SocketAddr),
    /// `example.com:3000`
    Host { host: String, port: u16 },
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressFault {
    NoPort,
    BadPort,
    BadHost,
}

impl AddressFault {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            AddressFault::NoPort => "the port is missing, as in 127.0.0.1:3000",
            AddressFault::BadPort => "the port is not a number from 1 to 65535",
            AddressFault::BadHost => "the host is neither a name nor an IP address",
        }
    }
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, AddressFault> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressFault::NoPort)?;
        let bracketed = host.starts_with('[');
        if host.contains(':') && !bracketed {
            // In an IPv6 address without brackets, the last group is not a port.
            return Err(if text.parse::<IpAddr>().is_ok() {
                AddressFault::NoPort
            } else {
                AddressFault::BadHost
            });
        }
        let digits_only = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|port| digits_only && *port != 0)
            .ok_or(AddressFault::BadPort)?;
        if let Ok(address) = text.parse() {
            return Ok(Address::Socket(address));
        }
        let plausible =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        // A host of digits and dots alone is a mistyped IPv4 address.
        let is_name =
            host.bytes().any(|byte| byte.is_ascii_alphabetic()) && host.bytes().all(plausible);
        if !is_name || host.len() > 253 {
            return Err(AddressFault::BadHost);
        }
        Ok(Address::Host { host: host.to_owned(), port })
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Address::Socket(address) => address.port(),
            Address::Host { port, .. } => *port,
        }
    }

    /// Whether the address is on this host, judging by the text alone. `localhost` and names under
    /// it are loopback by RFC 6761, section 6.3. The connector checks what they resolve to.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Address::Socket(address) => ipc_protocol::is_loopback(address.ip()),
            Address::Host { host, .. } => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                host == "localhost" || host.ends_with(".localhost")
            }
        }
    }

    /// The socket addresses, at least one, in the order in which to try them.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = match self {
            Address::Socket(address) => vec![*address],
            Address::Host { host, port } => {
                tokio::net::lookup_host((host.as_str(), *port)).await?.take(ADDRESSES_MAX).collect()
            }
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no address"));
        }
        Ok(found)
    }
}

/// The most addresses of one name that are tried. A name server could return hundreds.
const ADDRESSES_MAX: usize = 8;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_with_a_port_are_read_and_shown_as_they_were() {
        for text in ["127.0.0.1:3000", "[::1]:3000", "localhost:1", "a-b_c.example.com:65535"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert!(matches!(Address::parse("127.0.0.1:3000"), Ok(Address::Socket(_))));
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, fault) in [
            ("", AddressFault::NoPort),
            ("localhost", AddressFault::NoPort),
            ("::1", AddressFault::NoPort),
            ("localhost:", AddressFault::BadPort),
            ("localhost:0", AddressFault::BadPort),
            ("localhost:+1", AddressFault::BadPort),
            ("localhost:65536", AddressFault::BadPort),
            (":3000", AddressFault::BadHost),
            ("127.0.0.256:3000", AddressFault::BadHost),
            ("[::1:3000", AddressFault::BadHost),
            ("http://localhost:3000", AddressFault::BadHost),
            ("user@host:3000", AddressFault::BadHost),
            ("a b:3000", AddressFault::BadHost),
        ] {
            assert_eq!(Address::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_its_look() {
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "LocalHost.:1",
            "a.localhost:1",
        ] {
            assert!(Address::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "10.0.0.1:1",
            "[::]:1",
            "[::ffff:10.0.0.1]:1",
            "example.com:1",
            "notlocalhost:1",
        ] {
            assert!(!Address::parse(text).unwrap().is_loopback(), "{text}");
        }
    }
}

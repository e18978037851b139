//! Parses the values of options: numbers, addresses, a shell command.
//!
//! `commands.rs` comes here. Each error says which values the option takes.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Parses a number in digits. The error gives the range, instead of the error of Rust's parser.
pub(super) fn whole_number<N: FromStr + Bounded>(text: &str) -> Result<N, String> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits_only)
        .ok_or_else(|| format!("it takes a whole number from 0 to {}", N::LARGEST))
}

/// Parses a number in digits from `smallest` to `largest`.
pub(super) fn number_between(text: &str, smallest: u16, largest: u16) -> Result<u16, String> {
    whole_number::<u16>(text)
        .ok()
        .filter(|number| (smallest..=largest).contains(number))
        .ok_or_else(|| format!("it takes a whole number from {smallest} to {largest}"))
}

/// Parses a number in digits that is not 0.
pub(super) fn positive(text: &str) -> Result<u32, String> {
    whole_number::<u32>(text)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("it takes a whole number from 1 to {}", u32::MAX))
}

/// Parses the number of a dead letter. `all` is `None`.
pub(super) fn letter(text: &str) -> Result<Option<u64>, &'static str> {
    if text == "all" {
        return Ok(None);
    }
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits_only);
    number.map(Some).ok_or("it takes numbers as --list shows them, or all")
}

/// Parses a shell command, which must not be blank.
pub(super) fn shell_command(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it takes a command for a shell") } else { Ok(text.to_owned()) }
}

/// A type of numbers with its largest value.
pub(super) trait Bounded {
    const LARGEST: u32;
}

impl Bounded for u16 {
    const LARGEST: u32 = u16::MAX as u32;
}

impl Bounded for u32 {
    const LARGEST: u32 = u32::MAX;
}

/// Parses an IP address. An IPv6 address may be in brackets, as in a URL.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bracketed {
        Some(text) => text.parse().map(IpAddr::V6).ok(),
        None => text.parse().ok(),
    }
}

/// Parses an IP address that a port follows. An IPv6 address must be in brackets then.
fn address_with_port(host: &str) -> Option<IpAddr> {
    match host.starts_with('[') {
        true => address(host),
        false => host.parse().ok().map(IpAddr::V4),
    }
}

/// The address that a server listens on: an IP address, with a port of its own or that of `--port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    ip: IpAddr,
    pub(super) port: Option<u16>,
}

impl Listener {
    /// The address with its own port, or with `port` if it has none.
    pub(super) fn with_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }

    /// The address with `port`, whatever port it has of its own.
    pub(super) fn at_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }
}

/// Parses the address that a server listens on: `127.0.0.1`, `10.0.0.1:3001`, `::1`, `[::1]:3001`.
/// The port may be 0.
pub(super) fn listener(text: &str) -> Result<Listener, &'static str> {
    const TAKEN: &str = "it takes one IP address, with or without a port, such as 127.0.0.1, 10.0.0.1:3001 or [::1]:3001";
    if let Some(ip) = address(text) {
        return Ok(Listener { ip, port: None });
    }
    let (host, port) = text.rsplit_once(':').ok_or(TAKEN)?;
    let ip = address_with_port(host).ok_or(TAKEN)?;
    let port = whole_number(port).map_err(|_| "the port must be a number from 0 to 65535")?;
    Ok(Listener { ip, port: Some(port) })
}

/// The longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// The address of a server: a host, with a port of its own or that of `--port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an IP address. An IPv6 address is in brackets.
    host: String,
    port: Option<u16>,
}

impl Place {
    /// `HOST:PORT`, with `port` if it has none of its own.
    pub(super) fn with_port(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }
}

/// Parses the address of a server: `inbox.example`, `10.0.0.1:3001`, `::1`, `[::1]:3001`.
pub(super) fn place(text: &str) -> Result<Place, &'static str> {
    const TAKEN: &str = "it takes host names and IP addresses with commas between them, each with a port of its own or \
                         without, such as inbox.example,10.0.0.1:3001,[::1]:3001";
    let text = text.trim();
    if let Some(ip) = address(text) {
        return Ok(Place { host: shown(ip), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, None),
        Some((host, port)) => {
            let port = number_between(port, 1, u16::MAX)
                .map_err(|_| "the port must be a number from 1 to 65535");
            (host, Some(port?))
        }
    };
    if let Some(ip) = address_with_port(host) {
        return Ok(Place { host: shown(ip), port });
    }
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // A name of digits and dots is a mistyped IPv4 address.
    let is_name =
        host.bytes().any(|byte| byte.is_ascii_alphabetic()) && host.bytes().all(plausible);
    if !is_name || host.len() > HOST_BYTES_MAX {
        return Err(TAKEN);
    }
    Ok(Place { host: host.to_owned(), port })
}

/// An IP address in the form in which a port may follow.
fn shown(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_by_name_or_address_with_a_port_or_without() {
        for (text, with_port) in [
            ("127.0.0.1", "127.0.0.1:3000"),
            ("127.0.0.1:4000", "127.0.0.1:4000"),
            ("::1", "[::1]:3000"),
            ("[::1]", "[::1]:3000"),
            ("[::1]:4000", "[::1]:4000"),
            // The whole text is an IPv6 address: one with a port needs brackets.
            ("fe80::1:4000", "[fe80::1:4000]:3000"),
            ("inbox.example", "inbox.example:3000"),
            ("inbox-2_a.example:4000", "inbox-2_a.example:4000"),
            (" inbox.example ", "inbox.example:3000"),
        ] {
            assert_eq!(place(text).unwrap().with_port(3000), with_port, "{text}");
        }
    }

    #[test]
    fn a_server_listens_on_an_ip_address_with_a_port_or_without() {
        for (text, with_port) in [
            ("127.0.0.1", "127.0.0.1:3000"),
            ("0.0.0.0:4000", "0.0.0.0:4000"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("::1", "[::1]:3000"),
            ("[::1]", "[::1]:3000"),
            ("[::1]:4000", "[::1]:4000"),
            ("fe80::1:4000", "[fe80::1:4000]:3000"),
        ] {
            assert_eq!(listener(text).unwrap().with_port(3000).to_string(), with_port, "{text}");
        }
        for text in [
            "",
            ":3000",
            "localhost",
            "localhost:3000",
            "127.0.0.256:1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:+1",
            "127.0.0.1:3000,::1",
            "[127.0.0.1]:1",
            "[::1",
            "[fe80::1%1]:1",
        ] {
            assert!(listener(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_of_a_server_is_refused() {
        let long = "a".repeat(254);
        for text in [
            "",
            " ",
            ":",
            ":3000",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "127.0.0.256",
            "10.0.0",
            "[::1",
            "::1]",
            "[::1]:",
            "[a]:1",
            "[127.0.0.1]",
            "http://a",
            "https://a:1",
            "me@a",
            "a b",
            "a/b",
            "ä",
            "a;b",
            &long,
        ] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}

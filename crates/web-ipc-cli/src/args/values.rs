//! What a value may be: numbers, addresses, a command for a shell.
//!
//! The definitions of the commands come here. Each refusal says what is taken.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A number in digits; what it takes is told, rather than how Rust fails to read it.
pub(super) fn whole_number<N: FromStr + Bounded>(text: &str) -> Result<N, String> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits_only)
        .ok_or_else(|| format!("it takes a whole number from 0 to {}", N::LARGEST))
}

/// A number in digits from `smallest` to `largest`.
pub(super) fn number_between(text: &str, smallest: u16, largest: u16) -> Result<u16, String> {
    whole_number::<u16>(text)
        .ok()
        .filter(|number| (smallest..=largest).contains(number))
        .ok_or_else(|| format!("it takes a whole number from {smallest} to {largest}"))
}

/// The number of a dead letter; `None` is all of them.
pub(super) fn letter(text: &str) -> Result<Option<u64>, &'static str> {
    if text == "all" {
        return Ok(None);
    }
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits_only);
    number.map(Some).ok_or("it takes numbers as --list shows them, or all")
}

/// What a shell is to run.
pub(super) fn shell_command(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it takes a command for a shell") } else { Ok(text.to_owned()) }
}

/// The largest of a type of numbers.
pub(super) trait Bounded {
    const LARGEST: u32;
}

impl Bounded for u16 {
    const LARGEST: u32 = u16::MAX as u32;
}

impl Bounded for u32 {
    const LARGEST: u32 = u32::MAX;
}

/// An IP address; one of version 6 also as it stands in a URL, in brackets.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bracketed {
        Some(text) => text.parse().map(IpAddr::V6),
        None => text.parse(),
    };
    address.map_err(|_| "it takes an IP address such as 127.0.0.1 or ::1")
}

/// The longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// Where a server is: a host, and its port where it is not that of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an IP address; one of version 6 in brackets.
    host: String,
    port: Option<u16>,
}

impl Place {
    /// `HOST:PORT`, with `port` where it has none of its own.
    pub(super) fn with_port(&self, port: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(port))
    }
}

/// Where to find a server: `inbox.example`, `10.0.0.1:3001`, `::1`, `[::1]:3001`.
pub(super) fn place(text: &str) -> Result<Place, &'static str> {
    const TAKEN: &str = "it takes host names and IP addresses with commas between them, each with a port of its own or \
                         without, such as inbox.example,10.0.0.1:3001,[::1]:3001";
    let text = text.trim();
    if let Ok(ip) = address(text) {
        return Ok(Place { host: shown(ip), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, None),
        Some((host, port)) => {
            let port = number_between(port, 1, u16::MAX)
                .map_err(|_| "its port is no number from 1 to 65535");
            (host, Some(port?))
        }
    };
    // Of version 6 only one in brackets can have a port.
    let ip = match host.starts_with('[') {
        true => address(host).ok(),
        false => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if let Some(ip) = ip {
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

/// An IP address as it stands before a port.
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
            // All of this is the address: a port behind one of version 6 needs brackets.
            ("fe80::1:4000", "[fe80::1:4000]:3000"),
            ("inbox.example", "inbox.example:3000"),
            ("inbox-2_a.example:4000", "inbox-2_a.example:4000"),
            (" inbox.example ", "inbox.example:3000"),
        ] {
            assert_eq!(place(text).unwrap().with_port(3000), with_port, "{text}");
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

//! Under which addresses other hosts may reach this one.
//!
//! Enrolment comes here where it is told none. Nothing is sent: the system is asked from which
//! address it would send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where the kernel lists the IPv4 addresses of this host. It is looked into on hosts without a
/// default route, which would not know from where to send.
const LOCAL_ADDRESSES: &str = "/proc/net/fib_trie";

/// `HOST:PORT` of this host: its addresses towards the outside, then its name. There may be none.
pub(crate) fn of_this_host(port: u16) -> Vec<String> {
    // Documentation addresses (RFC 5737, RFC 3849): no host of anybody's.
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let mut found: Vec<IpAddr> = Vec::new();
    found.extend(towards(IpAddr::V4(v4)));
    found.extend(towards(IpAddr::V6(v6)));
    if found.is_empty() {
        let listed = std::fs::read_to_string(LOCAL_ADDRESSES).unwrap_or_default();
        found.extend(local_in(&listed).into_iter().map(IpAddr::V4));
    }
    let mut addresses: Vec<String> =
        found.into_iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect();
    let name = rustix::system::uname();
    let name = name.nodename().to_str().unwrap_or_default();
    if is_host_name(name) {
        addresses.push(format!("{name}:{port}"));
    }
    addresses
}

/// The address from which this host would send to `other`.
fn towards(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

/// The addresses that the kernel's table calls local: a line with the address, then one with
/// `/32 host LOCAL`.
fn local_in(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
            && !address.is_loopback()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

fn is_host_name(name: &str) -> bool {
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.bytes().all(plausible)
        && !name.starts_with("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_names_addresses_of_this_host_each_once() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                     |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link \
                     BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     |-- \
                     10.0.0.2\n        /32 host LOCAL\n";
        assert_eq!(local_in(table), [Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(local_in("").is_empty());
    }

    #[test]
    fn addresses_have_the_port_and_none_is_of_this_host_alone() {
        for address in of_this_host(3001) {
            assert!(address.ends_with(":3001"), "{address}");
            assert!(!address.starts_with("127.") && !address.starts_with("localhost"), "{address}");
        }
        for (name, is) in
            [("host2", true), ("localhost", false), ("", false), ("a b", false), ("12", false)]
        {
            assert_eq!(is_host_name(name), is, "{name}");
        }
    }
}

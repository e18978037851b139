//! The links of a run: a proxy for each pair of processes that talk to each other.
//!
//! A run comes here for the addresses that each process is given, and to cut and mend links.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use crate::faults::{Cut, Proxy};

/// A link between two processes, each by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    ClientServer(usize, usize),
    ServerNats(usize, usize),
    /// The lower number first.
    Routes(usize, usize),
    ServerPostgres(usize),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::ClientServer(client, server) => write!(f, "client {client} – server {server}"),
            Link::ServerNats(server, nats) => write!(f, "server {server} – NATS n{nats}"),
            Link::Routes(one, other) => write!(f, "NATS n{one} – NATS n{other}"),
            Link::ServerPostgres(server) => write!(f, "server {server} – PostgreSQL"),
        }
    }
}

/// All proxies.
pub(super) struct Links(Vec<(Link, Proxy)>);

impl Links {
    /// Starts a proxy for each link. A NATS server has a port for clients and one for routes. A
    /// pair of them has two proxies, since either may connect to the other.
    pub(super) fn start(
        clients: usize,
        server_ports: &[u16],
        nats_ports: &[(u16, u16)],
        postgres_port: u16,
    ) -> Result<Self, String> {
        let mut links = Links(Vec::new());
        for (server, port) in server_ports.iter().enumerate() {
            for client in 0..clients {
                links.add(Link::ClientServer(client, server), *port)?;
            }
            for (number, (port, _)) in nats_ports.iter().enumerate() {
                links.add(Link::ServerNats(server, number), *port)?;
            }
            links.add(Link::ServerPostgres(server), postgres_port)?;
        }
        for (one, (_, port)) in nats_ports.iter().enumerate() {
            for (other, (_, other_port)) in nats_ports.iter().enumerate().skip(one + 1) {
                // The first of the two is the way to the second server.
                links.add(Link::Routes(one, other), *other_port)?;
                links.add(Link::Routes(one, other), *port)?;
            }
        }
        Ok(links)
    }

    fn add(&mut self, link: Link, port: u16) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = Proxy::faithful(address).map_err(|error| format!("a proxy: {error}"))?;
        self.0.push((link, proxy));
        Ok(())
    }

    fn of(&self, link: Link) -> impl Iterator<Item = &Proxy> {
        self.0.iter().filter(move |(one, _)| *one == link).map(|(_, proxy)| proxy)
    }

    /// The address of a link's second process for its first.
    pub(super) fn address(&self, link: Link) -> String {
        self.of(link).next().map(|proxy| proxy.address().to_string()).unwrap_or_default()
    }

    /// The address of one NATS server for another.
    pub(super) fn route(&self, from: usize, to: usize) -> String {
        let link = Link::Routes(from.min(to), from.max(to));
        let place = usize::from(from > to);
        self.of(link).nth(place).map(|proxy| proxy.address().to_string()).unwrap_or_default()
    }

    pub(super) fn cut(&self, link: Link, how: Cut) {
        self.of(link).for_each(|proxy| proxy.cut(how));
    }

    pub(super) fn mend(&self, link: Link) {
        self.of(link).for_each(Proxy::mend);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Whether a listener gets what is sent to an address.
    fn leads_to(address: &str, listener: &TcpListener) -> bool {
        let stream = TcpStream::connect(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut closed = [0];
        stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        loop {
            if listener.accept().is_ok() {
                return true;
            }
            // The proxy closes a connection whose server is not there.
            if matches!((&stream).read(&mut closed), Ok(0)) {
                return false;
            }
        }
    }

    #[test]
    fn each_pair_has_a_way_and_a_cut_one_has_none() {
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (servers, routes) = ([listener(), listener()], [listener(), listener()]);
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let nats = [(1, port(&routes[0])), (1, port(&routes[1]))];
        let links = Links::start(1, &[port(&servers[0]), port(&servers[1])], &nats, 1).unwrap();
        for (number, server) in servers.iter().enumerate() {
            assert!(leads_to(&links.address(Link::ClientServer(0, number)), server));
        }
        assert!(leads_to(&links.route(0, 1), &routes[1]));
        assert!(leads_to(&links.route(1, 0), &routes[0]));
        links.cut(Link::Routes(0, 1), Cut::Closed);
        assert!(!leads_to(&links.route(0, 1), &routes[1]));
        assert!(!leads_to(&links.route(1, 0), &routes[0]));
        assert!(leads_to(&links.address(Link::ClientServer(0, 1)), &servers[1]));
        links.mend(Link::Routes(0, 1));
        assert!(leads_to(&links.route(1, 0), &routes[0]));
    }
}

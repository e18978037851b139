//! Binds the socket. Finds a free port by binding it, because a port that is only looked up may be
//! taken before it is bound.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::RangeInclusive;

use socket2::{Domain, SockRef, Socket, Type};

use crate::error::StartError;

/// The ports that port 0 stands for.
const FREE_PORTS: RangeInclusive<u16> = 3000..=3999;

/// How many connections the system queues until the server accepts them.
const BACKLOG: i32 = 1024;

/// The first address that `text` (`host:port`) stands for.
pub(crate) fn resolve(text: &str) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Address { address: text.into(), source };
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    text.to_socket_addrs().map_err(failed)?.next().ok_or_else(none).map_err(failed)
}

/// Listens on an address. Port 0 stands for the first free port from 3000 to 3999.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    if address.port() != 0 {
        return listen_on(address).map_err(|source| StartError::Listen { address, source });
    }
    for port in FREE_PORTS {
        let address = SocketAddr::new(address.ip(), port);
        match listen_on(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => (),
            Err(source) => return Err(StartError::Listen { address, source }),
            Ok(listener) => return Ok(listener),
        }
    }
    Err(StartError::NoFreePort { first: *FREE_PORTS.start(), last: *FREE_PORTS.end() })
}

/// The address of a socket that somebody else has made, and that must listen already.
pub(crate) fn address_of(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let at = listener.local_addr().ok();
    let is_listening = SockRef::from(listener).is_listener().unwrap_or(false);
    at.filter(|_| is_listening).ok_or(StartError::NotListening { at })
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that was stopped may start again at once, although its old connections still linger.
    // On the supported systems this option does not let two servers share a port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn port_0_is_a_port_of_the_range_and_each_gets_its_own() {
        let listeners: Vec<_> =
            (0..5).map(|_| listen(resolve("127.0.0.1:0").unwrap()).unwrap()).collect();
        let mut ports: Vec<_> = listeners.iter().map(port_of).collect();
        assert!(ports.iter().all(|port| FREE_PORTS.contains(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }

    #[test]
    fn a_taken_port_is_refused_with_what_to_do() {
        let first = listen(resolve("127.0.0.1:0").unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert!(
            matches!(&error, StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
        );
        assert!(error.remedy().unwrap().to_string().contains("another port"));
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        // No host has an address of TEST-NET-1 (RFC 5737).
        let error = listen(resolve("192.0.2.1:0").unwrap()).unwrap_err();
        assert!(error.remedy().unwrap().to_string().contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_socket_of_somebody_else_must_listen() {
        let listener = listen(resolve("127.0.0.1:0").unwrap()).unwrap();
        assert_eq!(address_of(&listener).unwrap(), listener.local_addr().unwrap());
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for socket in [bound, connected.into()] {
            let error = address_of(&socket.into()).unwrap_err();
            assert!(matches!(error, StartError::NotListening { .. }), "{error:?}");
            assert!(error.remedy().unwrap().to_string().contains("listen(2)"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            assert!(matches!(resolve(text), Err(StartError::Address { .. })), "{text}");
        }
    }
}

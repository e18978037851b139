//! Free ports for processes that are killed, and listen again on the same port.

use std::net::{Ipv4Addr, TcpListener};

use super::random::{Random, fresh_seed};

/// The ports of killed processes. They are below the ports of outgoing connections, so that no
/// client connects to itself while a process is down. They are outside 3000 to 3999, where other
/// servers look for a free port.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A port on which no process listens. A process uses it again after each kill.
pub(crate) fn free_port() -> Result<u16, String> {
    let mut random = Random::new(fresh_seed());
    for _ in 0..100 {
        let offset = random.below(PORTS.len() as u64);
        let port = PORTS.start + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("no port of {PORTS:?} is free"))
}

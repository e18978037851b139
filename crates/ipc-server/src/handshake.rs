//! From a TCP connection to a TLS stream, or to a line in the log.
//!
//! `http` comes here with each connection of an https server. What a certificate is good for is not known here: the
//! configuration's verifier judges.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use futures_util::future::{Either, select};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::crowd::Handshakes;

/// How many refused handshakes the log tells of in a second; of the others it gets the number.
const LINES_A_SECOND: u32 = 10;

/// Makes handshakes, one acceptor for each worker.
pub(crate) struct Acceptor {
    tls: TlsAcceptor,
    under_way: Handshakes,
    timeout: Duration,
    lines: Arc<Lines>,
}

impl Acceptor {
    /// An acceptor with at most `max` handshakes at a time, each of at most `timeout`.
    pub(crate) fn new(
        config: Arc<rustls::ServerConfig>,
        max: usize,
        timeout: Duration,
        lines: Arc<Lines>,
    ) -> Self {
        Acceptor { tls: config.into(), under_way: Handshakes::new(max), timeout, lines }
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// If it fails, takes too long, or its place was needed by another; the log has the reason.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let peer = stream.peer_addr().ok();
        let mut place = self.under_way.begin();
        let handshake = select(self.tls.accept(stream), &mut place.displaced);
        let result = match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Either::Left((result, _))) => result,
            Ok(Either::Right(_)) => Err(io::Error::other("too many handshakes at a time")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
        };
        if let Err(error) = &result {
            self.lines.refused(peer, error);
        }
        result
    }
}

/// The lines about refused handshakes, few enough that nobody fills a disk with them.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Option<Second>>);

#[derive(Debug)]
struct Second {
    began: Instant,
    lines: u32,
    /// Refusals since the last line, of this second or of an earlier one.
    untold: u64,
}

impl Lines {
    fn refused(&self, peer: Option<SocketAddr>, error: &io::Error) {
        if let Some(untold) = self.line(Instant::now()) {
            let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
            let others = if untold > 0 { format!(" (and {untold} others before)") } else { String::new() };
            log::info!("{peer} - TLS refused: {error}{others}");
        }
    }

    /// Whether there is to be a line, and of how many refusals there was none.
    fn line(&self, now: Instant) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = second.get_or_insert(Second { began: now, lines: 0, untold: 0 });
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            (second.began, second.lines) = (now, 0);
        }
        if second.lines >= LINES_A_SECOND {
            second.untold += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_ten_lines_a_second_and_then_the_number_of_the_others() {
        let (lines, start) = (Lines::default(), Instant::now());
        let told = (0..25).filter(|_| lines.line(start) == Some(0)).count();
        assert_eq!(told, 10);
        assert_eq!(lines.line(start + Duration::from_millis(999)), None);
        assert_eq!(lines.line(start + Duration::from_secs(1)), Some(16));
        assert_eq!(lines.line(start + Duration::from_secs(1)), Some(0));
    }
}

//! A line that fails: a TCP proxy that cuts connections, delays what passes and swallows answers.
//!
//! `run` puts it between senders and receiver. It passes bytes through and understands none of
//! them, so that TLS is between the two ends as ever. What it does to a connection depends on a
//! seed and on how many came before.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::random::Random;

/// Connections live for up to 2 to the power of this many bytes: a batch has some ten thousands.
const BYTES_BITS: u64 = 18;

/// Bytes of a TLS handshake with certificates on both sides, roughly.
const HANDSHAKE_BYTES: u64 = 4096;

/// How long a piece is held up at most, where a line is slow; fewer bytes then, so that it is cut
/// within seconds all the same.
const DELAY_MS_MAX: u64 = 30;
const SLOW_BYTES_BITS: u64 = 14;

/// How long an end waits for answers that are swallowed, at most, before the connection is cut.
const SWALLOW_MS_MAX: u64 = 300;

/// What is done to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing.
    Pass,
    /// Both directions together pass so many bytes, then it is cut.
    Cut { bytes: u64 },
    /// The same, each piece held up for some time.
    Slow { bytes: u64, delay: Duration },
    /// The server's direction passes so many bytes, then what it sends is swallowed for some time,
    /// then it is cut.
    Swallow { bytes: u64, time: Duration },
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let mut up_to = |ms| Duration::from_millis(1 + random.below(ms));
        let (delay, time) = (up_to(DELAY_MS_MAX), up_to(SWALLOW_MS_MAX));
        // Every other connection gets through its handshake.
        let handshake = random.below(2) * HANDSHAKE_BYTES;
        match random.below(3) {
            0 => Plan::Cut { bytes: handshake + random.of_any_size(BYTES_BITS) },
            1 => Plan::Slow { bytes: handshake + random.of_any_size(SLOW_BYTES_BITS), delay },
            _ => Plan::Swallow { bytes: handshake + random.of_any_size(BYTES_BITS), time },
        }
    }

    fn budget(self) -> u64 {
        match self {
            Plan::Pass => u64::MAX,
            Plan::Cut { bytes } | Plan::Slow { bytes, .. } | Plan::Swallow { bytes, .. } => bytes,
        }
    }
}

/// Whoever is told of each cut.
type OnCut = Arc<dyn Fn(String) + Send + Sync>;

/// A proxy at work, until it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    random: Mutex<Random>,
    on_cut: OnCut,
    /// Connections are left alone from now on.
    is_healed: AtomicBool,
    is_over: AtomicBool,
}

impl Proxy {
    /// Listens on a free port of loopback and passes on to `server`. `on_cut` hears of each cut in
    /// words.
    pub(super) fn start(
        server: SocketAddr,
        random: Random,
        on_cut: impl Fn(String) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            random: Mutex::new(random),
            on_cut: Arc::new(on_cut),
            is_healed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leaves connections alone from now on, those that are open included.
    pub(super) fn heal(&self) {
        self.shared.is_healed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts. Where that cannot be, it ends with the process.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        // A connection that broke before it was taken, and a server that is not there, are troubles
        // like any other here: the client sees its connection closed.
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(shared.server) else { continue };
        let plan = match shared.is_healed.load(Ordering::Relaxed) {
            true => Plan::Pass,
            false => Plan::draw(&mut shared.random.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let link = Arc::new(Link {
            client,
            server,
            plan,
            left: AtomicU64::new(plan.budget()),
            is_cut: AtomicBool::new(false),
            shared: Arc::clone(shared),
        });
        let back = Arc::clone(&link);
        thread::spawn(move || link.pass(Direction::ToServer));
        thread::spawn(move || back.pass(Direction::ToClient));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// One connection through the proxy.
struct Link {
    client: TcpStream,
    server: TcpStream,
    plan: Plan,
    /// Bytes until the fault.
    left: AtomicU64,
    is_cut: AtomicBool,
    shared: Arc<Shared>,
}

impl Link {
    /// Carries one direction until either end closes it or the plan ends it.
    fn pass(&self, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        };
        let _ = to.set_nodelay(true);
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if let Plan::Slow { delay, .. } = self.plan {
                // Not a wait for something: the delay is what is tried out.
                thread::sleep(delay);
            }
            let passed = self.take(direction, length);
            if to.write_all(&piece[..passed]).is_err() {
                break;
            }
            if passed < length {
                if let Plan::Swallow { time, .. } = self.plan {
                    swallow(from, time);
                }
                self.cut(direction);
                return;
            }
        }
        // What one end has closed the other is to see closed, in this direction.
        let _ = to.shutdown(Shutdown::Write);
    }

    /// How many of so many bytes pass.
    fn take(&self, direction: Direction, length: usize) -> usize {
        let is_counted = match self.plan {
            Plan::Pass => false,
            Plan::Swallow { .. } => direction == Direction::ToClient,
            Plan::Cut { .. } | Plan::Slow { .. } => true,
        };
        if !is_counted || self.shared.is_healed.load(Ordering::Relaxed) {
            return length;
        }
        let wanted = length as u64;
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(wanted))
            })
            .unwrap_or_default();
        usize::try_from(left.min(wanted)).unwrap_or(length)
    }

    fn cut(&self, direction: Direction) {
        // The other direction may come to its end at the same moment; a connection is cut once.
        if !self.is_cut.swap(true, Ordering::Relaxed) {
            let _ = self.client.shutdown(Shutdown::Both);
            let _ = self.server.shutdown(Shutdown::Both);
            (self.shared.on_cut)(format!("{:?}, {direction:?}", self.plan));
        }
    }
}

/// Reads and throws away for so long.
fn swallow(mut from: &TcpStream, time: Duration) {
    let until = Instant::now() + time;
    let mut piece = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || from.set_read_timeout(Some(left)).is_err() {
            return;
        }
        // At the end of the time, or when the other end has closed.
        if !from.read(&mut piece).is_ok_and(|length| length > 0) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A server that sends back what it gets, and a proxy in front of it.
    fn echo(seed: u64) -> (Proxy, Receiver<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let (sender, cuts) = channel();
        let proxy =
            Proxy::start(address, Random::new(seed), move |what| drop(sender.send(what))).unwrap();
        (proxy, cuts)
    }

    /// Sends until the connection ends; returns what came back.
    fn talk(proxy: &Proxy) -> usize {
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let mut back = 0;
        let mut piece = [0; 4096];
        loop {
            if stream.write_all(&[7; 1000]).is_err() {
                return back;
            }
            match stream.read(&mut piece) {
                Ok(length @ 1..) => {
                    assert!(piece[..length].iter().all(|byte| *byte == 7));
                    back += length;
                }
                _ => return back,
            }
        }
    }

    #[test]
    fn every_connection_is_cut_in_the_end_and_told_of_once() {
        let (proxy, cuts) = echo(1);
        for _ in 0..20 {
            assert!(talk(&proxy) as u64 <= HANDSHAKE_BYTES + (1 << BYTES_BITS));
            cuts.recv().unwrap();
        }
        assert!(cuts.try_recv().is_err());
    }

    #[test]
    fn a_healed_line_passes_everything() {
        let (proxy, cuts) = echo(1);
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == sent);
        assert!(cuts.try_recv().is_err());
    }

    #[test]
    fn a_server_that_is_not_there_closes_the_connection() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let proxy = Proxy::start(gone, Random::new(1), |_| ()).unwrap();
        assert_eq!(talk(&proxy), 0);
    }

    #[test]
    fn a_seed_draws_every_kind_of_plan() {
        let mut random = Random::new(3);
        let plans: Vec<Plan> = (0..100).map(|_| Plan::draw(&mut random)).collect();
        assert!(plans.iter().any(|plan| matches!(plan, Plan::Cut { .. })));
        assert!(plans.iter().any(|plan| matches!(plan, Plan::Slow { .. })));
        assert!(plans.iter().any(|plan| matches!(plan, Plan::Swallow { .. })));
    }
}

//! A faulty network: a TCP proxy that cuts connections, delays data and drops the server's answers.
//!
//! A run puts it between two processes. It passes bytes on without reading them, so TLS runs from
//! end to end. What it does to a connection depends on a seed and on the number of connections
//! before; or it passes everything, until the run cuts all connections and mends the link again.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::random::Random;

/// A connection carries up to 2^BYTES_BITS bytes. A batch has some ten thousand.
const BYTES_BITS: u64 = 18;

/// About how many bytes a TLS handshake with certificates on both sides has.
const HANDSHAKE_BYTES: u64 = 4096;

/// How long each piece is delayed on a slow connection, at most. Slow connections carry fewer
/// bytes, so that they are cut within seconds too.
const DELAY_MS_MAX: u64 = 30;
const SLOW_BYTES_BITS: u64 = 14;

/// How long answers are dropped, at most, before the connection is cut.
const SWALLOW_MS_MAX: u64 = 300;

/// The fault of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing.
    Pass,
    /// After so many bytes in both directions together the connection is cut.
    Cut { bytes: u64 },
    /// Like `Cut`, and each piece is delayed.
    Slow { bytes: u64, delay: Duration },
    /// After so many bytes from the server, its bytes are dropped for some time. Then the
    /// connection is cut.
    Swallow { bytes: u64, time: Duration },
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let mut up_to = |ms| Duration::from_millis(1 + random.below(ms));
        let (delay, time) = (up_to(DELAY_MS_MAX), up_to(SWALLOW_MS_MAX));
        // Half of the connections complete their handshake.
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

/// A function that is called at each cut, with a description.
type OnCut = Arc<dyn Fn(String) + Send + Sync>;

/// How a run cuts a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its connections are closed, and new ones too, as when a process is gone.
    Closed,
    /// Nothing arrives any more, and nobody is told, as when a cable is pulled. What was sent
    /// meanwhile arrives when the link is mended.
    Silent,
}

/// A running proxy, which stops when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    random: Mutex<Random>,
    on_cut: OnCut,
    /// Whether all connections are left alone from now on.
    is_healed: AtomicBool,
    is_over: AtomicBool,
    /// How the link is cut at present.
    cut: Mutex<Option<Cut>>,
    mended: Condvar,
    links: Mutex<Vec<Weak<Link>>>,
}

impl Shared {
    fn cut(&self) -> MutexGuard<'_, Option<Cut>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing arrives.
    fn wait_while_silent(&self) {
        let is_silent = |cut: &mut Option<Cut>| *cut == Some(Cut::Silent);
        drop(self.mended.wait_while(self.cut(), is_silent));
    }

    /// Closes all connections.
    fn close_all(&self) {
        let links = std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner));
        for link in links.iter().filter_map(Weak::upgrade) {
            link.close();
        }
    }
}

impl Proxy {
    /// Listens on a free loopback port and passes everything on to `server`, until the link is cut.
    pub(crate) fn faithful(server: SocketAddr) -> io::Result<Self> {
        let proxy = Self::start(server, Random::new(0), |_| ())?;
        proxy.heal();
        Ok(proxy)
    }

    /// Cuts the link.
    pub(crate) fn cut(&self, how: Cut) {
        *self.shared.cut() = Some(how);
        if how == Cut::Closed {
            self.shared.close_all();
        }
    }

    /// Ends a cut.
    pub(crate) fn mend(&self) {
        *self.shared.cut() = None;
        self.shared.mended.notify_all();
    }

    /// Listens on a free loopback port and passes connections on to `server`. `on_cut` is called at
    /// each cut, with a description.
    pub(crate) fn start(
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
            cut: Mutex::new(None),
            mended: Condvar::new(),
            links: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// The address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops all faults, on open connections too.
    pub(crate) fn heal(&self) {
        self.shared.is_healed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.close_all();
        self.mend();
        // Wakes the accepting thread, so that it ends. If that fails, it ends with the process.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        // A connection that broke early and a server that is down are faults like the others: the
        // client's connection is closed.
        let Ok(client) = client else { continue };
        if *shared.cut() == Some(Cut::Closed) {
            continue;
        }
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
        {
            let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.retain(|link| link.strong_count() > 0);
            links.push(Arc::downgrade(&link));
        }
        // The link may have been cut meanwhile.
        if *shared.cut() == Some(Cut::Closed) {
            link.close();
        }
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

/// A connection through the proxy.
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
    /// Carries one direction until an end closes it or the plan cuts it.
    fn pass(&self, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        };
        let _ = to.set_nodelay(true);
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if let Plan::Slow { delay, .. } = self.plan {
                // This sleep waits for nothing: the delay itself is under test.
                thread::sleep(delay);
            }
            self.shared.wait_while_silent();
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
        // When one end closes this direction, the other end must see that.
        self.shared.wait_while_silent();
        let _ = to.shutdown(Shutdown::Write);
    }

    /// How many of `length` bytes may pass.
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

    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn cut(&self, direction: Direction) {
        // The other direction may end at the same moment, and a cut is reported once.
        if !self.is_cut.swap(true, Ordering::Relaxed) {
            self.close();
            (self.shared.on_cut)(format!("{:?}, {direction:?}", self.plan));
        }
    }
}

/// Reads and discards for this time.
fn swallow(mut from: &TcpStream, time: Duration) {
    let until = Instant::now() + time;
    let mut piece = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || from.set_read_timeout(Some(left)).is_err() {
            return;
        }
        // The read fails at the end of the time, and returns 0 if the other end has closed.
        if !from.read(&mut piece).is_ok_and(|length| length > 0) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Starts an echo server with a proxy in front of it.
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

    /// Sends until the connection ends. Returns how many bytes came back.
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

    /// Starts an echo server with a proxy in front of it that passes everything.
    fn faithful_echo() -> (Proxy, TcpStream) {
        let (proxy, _cuts) = echo(1);
        proxy.heal();
        let stream = TcpStream::connect(proxy.address()).unwrap();
        (proxy, stream)
    }

    fn comes_back(mut stream: &TcpStream) -> bool {
        let mut back = [0; 4];
        stream.write_all(b"ping").is_ok()
            && stream.read_exact(&mut back).is_ok()
            && back == *b"ping"
    }

    #[test]
    fn a_closed_link_ends_all_connections_until_it_is_mended() {
        let (proxy, stream) = faithful_echo();
        assert!(comes_back(&stream));
        proxy.cut(Cut::Closed);
        assert!(!comes_back(&stream));
        assert!(!comes_back(&TcpStream::connect(proxy.address()).unwrap()));
        proxy.mend();
        assert!(comes_back(&TcpStream::connect(proxy.address()).unwrap()));
    }

    #[test]
    fn of_a_silent_link_everything_arrives_when_it_is_mended() {
        let (proxy, mut stream) = faithful_echo();
        assert!(comes_back(&stream));
        proxy.cut(Cut::Silent);
        stream.write_all(b"late").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(stream.read(&mut [0; 4]).is_err());
        stream.set_read_timeout(None).unwrap();
        proxy.mend();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"late");
        assert!(comes_back(&stream));
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

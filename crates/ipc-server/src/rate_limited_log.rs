//! Limits the log lines that peers can cause: it writes a number of lines for each peer and kind,
//! then only counts. This keeps a peer from filling a disk.
//!
//! `answer`, `handshake` and `http` come here with each such line. Nothing here knows the text of a
//! line.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use tokio::sync::Notify;

/// How many lines of one peer and one kind are logged within [`WINDOW`].
const LINES_MAX: u32 = 100;

/// After this time the suppressed lines are summed up, and new lines are logged again.
const WINDOW: Duration = Duration::from_secs(10);

/// How many pairs of peer and kind have a count of their own. Beyond that, all further peers share
/// one count for each kind.
const COUNTED_MAX: usize = 1024;

/// What a line reports. Lines of one kind differ only in the peer and in text that the peer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// An answered request: the status, and the problem code of a refusal.
    Answer(u16, &'static str),
    /// An event with a name of its own.
    Event(&'static str),
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Answer(status, "") => write!(f, "{status}"),
            Kind::Answer(status, code) => write!(f, "{status} {code}"),
            Kind::Event(name) => f.write_str(name),
        }
    }
}

/// The counts, shared by many tasks.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog {
    counts: Mutex<HashMap<(Option<IpAddr>, Kind), Count>>,
    /// Notified when there are suppressed lines to sum up.
    untold: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    level: Level,
    began: Instant,
    lines: u32,
    /// Lines that were suppressed since then.
    untold: u64,
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }
}

/// A peer as text for a log line.
pub(crate) fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string())
}

/// The key under which a peer's lines are counted: an IPv4 address or an IPv6 /64 network, since
/// one host may have any number of addresses in it.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

impl RateLimitedLog {
    /// Counts a line that the caller is about to write. Returns whether to write it.
    pub(crate) fn takes(&self, level: Level, peer: Option<SocketAddr>, kind: Kind) -> bool {
        self.count(level, peer, kind, Instant::now())
    }

    fn count(&self, level: Level, peer: Option<SocketAddr>, kind: Kind, now: Instant) -> bool {
        let mut counts = self.counts();
        let mut key = (peer.map(|peer| host(peer.ip())), kind);
        if counts.len() >= COUNTED_MAX && !counts.contains_key(&key) {
            counts.retain(|_, count| count.untold > 0 || !count.is_over(now));
            if counts.len() >= COUNTED_MAX {
                // There are only as many of these keys as kinds, so the table stays small.
                key.0 = None;
            }
        }
        let count = counts.entry(key).or_insert(Count { level, began: now, lines: 0, untold: 0 });
        if count.untold == 0 && count.is_over(now) {
            (count.began, count.lines) = (now, 0);
        }
        if count.untold == 0 && count.lines < LINES_MAX {
            count.lines += 1;
            return true;
        }
        count.untold += 1;
        if count.untold == 1 {
            self.untold.notify_one();
        }
        false
    }

    /// Logs the numbers of suppressed lines from time to time. Never returns.
    pub(crate) async fn sum_up(self: Arc<Self>) {
        loop {
            self.untold.notified().await;
            // The first suppressed lines wait until their window ends, later ones a little longer.
            tokio::time::sleep(WINDOW).await;
            self.tell(Instant::now());
        }
    }

    /// Logs the numbers of the lines that were suppressed so far.
    pub(crate) fn tell(&self, now: Instant) {
        for (level, line) in self.summaries(now) {
            log::log!(level, "{line}");
        }
    }

    fn summaries(&self, now: Instant) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        self.counts().retain(|(peer, kind), count| {
            if count.untold > 0 {
                let peer = peer.map_or_else(|| "others".to_owned(), |peer| peer.to_string());
                let secs = now.saturating_duration_since(count.began).as_secs().max(1);
                lines.push((
                    count.level,
                    format!("{peer} - … and {} more in the last {secs} s: {kind}", count.untold),
                ));
            }
            count.untold == 0 && !count.is_over(now)
        });
        lines
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<(Option<IpAddr>, Kind), Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: Kind = Kind::Answer(404, "not_found");

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().unwrap(), 1))
    }

    fn written(
        log: &RateLimitedLog,
        times: u32,
        peer: Option<SocketAddr>,
        kind: Kind,
        now: Instant,
    ) -> usize {
        (0..times).filter(|_| log.count(Level::Info, peer, kind, now)).count()
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_and_summed_up() {
        let (log, start) = (RateLimitedLog::default(), Instant::now());
        assert_eq!(written(&log, 1334, peer("192.0.2.1"), NOT_FOUND, start), 100);
        let later = start + WINDOW;
        let summary = "192.0.2.1 - … and 1234 more in the last 10 s: 404 not_found".to_owned();
        assert_eq!(log.summaries(later), [(Level::Info, summary)]);
        assert_eq!(log.summaries(later), [], "that is told once");
        assert_eq!(written(&log, 1, peer("192.0.2.1"), NOT_FOUND, later), 1);
    }

    #[test]
    fn where_nothing_was_left_out_there_is_nothing_to_sum_up() {
        let (log, start) = (RateLimitedLog::default(), Instant::now());
        for minute in 0..3 {
            let now = start + 6 * WINDOW * minute;
            assert_eq!(written(&log, 100, peer("192.0.2.1"), NOT_FOUND, now), 100);
            assert_eq!(log.summaries(now), []);
        }
    }

    #[test]
    fn another_peer_and_another_kind_have_lines_of_their_own_and_another_port_has_not() {
        let (log, now) = (RateLimitedLog::default(), Instant::now());
        assert_eq!(written(&log, 200, peer("192.0.2.1"), NOT_FOUND, now), 100);
        assert_eq!(written(&log, 200, peer("192.0.2.2"), NOT_FOUND, now), 100);
        assert_eq!(written(&log, 200, peer("192.0.2.1"), Kind::Answer(200, ""), now), 100);
        let other_port = Some(SocketAddr::new("192.0.2.1".parse().unwrap(), 7));
        assert_eq!(written(&log, 1, other_port, NOT_FOUND, now), 0);
        assert_eq!(written(&log, 1, peer("::ffff:192.0.2.1"), NOT_FOUND, now), 0);
        assert_eq!(written(&log, 200, peer("2001:db8::1"), NOT_FOUND, now), 100);
        assert_eq!(written(&log, 1, peer("2001:db8::2"), NOT_FOUND, now), 0, "the same network");
    }

    #[test]
    fn many_peers_share_a_count_in_the_end_and_leave_again() {
        let (log, now) = (RateLimitedLog::default(), Instant::now());
        let number = |number: u32| Some(SocketAddr::new(IpAddr::V4(number.into()), 1));
        let all = (0..100_000)
            .filter(|peer| log.count(Level::Info, number(*peer), NOT_FOUND, now))
            .count();
        assert_eq!(all, COUNTED_MAX + 100);
        assert_eq!(log.counts().len(), COUNTED_MAX + 1);
        let later = now + WINDOW;
        assert_eq!(log.summaries(later).len(), 1);
        assert!(log.counts().is_empty());
        assert!(log.count(Level::Info, number(7), NOT_FOUND, later));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sums_up_is_woken_by_the_first_line_that_is_left_out() {
        let log = Arc::new(RateLimitedLog::default());
        let task = tokio::spawn(Arc::clone(&log).sum_up());
        tokio::time::sleep(WINDOW * 5).await;
        written(&log, 101, peer("192.0.2.1"), NOT_FOUND, Instant::now());
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(log.summaries(Instant::now()), [], "it was summed up");
        assert!(!task.is_finished());
        task.abort();
    }
}

//! Counts of what an inbox has done since it was opened.
//!
//! `counted` counts, and the application reads. Nothing here knows how messages are stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::backend::{Put, PutError};

/// The upper bounds of the time a put takes, in seconds.
const PUT_BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The upper bounds of the time a message waits for its first delivery, in seconds.
const DELIVERY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0];

/// How many durations fell between which bounds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The upper bounds, in seconds, ascending. A duration counts below a bound that it equals.
    pub bounds: &'static [f64],
    /// How many durations were above the bound before and not above this one. There is one count
    /// more than there are bounds: that of the durations above all of them.
    pub counts: Vec<u64>,
    /// The sum of all durations, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What an inbox has done since it was opened by this process. Other servers of a shared inbox
/// count for themselves.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InboxStatistics {
    /// Messages that were accepted, without duplicates.
    pub accepted: u64,
    /// Messages whose id and body were accepted before.
    pub duplicates: u64,
    /// Messages that were handed to the application for the first time.
    pub delivered: u64,
    /// Messages that were handed to the application again.
    pub redelivered: u64,
    /// Deliveries that ended with an acknowledgement.
    pub acknowledged: u64,
    /// Deliveries that ended with a reply.
    pub replied: u64,
    /// Deliveries of requests that the application declined.
    pub declined: u64,
    /// Deliveries that the application gave back.
    pub given_back: u64,
    /// Deliveries that the application rejected.
    pub rejected: u64,
    /// Deliveries that the application dropped without a word.
    pub dropped: u64,
    /// How long it took to put the messages of one call, in seconds, waits for room included.
    pub put_seconds: Histogram,
    /// How long a message was in the inbox before its first delivery, in seconds.
    pub delivery_seconds: Histogram,
}

impl InboxStatistics {
    /// Deliveries that the application has in its hands now.
    pub fn in_hand(&self) -> u64 {
        let ended = self.acknowledged
            + self.replied
            + self.declined
            + self.given_back
            + self.rejected
            + self.dropped;
        (self.delivered + self.redelivered).saturating_sub(ended)
    }
}

/// A histogram that many threads add to.
#[derive(Debug)]
struct LiveHistogram {
    bounds: &'static [f64; 14],
    counts: [AtomicU64; 15],
    nanos: AtomicU64,
}

impl LiveHistogram {
    fn new(bounds: &'static [f64; 14]) -> Self {
        LiveHistogram { bounds, counts: Default::default(), nanos: AtomicU64::new(0) }
    }

    fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = self.bounds.iter().take_while(|bound| seconds > **bound).count();
        add(&self.counts[place], 1);
        add(&self.nanos, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn read(&self) -> Histogram {
        Histogram {
            bounds: self.bounds,
            counts: self.counts.iter().map(read).collect(),
            sum: Duration::from_nanos(read(&self.nanos)).as_secs_f64(),
        }
    }
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Acknowledged,
    Replied,
    Declined,
    GivenBack,
    Rejected,
    Dropped,
}

/// Counts of the server's threads, and of the application's, in memory lines of their own: neither
/// waits for the other's.
#[derive(Debug)]
pub(crate) struct Counters {
    puts: PutCounters,
    deliveries: DeliveryCounters,
}

#[derive(Debug)]
#[repr(align(128))]
struct PutCounters {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    times: LiveHistogram,
}

#[derive(Debug)]
#[repr(align(128))]
struct DeliveryCounters {
    delivered: AtomicU64,
    redelivered: AtomicU64,
    /// By [`Ending`].
    ended: [AtomicU64; 6],
    times: LiveHistogram,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Counters {
            puts: PutCounters {
                accepted: AtomicU64::new(0),
                duplicates: AtomicU64::new(0),
                times: LiveHistogram::new(&PUT_BOUNDS),
            },
            deliveries: DeliveryCounters {
                delivered: AtomicU64::new(0),
                redelivered: AtomicU64::new(0),
                ended: Default::default(),
                times: LiveHistogram::new(&DELIVERY_BOUNDS),
            },
        }
    }

    /// Counts the answers to one put.
    pub(crate) fn put(&self, answers: &[Result<Put, PutError>], time: Duration) {
        let (mut accepted, mut duplicates) = (0, 0);
        for answer in answers {
            match answer {
                Ok(Put::Accepted) => accepted += 1,
                Ok(Put::Duplicate) => duplicates += 1,
                Err(_) => {}
            }
        }
        if accepted > 0 {
            add(&self.puts.accepted, accepted);
        }
        if duplicates > 0 {
            add(&self.puts.duplicates, duplicates);
        }
        if !answers.is_empty() {
            self.puts.times.add(time);
        }
    }

    /// Counts a message that was handed out at `now`.
    pub(crate) fn delivered(&self, received_at: SystemTime, is_first: bool, now: SystemTime) {
        if is_first {
            add(&self.deliveries.delivered, 1);
            // A clock that was set back in between counts as no time.
            self.deliveries.times.add(now.duration_since(received_at).unwrap_or_default());
        } else {
            add(&self.deliveries.redelivered, 1);
        }
    }

    /// Counts deliveries that have ended.
    pub(crate) fn ended(&self, ending: Ending, deliveries: u64) {
        add(&self.deliveries.ended[ending as usize], deliveries);
    }

    /// Takes back what was counted for an end that was none.
    pub(crate) fn not_ended(&self, ending: Ending) {
        self.deliveries.ended[ending as usize].fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> InboxStatistics {
        // The endings first: a delivery that is counted as ended is then counted as delivered too.
        let [acknowledged, replied, declined, given_back, rejected, dropped] =
            [0, 1, 2, 3, 4, 5].map(|ending| read(&self.deliveries.ended[ending]));
        InboxStatistics {
            accepted: read(&self.puts.accepted),
            duplicates: read(&self.puts.duplicates),
            acknowledged,
            replied,
            declined,
            given_back,
            rejected,
            dropped,
            delivered: read(&self.deliveries.delivered),
            redelivered: read(&self.deliveries.redelivered),
            put_seconds: self.puts.times.read(),
            delivery_seconds: self.deliveries.times.read(),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_below_a_bound_that_it_equals() {
        let histogram = LiveHistogram::new(&PUT_BOUNDS);
        for micros in [1, 100, 101, 30_000_000, 30_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(
            (read.counts[0], read.counts[1], read.counts[13], read.counts[14]),
            (2, 1, 1, 1)
        );
        assert_eq!((read.count(), read.counts.len()), (5, read.bounds.len() + 1));
        assert!((read.sum - 60.000203).abs() < 1e-6, "{}", read.sum);
    }

    #[test]
    fn a_refusal_is_neither_accepted_nor_a_duplicate() {
        let counters = Counters::new();
        let answers = [Ok(Put::Accepted), Err(PutError::Full), Ok(Put::Duplicate)];
        counters.put(&answers, Duration::ZERO);
        counters.put(&[], Duration::ZERO);
        let read = counters.read();
        assert_eq!((read.accepted, read.duplicates, read.put_seconds.count()), (1, 1, 1));
    }

    #[test]
    fn a_clock_that_was_set_back_counts_as_no_time() {
        let counters = Counters::new();
        let now = SystemTime::now();
        counters.delivered(now + Duration::from_secs(60), true, now);
        counters.delivered(now - Duration::from_secs(2), true, now);
        counters.delivered(now - Duration::from_secs(2), false, now);
        counters.ended(Ending::Acknowledged, 1);
        let read = counters.read();
        assert_eq!((read.delivered, read.redelivered, read.in_hand()), (2, 1, 2));
        assert_eq!((read.delivery_seconds.counts[0], read.delivery_seconds.count()), (1, 2));
    }
}

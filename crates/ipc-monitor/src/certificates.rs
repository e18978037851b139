//! The certificates whose end is watched.
//!
//! Who starts a monitor knows where certificates are; this file only asks now and then.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// For how long an answer is used. It bounds how often files are read, whoever asks.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A certificate whose end is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitoredCertificate {
    /// Its name.
    pub name: String,
    /// What it is for, such as `server`.
    pub kind: String,
    /// Its serial number, to tell certificates of one name apart.
    pub serial: String,
    /// When it expires.
    pub expires_at: SystemTime,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

impl MonitoredCertificate {
    /// The seconds until it expires, negative afterwards.
    pub(crate) fn seconds_left(&self, now: SystemTime) -> f64 {
        match self.expires_at.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(past) => -past.duration().as_secs_f64(),
        }
    }
}

/// What the source said, and when.
type Answer = (Instant, Vec<MonitoredCertificate>);

type Source = dyn Fn() -> Vec<MonitoredCertificate> + Send + Sync;

/// Where the certificates come from, with the last answer.
#[derive(Clone)]
pub(crate) struct Certificates {
    source: Arc<Source>,
    last: Arc<Mutex<Option<Answer>>>,
}

impl Certificates {
    pub(crate) fn new(
        source: impl Fn() -> Vec<MonitoredCertificate> + Send + Sync + 'static,
    ) -> Self {
        Certificates { source: Arc::new(source), last: Arc::default() }
    }

    /// The certificates now. Reads files, so it blocks.
    pub(crate) fn read(&self) -> Vec<MonitoredCertificate> {
        // Held while the source is asked: who comes meanwhile gets the same answer.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, known)) if at.elapsed() < FRESH_FOR => known.clone(),
            _ => {
                let known = (self.source)();
                *last = Some((Instant::now(), known.clone()));
                known
            }
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_source_is_not_asked_for_each_look() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let certificates = Certificates::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        });
        let begun = Instant::now();
        for _ in 0..100 {
            certificates.read();
        }
        let seconds = begun.elapsed().as_secs() as usize;
        assert!(asked.load(Ordering::Relaxed) <= 1 + seconds, "{asked:?} in {seconds} s");
    }

    #[test]
    fn the_time_left_is_negative_after_the_end() {
        let now = SystemTime::now();
        let until = |expires_at| MonitoredCertificate {
            name: "localhost".into(),
            kind: "server".into(),
            serial: "01".into(),
            expires_at,
            is_revoked: false,
        };
        assert_eq!(until(now + Duration::from_secs(60)).seconds_left(now), 60.0);
        assert_eq!(until(now - Duration::from_secs(60)).seconds_left(now), -60.0);
    }
}

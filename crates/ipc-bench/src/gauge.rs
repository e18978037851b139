//! What a client measures: how many messages were answered within a span of time, how long each
//! took, and what they cost.
//!
//! The client's tasks report each answer. Answers before the span (the warm-up) or after it are not
//! counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::histogram::Histogram;
use crate::process_stats::{Memory, cpu_time, cpu_time_of_all};

/// Counts answers.
pub(crate) struct Gauge {
    server_pid: Option<String>,
    is_over: AtomicBool,
    span: Mutex<Option<Span>>,
}

struct Span {
    begun_at: Instant,
    cpu_before: CpuTimes,
    messages: u64,
    latencies: Histogram,
}

/// The processor time so far.
struct CpuTimes {
    own: Duration,
    server: Duration,
    all: Duration,
}

impl Gauge {
    /// A gauge that counts nothing yet. The server's processor time is read only if its process is
    /// known.
    pub(crate) fn new(server_pid: Option<String>) -> Self {
        Gauge { server_pid, is_over: AtomicBool::new(false), span: Mutex::new(None) }
    }

    /// Whether the tasks must end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Begins the span.
    pub(crate) fn begin(&self) -> Result<(), String> {
        let (cpu_before, latencies) = (self.cpu_times()?, Histogram::new());
        *self.span() = Some(Span { begun_at: Instant::now(), cpu_before, messages: 0, latencies });
        Ok(())
    }

    /// Counts so many messages that were sent together at `sent_at` and are answered now.
    pub(crate) fn note(&self, sent_at: Instant, messages: u64) {
        if let Some(span) = &mut *self.span() {
            span.messages += messages;
            span.latencies.note(sent_at.elapsed());
        }
    }

    /// Ends the span, and returns what was measured.
    pub(crate) fn end(&self) -> Result<Value, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let span = self.span().take().ok_or("the measurement was not begun")?;
        let secs = span.begun_at.elapsed().as_secs_f64();
        let (now, before) = (self.cpu_times()?, &span.cpu_before);
        let own = now.own.saturating_sub(before.own);
        let server = now.server.saturating_sub(before.server);
        let background = now.all.saturating_sub(before.all).saturating_sub(own + server);
        Ok(json!({
            "messages": span.messages,
            "secs": secs,
            "rate": span.messages as f64 / secs,
            "p50_us": span.latencies.quantile_micros(0.5),
            "p99_us": span.latencies.quantile_micros(0.99),
            "max_us": span.latencies.max_micros(),
            "cpu_secs": own.as_secs_f64(),
            "server_cpu_secs": self.server_pid.is_some().then_some(server.as_secs_f64()),
            "background_cpu_secs": background.as_secs_f64(),
            "rss_peak_bytes": Memory::now()?.peak,
        }))
    }

    fn cpu_times(&self) -> Result<CpuTimes, String> {
        let server = self.server_pid.as_deref().map_or(Ok(Duration::ZERO), cpu_time)?;
        Ok(CpuTimes { own: cpu_time("self")?, server, all: cpu_time_of_all()? })
    }

    fn span(&self) -> MutexGuard<'_, Option<Span>> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_within_the_span_counts() {
        let gauge = Gauge::new(None);
        gauge.note(Instant::now(), 1);
        gauge.begin().unwrap();
        gauge.note(Instant::now(), 2);
        gauge.note(Instant::now(), 3);
        assert!(!gauge.is_over());
        let result = gauge.end().unwrap();
        assert!(gauge.is_over());
        gauge.note(Instant::now(), 4);
        assert_eq!(result["messages"], 5);
        assert!(result["server_cpu_secs"].is_null());
        assert!(result["rate"].as_f64().unwrap() > 0.0);
        assert!(gauge.end().is_err());
    }

    #[test]
    fn a_server_that_is_gone_is_an_error() {
        assert!(Gauge::new(Some("none".to_owned())).begin().is_err());
    }
}

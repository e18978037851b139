//! Writes a snapshot as metrics, in the text format of OpenMetrics 1.0.
//!
//! Names and units follow the conventions of Prometheus: `web_ipc_` before each, seconds and
//! `_total` at the end. `docs/operations.md` lists them.

use std::fmt::{self, Write as _};
use std::time::UNIX_EPOCH;

use ipc_server::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::snapshot::Snapshot;

/// The content type of [`text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a snapshot.
pub(crate) fn text(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("web_ipc");
    registry.register_collector(Box::new(Metrics(snapshot)));
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        // A string takes everything that is written to it, and no value here refuses to be written.
        text.clear();
        let _written = text.write_str("# EOF\n");
    }
    text
}

struct Metrics(Snapshot);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot { at, server, inbox, status, not_ready, certificates, .. } = &self.0;
        let mut writer = Writer(&mut encoder);

        writer.counter(
            "messages_accepted",
            "Messages that were put into the inbox, without duplicates",
            inbox.accepted,
        )?;
        writer.counter(
            "messages_duplicate",
            "Messages that had been accepted before under the same id",
            inbox.duplicates,
        )?;
        writer.counters(
            "refusals",
            "Requests, entries of channels and channels that were refused, by problem code",
            server
                .refusals
                .iter()
                .map(|(code, count)| ([("code", code.as_str().to_owned())], *count)),
        )?;
        writer.histogram(
            "put_seconds",
            "Time to put the messages of one call into the inbox, waits for room included",
            &inbox.put_seconds,
        )?;

        writer.counter(
            "deliveries_first",
            "Messages that were handed to the application for the first time",
            inbox.delivered,
        )?;
        writer.counter(
            "deliveries_again",
            "Messages that were handed to the application again",
            inbox.redelivered,
        )?;
        let ends = [
            ("acknowledged", inbox.acknowledged),
            ("replied", inbox.replied),
            ("declined", inbox.declined),
            ("given_back", inbox.given_back),
            ("rejected", inbox.rejected),
            ("dropped", inbox.dropped),
        ];
        writer.counters(
            "deliveries_ended",
            "Deliveries that the application has ended, by how",
            ends.into_iter().map(|(how, count)| ([("how", how.to_owned())], count)),
        )?;
        writer.histogram(
            "delivery_seconds",
            "Time that a message was in the inbox before its first delivery",
            &inbox.delivery_seconds,
        )?;

        if let Some(waiting) = status.waiting {
            writer.gauge("inbox_messages", "Messages that wait to be delivered", waiting as f64)?;
        }
        writer.gauge(
            "deliveries_in_hand",
            "Deliveries that the application has and has not ended",
            inbox.in_hand() as f64,
        )?;
        if status.knows_oldest {
            let age = status.oldest.and_then(|oldest| at.duration_since(oldest).ok());
            writer.gauge(
                "inbox_oldest_seconds",
                "Age of the oldest message that waits to be delivered, 0 if there is none",
                age.unwrap_or_default().as_secs_f64(),
            )?;
        }
        if let Some(letters) = status.dead_letters {
            writer.gauge(
                "dead_letters",
                "Messages that are no longer delivered",
                letters as f64,
            )?;
        }
        if let Some(ids) = status.remembered_ids {
            writer.gauge(
                "remembered_ids",
                "Message ids that are remembered, to know a duplicate",
                ids as f64,
            )?;
        }

        writer.counters(
            "logins",
            "Logins, by result",
            [("granted", server.logins_granted), ("failed", server.logins_failed)]
                .into_iter()
                .map(|(result, count)| ([("result", result.to_owned())], count)),
        )?;
        writer.gauge(
            "connections",
            "Open connections, those of channels included",
            server.connections as f64,
        )?;
        writer.gauge("channels", "Open channels", server.channels as f64)?;
        writer.counter("channels_opened", "Channels that were opened", server.channels_opened)?;
        writer.gauges(
            "peer_last_message_timestamp_seconds",
            "When the last message of a peer came, in seconds since the Unix epoch",
            server.peers.iter().map(|peer| {
                let at = peer.last_message.duration_since(UNIX_EPOCH).unwrap_or_default();
                ([("peer", escaped(&peer.name))], at.as_secs_f64())
            }),
        )?;
        writer.gauges(
            "certificate_expiry_seconds",
            "Time until a certificate expires, negative afterwards",
            certificates.iter().filter(|one| !one.is_revoked).map(|one| {
                let labels = [
                    ("name", escaped(&one.name)),
                    ("kind", escaped(&one.kind)),
                    ("serial", escaped(&one.serial)),
                ];
                (labels, one.seconds_left(*at))
            }),
        )?;
        writer.gauge(
            "ready",
            "1 if the server should get clients, else 0",
            if not_ready.is_empty() { 1.0 } else { 0.0 },
        )?;
        let started = server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        writer.gauge(
            "start_time_seconds",
            "When the server was started, in seconds since the Unix epoch",
            started.as_secs_f64(),
        )
    }
}

/// A label's value as the format wants it: a backslash, a quotation mark and a line feed are
/// escaped, which the library leaves to its callers.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Writes metrics of numbers that were counted elsewhere.
struct Writer<'e, 'd>(&'e mut DescriptorEncoder<'d>);

impl Writer<'_, '_> {
    fn descriptor<'s>(
        &'s mut self,
        name: &'s str,
        help: &'s str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        ConstCounter::new(count).encode(self.descriptor(name, help, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.descriptor(name, help, MetricType::Gauge)?)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'static str, String); N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.descriptor(name, help, MetricType::Counter)?;
        for (labels, count) in rows {
            ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let mut encoder = self.descriptor(name, help, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let bounds = histogram.bounds.iter().copied().chain([f64::MAX]);
        let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
        self.descriptor(name, help, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            histogram.sum,
            histogram.count(),
            &buckets,
            None,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_label() {
        assert_eq!(escaped("a\"} 1\nweb_ipc_x\\"), r#"a\"} 1\nweb_ipc_x\\"#);
        assert_eq!(escaped("localhost"), "localhost");
    }
}

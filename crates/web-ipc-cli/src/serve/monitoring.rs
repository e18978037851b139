//! The monitor of `--serve --metrics`: figures for Prometheus and a status page.

use std::time::{Duration, SystemTime};

use ipc_home::Home;
use ipc_monitor::{Monitor, MonitorError, MonitorListener, MonitoredCertificate};
use ipc_setup::{CertificateList, list_certificates};

use crate::args::Metrics;
use crate::error::Failure;

/// How many certificates are watched, those that expire first.
const WATCHED_MAX: usize = 1000;

/// Takes the address of a monitor, before there is a server that would accept messages.
pub(super) fn listen(metrics: &Metrics, home: &Home) -> Result<MonitorListener, Failure> {
    let home = home.clone();
    let mut builder =
        Monitor::builder().bind(&metrics.address).certificates(move || certificates(&home));
    if metrics.allows_remote {
        builder = builder.allow_remote();
    }
    for name in &metrics.host_names {
        builder = builder.host_name(name);
    }
    builder.listen().map_err(|error| match &error {
        MonitorError::Remote { .. } => Failure::new(
            error.to_string(),
            Some(
                "choose a loopback address such as 127.0.0.1:9464, or add --allowRemoteMetrics if everybody who reaches it may read the names of peers and users"
                    .into(),
            ),
        ),
        _ => Failure::of(&error, Some(error.remedy())),
    })
}

/// The certificates of a home, without those that a later one of their name has replaced, which
/// first expires first. What cannot be read now is left out: `--doctor` says why.
fn certificates(home: &Home) -> Vec<MonitoredCertificate> {
    let mut listed =
        list_certificates(home).map(CertificateList::without_replaced).unwrap_or_default();
    listed.sort_by_key(|one| one.not_after_secs);
    let watched = listed.into_iter().take(WATCHED_MAX).map(|one| MonitoredCertificate {
        kind: one.kind.to_string(),
        serial: one.serial.to_string(),
        expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(one.not_after_secs),
        is_revoked: one.revoked_at_secs.is_some(),
        name: one.name,
    });
    watched.collect()
}

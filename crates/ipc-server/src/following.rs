//! Follows the files of the home while the server runs: a renewed certificate, another authority, a
//! revoked client and a rotated key hold within a second, without a restart.
//!
//! The server comes here once it listens. What is read, `trust` knows.

use std::time::SystemTime;

use actix_web::web;
use ipc_base::chain;
use ipc_home::{FileStamps, Followed, Home, HomeWatch, PeerName};
use ipc_protocol::Protocol;
use tokio::time::{Duration, Instant, sleep};

use crate::error::StartError;
use crate::state::State;
use crate::trust::{Transport, Trust};

/// How often the dates of the server's certificate are looked at.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// How often a certificate that expires soon, or has expired, is logged.
const TOLD_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Begins to follow the files. `seen` are their stamps from before the server read them. Ends when
/// what it returns is dropped.
///
/// # Errors
/// No thread could be started.
pub(crate) fn begin(
    home: Home,
    name: PeerName,
    protocol: Protocol,
    seen: FileStamps,
    state: web::Data<State>,
) -> Result<HomeWatch, StartError> {
    let files = Trust::files(&home, &name, protocol);
    let directory = home.root().to_owned();
    let mut faults = Faults::default();
    let follow = move || {
        let read = Trust::read(&home, &name, protocol, state.trust().number + 1)
            .and_then(|trust| trust.check(SystemTime::now()).map(|()| trust));
        match read {
            Ok(trust) => {
                faults = Faults::default();
                log::info!("Files of the home have changed: the server uses {trust}");
                state.trust.replace(trust);
                Followed::Done
            }
            Err(error) => {
                let text = chain(&error).to_string();
                if faults.is_to_be_told(&text) {
                    log::warn!(
                        "files of the home have changed and cannot be used, so the server goes on with what it read before: {text}{}",
                        error.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"))
                    );
                }
                Followed::NotYet
            }
        }
    };
    HomeWatch::begin(&directory, files, seen, follow)
        .map_err(|source| StartError::Threads { source })
}

/// Which faults are told. Files that belong together are replaced one after the other: only what
/// fails again with the next look is a fault. It is told once for as long as it stays.
#[derive(Debug, Default)]
struct Faults {
    /// What the last look found.
    last: Option<String>,
    /// What was told last.
    told: Option<String>,
}

impl Faults {
    fn is_to_be_told(&mut self, fault: &str) -> bool {
        let is_news = self.last.as_deref() == Some(fault) && self.told.as_deref() != Some(fault);
        if is_news {
            self.told = Some(fault.to_owned());
        }
        self.last = Some(fault.to_owned());
        is_news
    }
}

/// Logs, once a day, that the server's certificate expires soon or has expired. Never returns.
pub(crate) async fn watch_expiry(state: web::Data<State>) {
    let mut told_at = Instant::now();
    let mut was_good = is_good(&state);
    loop {
        sleep(PERIOD).await;
        let is_good = is_good(&state);
        if (was_good && !is_good) || told_at.elapsed() >= TOLD_EVERY {
            if let Transport::Tls(tls) = &state.trust().transport {
                tls.own.tell(SystemTime::now());
            }
            told_at = Instant::now();
        }
        was_good = is_good;
    }
}

fn is_good(state: &State) -> bool {
    match &state.trust().transport {
        Transport::Tls(tls) => tls.own.is_good_for_long(SystemTime::now()),
        Transport::Plain => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_when_it_stays_and_so_is_another_after_it() {
        let mut faults = Faults::default();
        let mut told = |looks: &[&str]| -> Vec<bool> {
            looks.iter().map(|fault| faults.is_to_be_told(fault)).collect()
        };
        assert_eq!(told(&["certificate", "certificate", "certificate"]), [false, true, false]);
        // Without a good look in between.
        assert_eq!(told(&["keys", "keys", "keys"]), [false, true, false]);
        assert_eq!(told(&["certificate", "certificate"]), [false, true]);
        // What is there for one look alone is a replacement under way.
        assert_eq!(told(&["keys", "certificate", "certificate"]), [false, false, false]);
    }
}

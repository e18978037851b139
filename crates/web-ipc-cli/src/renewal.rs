//! Renews certificates while a command runs, and tells what became of it.
//!
//! `serve` and `send` come here when they begin and end, `certs` and `enrol` to renew the
//! certificate of an enrolled client at once. How a home is renewed is known in `ipc-renewal`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::select;
use ipc_client::{ProblemCode, SendError};
use ipc_home::{Home, Timestamp};
use ipc_renewal::{
    DueRenewals, EnrolledRenewal, ListedCertificate, RenewError, Renewing, follow_enrolled,
    renew_enrolled,
};
use ipc_setup::InitOptions;

use crate::error::{Failure, remedy_of_send};
use crate::out::{counted, printable};
use crate::shell::{command, shell_quoted};
use crate::signals::{self, EndSignals};

/// How long `--serve` waits for the first look before it starts: an expired certificate would keep
/// it from starting.
const BEFORE_SERVING: Duration = Duration::from_secs(5);

/// After how long a command that still sends looks. One that ends before looks at its end, so that
/// its messages do not wait.
const WHILE_SENDING: Duration = Duration::from_secs(2);

/// Asks the server for a new certificate and puts what it answers into the home.
pub(crate) fn over_the_line(home: &Home) -> Result<EnrolledRenewal, NotRenewed> {
    renew_enrolled(home).map_err(not_renewed)
}

/// Follows the first server in the home of a further one: takes what has changed there.
pub(crate) fn follow(home: &Home) -> Result<(), NotRenewed> {
    follow_enrolled(home).map_err(not_renewed)
}

fn not_renewed(error: RenewError) -> NotRenewed {
    match error.is_refused() {
        true => NotRenewed::Refused(failure(&error)),
        false => NotRenewed::Failed(failure(&error)),
    }
}

/// Why a certificate was not renewed.
pub(crate) enum NotRenewed {
    /// The server refuses this client for good.
    Refused(Failure),
    /// Something else failed, and may pass.
    Failed(Failure),
}

impl NotRenewed {
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) | Self::Failed(failure) => failure,
        }
    }
}

fn failure(error: &RenewError) -> Failure {
    let remedy = match error {
        RenewError::Send(error) => remedy_of_send(error),
        error => error.remedy(),
    };
    Failure::of(error, remedy).with_status(error)
}

/// Renews what is due in the home of a server, and keeps it renewed until the result is dropped.
pub(crate) fn while_serving(home: &Home, explicit_home: Option<&Path>) -> Option<Renewing> {
    let renewing = begin(home, explicit_home, Duration::ZERO)?;
    if !renewing.wait_for_first(BEFORE_SERVING) {
        log::info!("certificates are still being renewed, and the server starts meanwhile");
    }
    Some(renewing)
}

/// Keeps the home of an enrolled client renewed while a command sends. `None` in other homes, whose
/// pairs are renewed where their authority is.
pub(crate) fn while_sending(home: &Home, explicit_home: Option<&Path>) -> Option<Renewing> {
    match home.client_settings() {
        Ok(Some(_)) => begin(home, explicit_home, WHILE_SENDING),
        _ => None,
    }
}

fn begin(home: &Home, explicit_home: Option<&Path>, first_after: Duration) -> Option<Renewing> {
    let explicit_home = explicit_home.map(Path::to_owned);
    Renewing::begin(home, first_after, move |looked| tell(looked, explicit_home.as_ref()))
        .inspect_err(|error| log::warn!("certificates are not looked after: {error}"))
        .ok()
}

/// Ends what [`while_sending`] began. If the server has `answered`, it is asked for what is due
/// first; a signal ends that.
pub(crate) fn finish(renewing: Option<Renewing>, answered: bool) {
    let Some(renewing) = renewing.filter(|_| answered) else { return };
    let Ok(runtime) = signals::runtime() else { return };
    runtime.block_on(async {
        let Ok(mut signals) = EndSignals::watch() else { return };
        let finishing = tokio::task::spawn_blocking(|| renewing.finish());
        select(std::pin::pin!(signals.next()), finishing).await;
    });
    // Not waiting for what a signal has ended.
    runtime.shutdown_background();
}

/// Whether a server has answered that may renew: it took the message, or refused that alone.
pub(crate) fn has_answered(error: &SendError) -> bool {
    let code = error.code();
    matches!(error, SendError::Refused { .. } | SendError::NoReply { .. })
        && code != Some(ProblemCode::CertificateRevoked)
        && code != Some(ProblemCode::WrongCertificate)
}

fn tell(looked: &Result<DueRenewals, RenewError>, explicit_home: Option<&PathBuf>) {
    match looked {
        Ok(done) => {
            for one in &done.renewed {
                let until = Timestamp::from_unix_secs(one.not_after_secs);
                log::info!("renewed the certificate of {}, until {until}", printable(&one.name));
            }
            let now_secs = InitOptions::now().now_secs;
            for one in &done.left {
                let elsewhere = format!("--certs --renew --name {}", shell_quoted(&one.name));
                log::warn!(
                    "the certificate of {} {} and cannot be renewed here, since the key of its \
                     authority is not in this home; run {} in the home that has web-ipc-ca.key, \
                     and copy the pair",
                    printable(&one.name),
                    ends(one, now_secs),
                    command(None, &elsewhere)
                );
            }
        }
        Err(error) => log::warn!(
            "a certificate that has less than a third of its life left was not renewed: {}; this \
             is tried again, or run {}",
            failure(error).told(explicit_home.map(PathBuf::as_path)),
            command(explicit_home.map(PathBuf::as_path), "--certs --renew --due")
        ),
    }
}

/// When a certificate ends that ends soon or has ended.
pub(crate) fn ends(one: &ListedCertificate, now_secs: u64) -> String {
    match one.days_left(now_secs) {
        _ if one.is_expired(now_secs) => "has expired".to_owned(),
        0 => format!(
            "expires in less than a day, at {}",
            Timestamp::from_unix_secs(one.not_after_secs)
        ),
        days => format!("expires in {}", counted(days, "day")),
    }
}

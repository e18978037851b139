//! Renews the certificate of an enrolled client over the line, and follows what has changed at the
//! server.
//!
//! `certs` comes here in the home of such a client, `enrol` once a bundle was accepted.

use std::time::Duration;

use ipc_client::{Client, ProblemCode, Renewal, SendError};
use ipc_home::{ClientSettings, Home};
use ipc_setup::{InitOptions, RenewalAnswer, begin_renewal, finish_renewal};

use crate::error::Failure;

/// How long each of the two questions may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the server for a new certificate and puts what it answers into the home.
///
/// Then it asks once more, with the new certificate: so the server learns that the old one is not
/// needed any longer.
pub(crate) fn over_the_line(home: &Home) -> Result<ClientSettings, NotRenewed> {
    let begun = begin_renewal(home)?;
    take(home, &ask(home, Some(&begun.csr_pem))?)?;
    take(home, &ask(home, None)?)
}

/// Why a certificate was not renewed.
pub(crate) enum NotRenewed {
    /// The server refuses this client for good.
    Refused(Failure),
    /// Something else failed, and may pass.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for NotRenewed {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl NotRenewed {
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) | Self::Failed(failure) => failure,
        }
    }
}

fn ask(home: &Home, csr_pem: Option<&str>) -> Result<Renewal, NotRenewed> {
    let client = Client::builder(home).timeout(TIMEOUT).build()?;
    client.blocking().renew(csr_pem).wait().map_err(|error| {
        let code = error.code();
        let is_for_good = matches!(error, SendError::CertificateRefused { .. })
            || code == Some(ProblemCode::CertificateRevoked)
            || code == Some(ProblemCode::RenewalRefused);
        match is_for_good {
            true => NotRenewed::Refused(error.into()),
            false => NotRenewed::Failed(error.into()),
        }
    })
}

fn take(home: &Home, renewal: &Renewal) -> Result<ClientSettings, NotRenewed> {
    let answer = RenewalAnswer {
        certificate_pem: renewal.certificate_pem.as_deref(),
        authorities_pem: &renewal.authorities_pem,
        envelope_keys: &renewal.envelope_keys,
        server: &renewal.server,
        addresses: &renewal.addresses,
    };
    Ok(finish_renewal(home, &answer, InitOptions::now().now_secs)?)
}

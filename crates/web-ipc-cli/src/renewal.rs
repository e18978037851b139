//! Renews the certificate of an enrolled client, or of a further server, over the line, and follows
//! what has changed at the server.
//!
//! `certs` comes here in such a home, `enrol` once a bundle was accepted, and `serve` from time to
//! time.

use std::time::Duration;

use ipc_client::{BuildError, Client, ProblemCode, Renewal, SendError};
use ipc_home::{ClientSettings, FileStamps, Home, HomeError};
use ipc_setup::{
    InitOptions, NodeAnswer, RenewalAnswer, begin_renewal, finish_renewal, list_certificates,
};

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

/// Follows the first server in the home of a further one: renews its certificate if that is due, and
/// else takes what has changed.
pub(crate) fn follow(home: &Home) -> Result<(), NotRenewed> {
    let now_secs = InitOptions::now().now_secs;
    let list = list_certificates(home)?;
    let is_due = list.certificates.iter().any(|one| one.pair.is_some() && one.is_due(now_secs));
    if is_due {
        return over_the_line(home).map(drop);
    }
    let files = [
        home.envelope_keys_file(),
        home.session_key_file(),
        home.ca_certificate_file(),
        home.revocation_list_file(),
    ];
    let before = FileStamps::of(&files);
    let renewal = ask(home, None)?;
    // Another process that renewed meanwhile may have had a newer answer than this one.
    if FileStamps::of(&files) == before {
        take(home, &renewal)?;
    }
    Ok(())
}

/// Asks the server, at whichever of its addresses somebody issues certificates: a further server
/// does not, and says so.
fn ask(home: &Home, csr_pem: Option<&str>) -> Result<Renewal, NotRenewed> {
    let settings = match home.node_settings()? {
        Some(node) => Some(node),
        None => home.client_settings()?,
    };
    let addresses = settings.map(|settings| settings.addresses).unwrap_or_default();
    let mut answer = ask_at(home, csr_pem, &addresses);
    for address in addresses.iter().filter(|_| addresses.len() > 1) {
        match &answer {
            Err(error) if error.code() == Some(ProblemCode::RenewalUnavailable) => {
                answer = ask_at(home, csr_pem, std::slice::from_ref(address));
            }
            _ => break,
        }
    }
    Ok(answer?)
}

fn ask_at(home: &Home, csr_pem: Option<&str>, addresses: &[String]) -> Result<Renewal, AskError> {
    let mut builder = Client::builder(home).timeout(TIMEOUT);
    if let Some(node) = home.node_settings()? {
        let credentials = home.client_credentials()?;
        builder = builder
            .server(node.server.to_string(), addresses.to_vec())
            .identity(node.identity.to_string())
            .credentials(credentials.username, credentials.password.as_str());
    } else if let Some(client) = home.client_settings()? {
        builder = builder.server(client.server.to_string(), addresses.to_vec());
    }
    let client = builder.build()?;
    Ok(client.blocking().renew(csr_pem).wait()?)
}

/// Why there is no answer.
enum AskError {
    Sent(SendError),
    Other(Failure),
}

impl AskError {
    fn code(&self) -> Option<ProblemCode> {
        match self {
            Self::Sent(error) => error.code(),
            Self::Other(_) => None,
        }
    }
}

impl From<SendError> for AskError {
    fn from(error: SendError) -> Self {
        Self::Sent(error)
    }
}

impl From<HomeError> for AskError {
    fn from(error: HomeError) -> Self {
        Self::Other(error.into())
    }
}

impl From<BuildError> for AskError {
    fn from(error: BuildError) -> Self {
        Self::Other(error.into())
    }
}

impl From<AskError> for NotRenewed {
    fn from(error: AskError) -> Self {
        let code = error.code();
        match error {
            AskError::Sent(error) => {
                let is_for_good = matches!(error, SendError::CertificateRefused { .. })
                    || code == Some(ProblemCode::CertificateRevoked)
                    || code == Some(ProblemCode::RenewalRefused);
                match is_for_good {
                    true => Self::Refused(error.into()),
                    false => Self::Failed(error.into()),
                }
            }
            AskError::Other(failure) => Self::Failed(failure),
        }
    }
}

fn take(home: &Home, renewal: &Renewal) -> Result<ClientSettings, NotRenewed> {
    let answer = RenewalAnswer {
        certificate_pem: renewal.certificate_pem.as_deref(),
        authorities_pem: &renewal.authorities_pem,
        envelope_keys: &renewal.envelope_keys,
        server: &renewal.server,
        addresses: &renewal.addresses,
        node: renewal.node.as_ref().map(|node| NodeAnswer {
            session_keys: &node.session_keys,
            revocation_lists_pem: node.revocation_lists_pem.as_deref(),
            cross_certificates_pem: node.cross_certificates_pem.as_deref(),
        }),
    };
    Ok(finish_renewal(home, &answer, InitOptions::now().now_secs)?)
}

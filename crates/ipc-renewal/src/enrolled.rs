//! Renews the certificate of an enrolled client, or of a further server, over the line.
//!
//! `due` comes here, and programs that renew whatever is due or not. It asks with a client of its
//! own, so that the messages of others never wait for a renewal.

use std::time::Duration;

use ipc_base::chain;
use ipc_client::{Client, ProblemCode, Renewal};
use ipc_home::{ClientSettings, Enrolled, FileStamps, Home};
use ipc_setup::{
    InitOptions, NodeAnswer, RenewalAnswer, RenewalTurn, begin_renewal, finish_renewal,
};

use crate::RenewError;

/// How long each of the two questions may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What [`renew_enrolled`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnrolledRenewal {
    /// What the home knows of its server now.
    pub settings: ClientSettings,
    /// Whether there is a new certificate. A server gives a name 50 in 24 hours, and beyond that
    /// only what has changed.
    pub has_new_certificate: bool,
}

/// Renews the certificate of an enrolled client or further server, and takes up what has changed at
/// the server: authorities, keys, addresses. It blocks.
///
/// The new key is made here and never leaves. Then the server is asked once more, with the new
/// certificate: so it learns that the old one is not needed any longer. While another process
/// renews the same home, the call waits for it.
///
/// # Errors
/// [`RenewError`]. The home works as before then. A renewal that was interrupted is completed by
/// the next one.
pub fn renew_enrolled(home: &Home) -> Result<EnrolledRenewal, RenewError> {
    over_the_line(home, &RenewalTurn::take(home)?)
}

/// The same for whoever has the turn.
pub(crate) fn over_the_line(
    home: &Home,
    _turn: &RenewalTurn,
) -> Result<EnrolledRenewal, RenewError> {
    let begun = begin_renewal(home)?;
    let renewal = ask(home, Some(&begun.csr_pem))?;
    let settings = take(home, &renewal)?;
    if renewal.certificate_pem.is_none() {
        // The key waits for the next renewal.
        return Ok(EnrolledRenewal { settings, has_new_certificate: false });
    }
    let settings = match ask(home, None).and_then(|renewal| take(home, &renewal)) {
        Ok(settings) => settings,
        // The certificate is renewed. The server keeps the one before until that expires.
        Err(error) => {
            log::info!(
                "the server was not told that the new certificate is in use: {}",
                chain(&error)
            );
            settings
        }
    };
    Ok(EnrolledRenewal { settings, has_new_certificate: true })
}

/// Takes up what has changed at the server, without a new certificate: authorities, keys, lists of
/// revoked certificates, addresses. It blocks. A further server of an installation follows the
/// first one so.
///
/// # Errors
/// [`RenewError`]. The home works as before then.
pub fn follow_enrolled(home: &Home) -> Result<(), RenewError> {
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
fn ask(home: &Home, csr_pem: Option<&str>) -> Result<Renewal, RenewError> {
    let enrolled = home.enrolled()?;
    let addresses = enrolled.map(|enrolled| enrolled.settings().addresses.clone());
    let addresses = addresses.unwrap_or_default();
    let mut answer = ask_at(home, csr_pem, &addresses);
    for address in addresses.iter().filter(|_| addresses.len() > 1) {
        match &answer {
            Err(RenewError::Send(error))
                if error.code() == Some(ProblemCode::RenewalUnavailable) =>
            {
                answer = ask_at(home, csr_pem, std::slice::from_ref(address));
            }
            _ => break,
        }
    }
    answer
}

fn ask_at(home: &Home, csr_pem: Option<&str>, addresses: &[String]) -> Result<Renewal, RenewError> {
    let mut builder = Client::builder(home).timeout(TIMEOUT);
    match home.enrolled()? {
        Some(Enrolled::Server(node)) => {
            let credentials = home.client_credentials()?;
            builder = builder
                .server(node.server.to_string(), addresses.to_vec())
                .identity(node.identity.to_string())
                .credentials(credentials.username, credentials.password.as_str());
        }
        Some(Enrolled::Client(client)) => {
            builder = builder.server(client.server.to_string(), addresses.to_vec());
        }
        None => {}
    }
    let client = builder.build()?;
    Ok(client.renew(csr_pem).wait()?)
}

fn take(home: &Home, renewal: &Renewal) -> Result<ClientSettings, RenewError> {
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

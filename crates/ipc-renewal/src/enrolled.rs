//! Renews the certificate of an enrolled client over the line.
//!
//! `due` comes here, and programs that renew whatever is due or not. It asks with a client of its
//! own, so that the messages of others never wait for a renewal.

use std::time::Duration;

use ipc_base::chain;
use ipc_client::{Client, Renewal};
use ipc_home::{ClientSettings, Home};
use ipc_setup::{InitOptions, RenewalAnswer, RenewalTurn, begin_renewal, finish_renewal};

use crate::RenewError;

/// How long each of the two questions may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Renews the certificate of an enrolled client, and takes up what has changed at the server:
/// authorities, envelope keys, addresses. It blocks.
///
/// The new key is made here and never leaves. Then the server is asked once more, with the new
/// certificate: so it learns that the old one is not needed any longer. While another process
/// renews the same home, the call waits for it.
///
/// # Errors
/// [`RenewError`]. The home works as before then. A renewal that was interrupted is completed by
/// the next one.
pub fn renew_enrolled(home: &Home) -> Result<ClientSettings, RenewError> {
    over_the_line(home, &RenewalTurn::take(home)?)
}

/// The same for whoever has the turn.
pub(crate) fn over_the_line(
    home: &Home,
    _turn: &RenewalTurn,
) -> Result<ClientSettings, RenewError> {
    let begun = begin_renewal(home)?;
    let settings = take(home, &ask(home, Some(&begun.csr_pem))?)?;
    match ask(home, None).and_then(|renewal| take(home, &renewal)) {
        Ok(settings) => Ok(settings),
        // The certificate is renewed. The server keeps the one before until that expires.
        Err(error) => {
            log::info!(
                "the server was not told that the new certificate is in use: {}",
                chain(&error)
            );
            Ok(settings)
        }
    }
}

fn ask(home: &Home, csr_pem: Option<&str>) -> Result<Renewal, RenewError> {
    let client = Client::builder(home).timeout(TIMEOUT).build()?;
    Ok(client.renew(csr_pem).wait()?)
}

fn take(home: &Home, renewal: &Renewal) -> Result<ClientSettings, RenewError> {
    let answer = RenewalAnswer {
        certificate_pem: renewal.certificate_pem.as_deref(),
        authorities_pem: &renewal.authorities_pem,
        envelope_keys: &renewal.envelope_keys,
        server: &renewal.server,
        addresses: &renewal.addresses,
    };
    Ok(finish_renewal(home, &answer, InitOptions::now().now_secs)?)
}

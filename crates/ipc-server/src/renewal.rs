//! `POST /client/renew`: an enrolled client, or a further server of the installation, gets a new
//! certificate, and with it all that may have changed since it was enrolled.
//!
//! `routes` comes here. Who issues the certificate is the application's choice: see
//! [`CertificateIssuer`](ipc_base::CertificateIssuer).

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{HttpRequest, web};
use ipc_base::{PeerName, RenewalError, RenewalQuery, Renewed, RenewedPeer};
use ipc_envelope::{Key, KeyRing};
use ipc_protocol::{
    CSR_PEM_BYTES_MAX, MessageId, NodeReply, ProblemCode, RenewalReply, RenewalRequest, Route,
};
use zeroize::Zeroizing;

use crate::admit::{admit, malformed, take_in};
use crate::clock::unix_secs;
use crate::peer::certificate_of;
use crate::refusal::{Refusal, internal};
use crate::state::State;
use crate::trust::Trust;

/// What is to be sealed for the client.
pub(crate) struct Answer {
    /// A [`RenewalReply`] as JSON.
    pub(crate) body: Zeroizing<String>,
    pub(crate) id: MessageId,
    pub(crate) is_raw: bool,
    /// The keys that the client had when it asked.
    pub(crate) keys: Arc<KeyRing>,
    /// Which of them sealed the question, and seals the answer.
    pub(crate) key_index: usize,
}

/// Answers a client that renews.
///
/// # Errors
/// As for every route with a session; 403 and 501 as the page of the protocol says.
pub(crate) async fn renew(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<Answer, Refusal> {
    let (peer, sealed) = take_in(request, payload, state).await?;
    let (is_raw, keys, facts) =
        (sealed.is_raw(), Arc::clone(&peer.envelope_keys), peer.facts.clone());
    let ((id, csr, user, key_index), reservation) =
        admit(sealed, Route::ClientRenew, (request, peer), state, |frame, sender| {
            let asked: RenewalRequest = serde_json::from_str(frame.object().map_err(malformed)?)
                .map_err(|_| bad_request("the frame's body is not {\"csr\": …}"))?;
            Ok((frame.id(), asked.csr, Arc::clone(&sender.user), sender.key_index))
        })
        .await?;
    drop(reservation);
    if csr.as_ref().is_some_and(|csr| csr.len() > CSR_PEM_BYTES_MAX) {
        return Err(bad_request("the certificate signing request is too long"));
    }
    let not_enrolled = || {
        let detail = "only enrolled clients and servers renew here: a pair of the home is renewed \
                      there, and copied again to where it is used";
        Refusal::new(ProblemCode::RenewalRefused, detail)
    };
    let facts = facts.ok_or_else(not_enrolled)?;
    let name = facts.name.clone().ok_or_else(not_enrolled)?;
    let certificate = certificate_of(request)
        .ok_or_else(|| internal("renewing a certificate", "the connection shows none"))?;
    let issuer = state.issuer.clone().ok_or_else(|| refused(RenewalError::Unavailable))?;
    let now_secs = unix_secs(SystemTime::now());
    let renewed = web::block(move || {
        issuer.renew(&RenewalQuery::new(&certificate, &user, csr.as_deref(), now_secs))
    });
    let renewed = renewed
        .await
        .map_err(|error| internal("renewing a certificate", error))?
        .map_err(refused)?;
    let is_asked_of_a_server = renewed.peer == RenewedPeer::Server;
    // Keys that servers share go to a certificate of a server alone, whatever the issuer says; and
    // a certificate of a server that was not enrolled as one has nothing to follow here.
    if is_asked_of_a_server == facts.is_client_only {
        return Err(not_enrolled());
    }
    let body = reply(renewed, &name, &state.trust.load_full());
    let body = serde_json::to_string(&body).map_err(|error| internal("no reply", error))?;
    Ok(Answer { body: Zeroizing::new(body), id, is_raw, keys, key_index })
}

fn reply(renewed: Renewed, name: &PeerName, trust: &Trust) -> RenewalReply {
    let texts = |keys: &[Key]| keys.iter().map(Key::to_base64url).collect();
    let (envelope_keys, node) = match renewed.peer {
        RenewedPeer::Server => {
            let (envelope_keys, session_keys) = trust.keys_of_servers();
            let node = NodeReply {
                session_keys: texts(session_keys),
                revocation_lists: joined("X509 CRL", &trust.revocation_lists),
                cross_certificates: joined("CERTIFICATE", &trust.cross_certificates),
            };
            (texts(envelope_keys), Some(node))
        }
        _ => (texts(&trust.derived_keys(name)), None),
    };
    RenewalReply {
        certificate: renewed.certificate_pem,
        authorities: joined("CERTIFICATE", &trust.authorities).unwrap_or_default(),
        envelope_keys,
        server: renewed.server,
        addresses: renewed.addresses,
        node,
    }
}

/// Several of a kind in PEM; `None` of none.
fn joined(label: &str, ders: &[impl AsRef<[u8]>]) -> Option<String> {
    (!ders.is_empty()).then(|| ders.iter().map(|der| to_pem(label, der.as_ref())).collect())
}

fn bad_request(detail: &'static str) -> Refusal {
    Refusal::new(ProblemCode::MalformedFrame, detail)
}

fn refused(error: RenewalError) -> Refusal {
    match error {
        RenewalError::Refused { reason } => Refusal::new(ProblemCode::RenewalRefused, reason),
        RenewalError::Malformed { reason } => Refusal::new(ProblemCode::MalformedFrame, reason),
        RenewalError::Unavailable => {
            Refusal::new(ProblemCode::RenewalUnavailable, error.to_string())
        }
        other => internal("renewing a certificate", ipc_base::chain(&other)),
    }
}

/// DER in PEM (RFC 7468, section 2) under a label.
fn to_pem(label: &str, der: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_certificate_in_pem_is_read_back_whatever_its_length() {
        for bytes in [0, 1, 47, 48, 49, 96, 1000] {
            let der = CertificateDer::from((0..bytes).map(|byte| byte as u8).collect::<Vec<_>>());
            let pem = to_pem("CERTIFICATE", &der);
            assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
            if bytes > 0 {
                assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), der);
            }
        }
    }
}

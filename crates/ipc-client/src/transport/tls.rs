//! The client's TLS configuration, and the meaning of TLS errors for a sender.
//!
//! The builder uses it for a configuration, `http` and `connector` for errors. It makes no
//! connection, and no type of rustls leaves the crate.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ipc_base::{CertificateProblem, End, is_about_certificate, pair_problem};
use ipc_home::Identity;
use rustls::{ClientConfig, InvalidMessage, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::error::{SendError, Speaks};

/// Why certificates or key cannot be used.
pub(crate) enum Unusable {
    /// What is wrong with the authority's certificate.
    Authority(String),
    /// What is wrong with the pair.
    Pair(String),
}

/// A server answered plain HTTP with a TLS alert. This error passes through awc inside an I/O
/// error.
#[derive(Debug, thiserror::Error)]
#[error("the server speaks https")]
pub(crate) struct SpeaksTls;

/// Whether an error says that the server speaks TLS instead of plain HTTP.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<SpeaksTls>())
}

/// A configuration for TLS 1.2 and 1.3 with ring that trusts only `authorities`, presents
/// `identity` and offers only HTTP/1.1. Sessions are resumed. 0-RTT data is never sent, since it
/// could be replayed.
pub(crate) fn client_config(
    authorities: Vec<CertificateDer<'static>>,
    identity: Identity,
) -> Result<ClientConfig, Unusable> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| Unusable::Authority(pair_problem(&error)))?;
    }
    let unusable = |error| Unusable::Pair(pair_problem(&error));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The first TLS error in a chain of causes.
pub(crate) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source()` of an I/O error skips the error that it wraps, which may be the TLS error.
        next = match error.downcast_ref::<io::Error>() {
            Some(wrapper) => wrapper.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The refusal of the certificate `identity`, if `error` is such an alert of the server.
///
/// Under TLS 1.3 the alert arrives after the client has finished its handshake, and perhaps has
/// sent a request.
pub(crate) fn certificate_refusal(error: &rustls::Error, identity: &str) -> Option<SendError> {
    let rustls::Error::AlertReceived(alert) = error else { return None };
    is_about_certificate(*alert).then(|| SendError::CertificateRefused {
        identity: identity.to_owned(),
        alert: format!("{alert:?}"),
    })
}

/// The meaning of an error in the handshake with the server `name`. Another attempt helps with none
/// of them.
pub(crate) fn handshake_error(
    error: &rustls::Error,
    name: &str,
    address: &str,
    identity: &str,
) -> SendError {
    if let Some(refusal) = certificate_refusal(error, identity) {
        return refusal;
    }
    match error {
        rustls::Error::InvalidCertificate(fault) => SendError::ServerNotTrusted {
            name: name.to_owned(),
            reason: CertificateProblem::of(fault, End::Server),
        },
        // The bytes are not a TLS record.
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => SendError::WrongProtocol { address: address.to_owned(), speaks: Speaks::NoTls },
        _ => SendError::Handshake { address: address.to_owned(), source: Arc::new(error.clone()) },
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::AlertReceived(AlertDescription::UnknownCA),
        );
        let found = tls_error(&error).and_then(|error| certificate_refusal(error, "peer1"));
        assert!(matches!(found, Some(SendError::CertificateRefused { identity, alert })
                if identity == "peer1" && alert == "UnknownCA"));
        assert!(tls_error(&io::Error::from(io::ErrorKind::BrokenPipe)).is_none());
    }

    #[test]
    fn an_alert_about_something_else_is_no_refusal() {
        for alert in [
            AlertDescription::InternalError,
            AlertDescription::ProtocolVersion,
            AlertDescription::UserCanceled,
        ] {
            assert!(
                certificate_refusal(&rustls::Error::AlertReceived(alert), "n").is_none(),
                "{alert:?}"
            );
        }
    }

    #[test]
    fn a_bad_server_certificate_is_told_apart() {
        for (fault, wanted) in [
            (CertificateError::UnknownIssuer, CertificateProblem::UnknownAuthority),
            (CertificateError::BadSignature, CertificateProblem::UnknownAuthority),
            (CertificateError::Expired, CertificateProblem::Expired { not_after_secs: None }),
            (
                CertificateError::NotValidYet,
                CertificateProblem::NotValidYet { not_before_secs: None },
            ),
            (CertificateError::InvalidPurpose, CertificateProblem::NotForServers),
            (
                CertificateError::UnhandledCriticalExtension,
                CertificateProblem::Other { fault: "UnhandledCriticalExtension".into() },
            ),
        ] {
            let error = handshake_error(&rustls::Error::InvalidCertificate(fault), "n", "a:1", "i");
            assert!(
                matches!(&error, SendError::ServerNotTrusted { reason, .. } if *reason == wanted),
                "{error}"
            );
        }
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let plain = handshake_error(&plain, "n", "a:1", "i");
        assert!(matches!(plain, SendError::WrongProtocol { speaks: Speaks::NoTls, .. }));
        let other = handshake_error(&rustls::Error::HandshakeNotComplete, "n", "a:1", "i");
        assert!(matches!(other, SendError::Handshake { .. }));
    }
}

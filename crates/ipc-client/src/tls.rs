//! What this client asks of TLS, and what a TLS error means to a sender.
//!
//! The builder comes here for a configuration and the worker with an error. No connection is made here, and no type
//! of rustls leaves the crate.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ipc_home::Identity;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::error::{Cause, Distrust, SendError};

/// TLS 1.2 and 1.3 with ring, trusting `authorities` alone, presenting `identity`, offering HTTP/1.1 alone. Sessions
/// are resumed, 0-RTT data is never sent: it could be replayed.
pub(crate) fn client_config(
    authorities: Vec<CertificateDer<'static>>,
    identity: Identity,
) -> Result<ClientConfig, Cause> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The TLS error in a chain of causes, if there is one.
pub(crate) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source()` of an I/O error is the source of what it wraps, which would skip the error that is looked for.
        next = match error.downcast_ref::<io::Error>() {
            Some(wrapper) => wrapper.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The alert with which a server refuses a client's certificate, if that is what this error is.
///
/// Under TLS 1.3 it arrives after the client has finished its handshake and may have sent a request.
pub(crate) fn certificate_refusal(error: &rustls::Error) -> Option<SendError> {
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let refusal = matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // Another authority of the same name: its signature does not fit.
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    );
    refusal.then(|| SendError::CertificateRefused { alert: format!("{alert:?}") })
}

/// What an error in the handshake means. None of these is mended by another attempt.
pub(crate) fn handshake_error(error: &rustls::Error, name: &str, address: &str) -> SendError {
    if let Some(refusal) = certificate_refusal(error) {
        return refusal;
    }
    let source = Box::new(error.clone());
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            SendError::ServerNotTrusted { name: name.to_owned(), reason: distrust(fault), source }
        }
        _ => SendError::Handshake { address: address.to_owned(), source },
    }
}

fn distrust(fault: &CertificateError) -> Distrust {
    match fault {
        // All web-ipc authorities have the same name, so that the wrong one shows by its signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Distrust::UnknownAuthority,
        CertificateError::NotValidForName => Distrust::WrongName { presented: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            Distrust::WrongName { presented: presented.clone() }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Distrust::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Distrust::NotValidYet,
        _ => Distrust::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::AlertReceived(AlertDescription::UnknownCA),
        );
        let found = tls_error(&error).and_then(certificate_refusal);
        assert!(matches!(found, Some(SendError::CertificateRefused { alert }) if alert == "UnknownCA"));
        assert!(tls_error(&io::Error::from(io::ErrorKind::BrokenPipe)).is_none());
    }

    #[test]
    fn an_alert_about_something_else_is_no_refusal() {
        for alert in [
            AlertDescription::InternalError,
            AlertDescription::ProtocolVersion,
            AlertDescription::UserCanceled,
        ] {
            assert!(certificate_refusal(&rustls::Error::AlertReceived(alert)).is_none(), "{alert:?}");
        }
    }

    #[test]
    fn a_bad_server_certificate_is_told_apart() {
        for (fault, wanted) in [
            (CertificateError::UnknownIssuer, Distrust::UnknownAuthority),
            (CertificateError::BadSignature, Distrust::UnknownAuthority),
            (CertificateError::Expired, Distrust::Expired),
            (CertificateError::NotValidYet, Distrust::NotValidYet),
            (CertificateError::InvalidPurpose, Distrust::Other),
        ] {
            let error = handshake_error(&rustls::Error::InvalidCertificate(fault), "n", "a:1");
            assert!(
                matches!(&error, SendError::ServerNotTrusted { reason, .. } if *reason == wanted),
                "{error}"
            );
        }
        let other = handshake_error(&rustls::Error::HandshakeNotComplete, "n", "a:1");
        assert!(matches!(other, SendError::Handshake { .. }));
    }
}

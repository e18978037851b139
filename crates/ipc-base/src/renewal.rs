//! What a server asks of whoever issues certificates, and what it gets.
//!
//! `ipc-server` asks, `ipc-setup` answers; neither depends on the other. A program may bring an
//! issuer of its own.

use std::error::Error;

use thiserror::Error;

/// Issues certificates for clients that renew theirs. It is called on a thread that may block.
pub trait CertificateIssuer: Send + Sync {
    /// Answers a client that was admitted: its certificate is verified and not revoked, its user
    /// logged in.
    ///
    /// # Errors
    /// [`RenewalError`].
    fn renew(&self, query: &RenewalQuery<'_>) -> Result<Renewed, RenewalError>;
}

/// Who asks for a certificate, and with which key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RenewalQuery<'a> {
    /// The certificate on the client's connection, in DER.
    pub certificate: &'a [u8],
    /// The user who is logged in.
    pub user: &'a str,
    /// The certificate signing request in PEM; none where the client only asks what has changed.
    pub csr_pem: Option<&'a str>,
    /// The time, in seconds since the Unix epoch.
    pub now_secs: u64,
}

impl<'a> RenewalQuery<'a> {
    /// A query of all four.
    #[must_use]
    pub fn new(
        certificate: &'a [u8],
        user: &'a str,
        csr_pem: Option<&'a str>,
        now_secs: u64,
    ) -> Self {
        Self { certificate, user, csr_pem, now_secs }
    }
}

/// What a client gets. The authorities and its envelope keys are the server's to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// The new certificate in PEM; none where none was asked for, or where the client got as many
    /// as it may have for the time being.
    pub certificate_pem: Option<String>,
    /// The name that the server's certificate is for.
    pub server: String,
    /// Where the server is reached, `HOST:PORT` each.
    pub addresses: Vec<String>,
    /// Who gets it, which decides about the keys that the server adds.
    pub peer: RenewedPeer,
}

/// What a peer was enrolled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewedPeer {
    /// A client. It gets envelope keys of its own.
    Client,
    /// A further server of the installation. It gets the envelope keys themselves, the session keys
    /// and the lists of revoked certificates.
    Server,
}

impl Renewed {
    /// The answer to a client.
    #[must_use]
    pub fn new(
        certificate_pem: Option<String>,
        server: impl Into<String>,
        addresses: Vec<String>,
    ) -> Self {
        Self { certificate_pem, server: server.into(), addresses, peer: RenewedPeer::Client }
    }

    /// The same answer to a further server of the installation, which gets every key that servers
    /// share. Only for a peer that was enrolled as one.
    #[must_use]
    pub fn for_server(self) -> Self {
        Self { peer: RenewedPeer::Server, ..self }
    }
}

/// Why a client gets no certificate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// The client may not have one. The reason is told to it.
    #[error("{reason}")]
    Refused {
        /// A sentence for a person.
        reason: String,
    },
    /// The request is no certificate signing request, or one for a key that is not supported.
    #[error("{reason}")]
    Malformed {
        /// A sentence for a person.
        reason: String,
    },
    /// No certificates are issued here: the authority's key is not in this home.
    #[error("this server has no authority's key and issues no certificates")]
    Unavailable,
    /// Something failed that is not the client's fault. The reason goes to the log alone.
    #[error("the certificate could not be issued")]
    Failed {
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

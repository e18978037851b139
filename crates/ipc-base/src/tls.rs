//! Describes faults of TLS, for both ends.
//!
//! Client and server call it with what rustls reports about a pair, about the peer's certificate,
//! and about the alert with which the peer refuses theirs. The inbox and the user store on another
//! server come with the error of a library that uses rustls. It verifies nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::timestamp::Timestamp;
use rustls::{AlertDescription, CertificateError};

/// The most names of a certificate that are shown. A certificate may have thousands.
const PRESENTED_MAX: usize = 8;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end that connects.
    Client,
    /// The end that accepts the connection.
    Server,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Client => "client",
            End::Server => "server",
        })
    }
}

/// What is wrong with a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// The authority of this home did not issue the certificate.
    UnknownAuthority,
    /// The certificate is valid, but for other names.
    WrongName {
        /// The names in the certificate, as far as they are known.
        presented: Vec<String>,
    },
    /// The certificate has expired, by this host's clock.
    Expired {
        /// The last second in which the certificate was valid, in seconds since the Unix epoch, if
        /// it is known.
        not_after_secs: Option<u64>,
    },
    /// The certificate is not valid yet, by this host's clock.
    NotValidYet {
        /// The first second in which the certificate is valid, in seconds since the Unix epoch, if
        /// it is known.
        not_before_secs: Option<u64>,
    },
    /// A server's certificate is for clients, or for something else.
    NotForServers,
    /// A client's certificate is for servers, or for something else.
    NotForClients,
    /// The authority has revoked the certificate.
    Revoked,
    /// Any other problem.
    Other {
        /// The TLS library's name of it, such as `UnhandledCriticalExtension`.
        fault: String,
    },
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateProblem::UnknownAuthority => {
                f.write_str("was not issued by this home's authority")
            }
            CertificateProblem::WrongName { presented } if presented.is_empty() => {
                f.write_str("is for another name")
            }
            CertificateProblem::WrongName { presented } => {
                write!(f, "is for {}", presented.join(", "))
            }
            CertificateProblem::Expired { not_after_secs: None } => f.write_str("has expired"),
            CertificateProblem::Expired { not_after_secs: Some(secs) } => {
                write!(f, "expired at {}", Timestamp::from_unix_secs(*secs))
            }
            CertificateProblem::NotValidYet { not_before_secs: None } => {
                f.write_str("is not valid yet")
            }
            CertificateProblem::NotValidYet { not_before_secs: Some(secs) } => {
                write!(f, "is not valid before {}", Timestamp::from_unix_secs(*secs))
            }
            CertificateProblem::NotForServers => f.write_str("is not for servers"),
            CertificateProblem::NotForClients => f.write_str("is not for clients"),
            CertificateProblem::Revoked => f.write_str("was revoked"),
            CertificateProblem::Other { fault } => write!(f, "cannot be accepted ({fault})"),
        }
    }
}

impl CertificateProblem {
    /// The problem for a fault that rustls has found in the certificate of `owner`.
    #[must_use]
    pub fn of(fault: &CertificateError, owner: End) -> Self {
        match fault {
            // All web-ipc authorities have the same name, so a certificate of another one fails
            // only at its signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::NotValidForName => Self::WrongName { presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName { presented: names(presented) }
            }
            CertificateError::Expired => Self::Expired { not_after_secs: None },
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired { not_after_secs: Some(not_after.as_secs()) }
            }
            CertificateError::NotValidYet => Self::NotValidYet { not_before_secs: None },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotValidYet { not_before_secs: Some(not_before.as_secs()) }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                match owner {
                    End::Client => Self::NotForClients,
                    End::Server => Self::NotForServers,
                }
            }
            other => Self::Other { fault: format!("{other:?}") },
        }
    }
}

/// Why a client got no TLS connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate cannot be accepted.
    ServerCertificate(CertificateProblem),
    /// The server refuses the client's certificate, or asks for one in vain.
    ClientCertificate {
        /// The name of the server's alert, such as `BadCertificate`.
        alert: String,
    },
    /// The server does not speak TLS.
    NotTls,
    /// Any other fault, in the words of the TLS library.
    Other(String),
}

impl TlsFault {
    /// The fault that rustls reports among the causes of a client's error, which may be that of any
    /// library. `None` if TLS is not the reason.
    #[must_use]
    pub fn among_causes(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(fault));
            }
            // An `io::Error` that holds another error has the cause of that one as its own.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(held) => Some(held),
                None => error.source(),
            };
        }
        None
    }

    fn of(fault: &rustls::Error) -> Self {
        match fault {
            rustls::Error::InvalidCertificate(fault) => {
                Self::ServerCertificate(CertificateProblem::of(fault, End::Server))
            }
            rustls::Error::AlertReceived(alert) if is_about_certificate(*alert) => {
                Self::ClientCertificate { alert: format!("{alert:?}") }
            }
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Says what is wrong with the certificate or the key of a pair, or with an authority's
/// certificate.
#[must_use]
pub fn pair_problem(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key does not belong to the certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            "the certificate is damaged".to_owned()
        }
        rustls::Error::General(text) if text.contains("private key") => {
            "the key is damaged".to_owned()
        }
        other => other.to_string(),
    }
}

/// Whether an alert of the peer is about the certificate that was presented to it.
#[must_use]
pub fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // The signature does not fit: another authority has the same name.
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

/// Says why `by` refuses a certificate with this alert (RFC 8446, section 6.2). `alert` is its
/// name, such as `CertificateExpired`.
#[must_use]
pub fn refused_because(alert: &str, by: End) -> String {
    match alert {
        "CertificateExpired" => {
            format!("by the {by}'s clock it has expired or is not valid yet")
        }
        "UnknownCA" | "DecryptError" => {
            format!("it was not issued by the authority that the {by} trusts")
        }
        "UnsupportedCertificate" => match by {
            End::Server => "it is not for clients".to_owned(),
            End::Client => "it is not for servers".to_owned(),
        },
        "CertificateRevoked" => "it has been revoked".to_owned(),
        "NoCertificate" | "CertificateRequired" => "no certificate arrived".to_owned(),
        other => format!("the alert is {other}"),
    }
}

/// The names that rustls writes as `DnsName("localhost")` and `IpAddress(127.0.0.1)`, each once.
fn names(presented: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for text in presented {
        let inner = |kind: &str, end: &str| text.strip_prefix(kind)?.strip_suffix(end);
        let name = inner("DnsName(\"", "\")").or_else(|| inner("IpAddress(", ")"));
        // Others, such as mail addresses, are not names of servers. A name with unprintable
        // characters is not shown.
        let shown = |name: &&str| {
            !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        // rustls writes `::1` as `0::1`.
        let usual = |name: &str| {
            name.parse::<IpAddr>().map_or(name.to_owned(), |address| address.to_string())
        };
        if let Some(name) = name.filter(shown).map(usual)
            && !names.contains(&name)
        {
            names.push(name);
        }
        if names.len() == PRESENTED_MAX {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_for_the_other_end_is_told_as_one() {
        let purpose = CertificateError::InvalidPurpose;
        let told = |owner| CertificateProblem::of(&purpose, owner).to_string();
        assert_eq!(told(End::Server), "is not for servers");
        assert_eq!(told(End::Client), "is not for clients");
    }

    #[test]
    fn each_fault_of_a_certificate_is_told_in_words() {
        for (fault, says) in [
            (CertificateError::UnknownIssuer, "was not issued by this home's authority"),
            (CertificateError::BadSignature, "was not issued by this home's authority"),
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "is not valid yet"),
            (CertificateError::NotValidForName, "is for another name"),
            (CertificateError::Revoked, "was revoked"),
            (
                CertificateError::UnhandledCriticalExtension,
                "cannot be accepted (UnhandledCriticalExtension)",
            ),
        ] {
            assert_eq!(CertificateProblem::of(&fault, End::Client).to_string(), says);
        }
    }

    #[test]
    fn an_alert_says_why_a_certificate_was_refused_and_by_whom() {
        assert!(is_about_certificate(AlertDescription::UnknownCA));
        assert!(!is_about_certificate(AlertDescription::ProtocolVersion));
        for (alert, by, says) in [
            ("UnknownCA", End::Server, "it was not issued by the authority that the server trusts"),
            (
                "DecryptError",
                End::Client,
                "it was not issued by the authority that the client trusts",
            ),
            ("UnsupportedCertificate", End::Client, "it is not for servers"),
            ("AccessDenied", End::Server, "the alert is AccessDenied"),
        ] {
            assert_eq!(refused_because(alert, by), says);
        }
    }

    #[test]
    fn names_are_told_as_names_and_once() {
        let presented = [
            "DnsName(\"localhost\")",
            "DnsName(\"localhost\")",
            "IpAddress(127.0.0.1)",
            "IpAddress(0::1)",
            "DnsName(\"a\u{1b}[31m\")",
            "Rfc822Name(3 bytes)",
        ];
        assert_eq!(names(&presented.map(str::to_owned)), ["localhost", "127.0.0.1", "::1"]);
        let many: Vec<_> = (0..100).map(|number| format!("DnsName(\"n{number}\")")).collect();
        assert_eq!(names(&many).len(), PRESENTED_MAX);
    }

    #[test]
    fn a_fault_of_tls_is_found_among_the_causes_of_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let fault = |fault: rustls::Error| TlsFault::among_causes(&Outer(io::Error::other(fault)));
        let certificate = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let unknown = TlsFault::ServerCertificate(CertificateProblem::UnknownAuthority);
        assert_eq!(TlsFault::among_causes(&certificate), Some(unknown.clone()));
        assert_eq!(fault(certificate), Some(unknown));
        assert_eq!(
            fault(rustls::Error::AlertReceived(AlertDescription::BadCertificate)),
            Some(TlsFault::ClientCertificate { alert: "BadCertificate".into() })
        );
        let not_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(fault(not_tls), Some(TlsFault::NotTls));
        let other = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
        assert!(matches!(fault(other), Some(TlsFault::Other(_))));
        assert_eq!(TlsFault::among_causes(&Outer(io::Error::other("no TLS"))), None);
    }

    #[test]
    fn a_pair_that_does_not_fit_is_told_in_words() {
        let error = rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch);
        assert_eq!(pair_problem(&error), "the key does not belong to the certificate");
    }
}

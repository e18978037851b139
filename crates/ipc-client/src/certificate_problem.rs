//! What can be wrong with a server's certificate, in words, and the command that mends it.
//!
//! `error` comes here for what a caller sees, `tls` with what it has found. Nothing is verified
//! here.

use std::fmt;

use ipc_home::Timestamp;

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// It was not issued by the authority of this home.
    UnknownAuthority,
    /// It is good, but for other names.
    WrongName {
        /// The names that it is for, as far as they are known.
        presented: Vec<String>,
    },
    /// It has expired, by this host's clock.
    Expired {
        /// The last second in which it was valid, in seconds since the Unix epoch, where that is
        /// known.
        not_after_secs: Option<u64>,
    },
    /// It is not valid yet, by this host's clock.
    NotValidYet {
        /// The first second in which it is valid, in seconds since the Unix epoch, where that is
        /// known.
        not_before_secs: Option<u64>,
    },
    /// It is a certificate for clients, or for something else.
    NotForServers,
    /// Anything else.
    Other {
        /// What the TLS library calls it, such as `UnhandledCriticalExtension`.
        fault: String,
    },
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateProblem::UnknownAuthority => f.write_str("is not of this home's authority"),
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
            CertificateProblem::NotForServers => f.write_str("is not one for servers"),
            CertificateProblem::Other { fault } => write!(f, "cannot be accepted ({fault})"),
        }
    }
}

/// What to do about a server's certificate: the command that makes it anew, in the server's home.
pub(crate) fn certificate_remedy(name: &str, reason: &CertificateProblem) -> String {
    let command =
        format!("web-ipc --certs --name {}", ipc_home::shell_quoted(std::path::Path::new(name)));
    match reason {
        // Whose home this is, and whether it has the authority's key, is not known here.
        CertificateProblem::UnknownAuthority => format!(
            "check the address, and use the web-ipc-ca.crt of the home that the server's certificate was made in; \
             if this is the server's home, make it anew with {command} --force"
        ),
        CertificateProblem::WrongName { presented } => {
            // The names that it had are kept: others may know the server by them.
            let names = std::iter::once(name).chain(presented.iter().map(String::as_str));
            let names: Vec<_> =
                names.map(|name| ipc_home::shell_quoted(std::path::Path::new(name))).collect();
            format!(
                "give a name that it is for, or make it anew in the home of the server, with \
                 {command} --altNames {} --force",
                names.join(" ")
            )
        }
        CertificateProblem::Expired { .. } | CertificateProblem::NotValidYet { .. } => format!(
            "check the clocks of both hosts, then make it anew in the home of the server, with {command} --force"
        ),
        CertificateProblem::NotForServers | CertificateProblem::Other { .. } => {
            format!("make it anew in the home of the server, with {command} --force")
        }
    }
}

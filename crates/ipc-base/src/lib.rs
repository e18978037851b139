//! The base of all crates of web-ipc: names of peers, remedies for errors, and how errors and times
//! are shown.
//!
//! | you want | use |
//! |---|---|
//! | to say what a person can do about an error | [`Remedy`], as the `remedy()` of the error |
//! | to find the remedy for a file that the system refuses | [`remedy_of_io`], [`remedy_of_read_only`] |
//! | a name that is valid in a certificate and as a file name | [`PeerName`] |
//! | the serial number of a certificate | [`SerialNumber`] |
//! | to know what a certificate or a revocation list says | `CertificateFacts` and `RevocationList`, feature `x509` |
//! | to issue certificates for clients that renew theirs | [`CertificateIssuer`] |
//! | to show an error with its causes | [`chain`] |
//! | to show a time | [`Timestamp`] |
//! | to describe a fault of TLS | `CertificateProblem` and the functions beside it, with feature `tls` |
//!
//! An error shows its own message and returns its cause as `source()`, never both:
//!
//! ```
//! use std::{fs, io, path::Path};
//! use ipc_base::{chain, remedy_of_io};
//!
//! #[derive(Debug)]
//! struct NoConfiguration(io::Error);
//!
//! impl std::fmt::Display for NoConfiguration {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         f.write_str("there is no configuration")
//!     }
//! }
//!
//! impl std::error::Error for NoConfiguration {
//!     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
//!         Some(&self.0)
//!     }
//! }
//!
//! let path = Path::new("/nowhere/at/all");
//! let error = NoConfiguration(fs::read(path).unwrap_err());
//! assert!(chain(&error).to_string().starts_with("there is no configuration: No such file"));
//! assert_eq!(remedy_of_io(&error.0, path).unwrap().to_string(), "use another directory");
//! ```

mod chain;
mod name;
mod of_file;
mod remedy;
mod renewal;
mod serial;
mod timestamp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "x509")]
mod x509;

pub use chain::{Chain, chain};
pub use name::{NameError, PEER_NAME_CHARS_MAX, PeerName, RESERVED_NAMES, check_dns_name};
pub use of_file::{remedy_of_io, remedy_of_read_only};
pub use remedy::{ModeChange, Place, Remedy};
pub use renewal::{CertificateIssuer, RenewalError, RenewalQuery, Renewed, RenewedPeer};
pub use serial::{SERIAL_NUMBER_BYTES_MAX, SerialNumber, SerialNumberError};
pub use timestamp::Timestamp;
#[cfg(feature = "tls")]
pub use tls::{
    CertificateProblem, End, TlsFault, is_about_certificate, pair_problem, refused_because,
};
#[cfg(feature = "x509")]
pub use x509::{CertificateFacts, RevocationList, RevocationReason, RevokedCertificate};

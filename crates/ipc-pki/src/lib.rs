//! The certificate authority of a web-ipc installation and the leaf certificates it issues.
//!
//! `ipc-setup` uses it for the files of a home, and code that lists certificates uses
//! [`CertificateInfo`]. PEM goes in and PEM comes out: nothing here opens a file or a socket, or
//! knows the layout of a home. The time is an argument, in seconds since the Unix epoch.
//!
//! - [`Authority`]: the CA, made with [`Authority::create`] or read back with [`Authority::load`].
//! - [`LeafRequest`]: what to certify; [`Authority::issue`] answers with an [`IssuedPair`].
//! - [`RequestedPair`]: a new key and the request for its certificate, where the key must not
//!   leave. [`CertificateRequest`] takes such a request in, and [`Authority::issue_for_key`]
//!   answers it.
//! - [`Authority::revocation_list`]: the list of revoked certificates, signed. It is read back with
//!   [`Authority::own_revocation_list`] or [`revocation_lists_from_pem`].
//! - [`Authority::cross_certify`]: the new authority's key certified by the one that it replaces.
//! - [`SubjectName`], [`SubjectAltName`]: names that were checked, which is the only kind that gets
//!   certified. [`to_ascii`] gives the form in which a name is written and used as a file name.
//! - [`CertificateInfo`]: what a certificate says, for listing.
//!
//! ```
//! use ipc_pki::{Authority, AuthorityOptions, CertificateInfo, LeafRequest, SubjectName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now_secs = 1_750_000_000;
//! let authority = Authority::create(&AuthorityOptions::default(), now_secs)?;
//!
//! let mut request = LeafRequest::new(SubjectName::parse("localhost")?);
//! request.alt_names = vec!["localhost".parse()?, "127.0.0.1".parse()?, "::1".parse()?];
//! let pair = authority.issue(&request, now_secs)?;
//!
//! let info = CertificateInfo::from_pem(&pair.certificate_pem)?;
//! assert_eq!(info.subject.as_deref(), Some("localhost"));
//! assert_eq!(info.alt_names, ["localhost", "127.0.0.1", "::1"]);
//! assert_eq!(info.not_after_secs, now_secs + 365 * 86_400);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `vendored` (default): builds OpenSSL from source, so that no system package is needed. Without
//!   it the system's OpenSSL 3 is used.

mod authority;
mod der;
mod info;
mod key;
mod leaf;
mod name;
mod request;
mod revocation;
mod rotation;
mod usages;
mod x509;

pub use authority::{
    Authority, AuthorityOptions, CA_COMMON_NAME, CA_VALIDITY_DAYS, CreateError, LoadError,
};
pub use info::{CertificateInfo, CertificateInfoError};
pub use ipc_base::{
    NameError, PEER_NAME_CHARS_MAX, PeerName, RESERVED_NAMES, RevocationList, RevocationReason,
    RevokedCertificate, SerialNumber,
};
pub use key::{KeyType, KeyTypeError, PrivateKeyPem, is_issued_by, key_fits};
pub use leaf::{
    ALT_NAMES_MAX, IssueError, IssuedCertificate, IssuedPair, LEAF_VALIDITY_DAYS, LeafRequest,
    RenewalError,
};
pub use name::{DNS_NAME_CHARS_MAX, SubjectAltName, SubjectName, to_ascii};
pub use request::{
    CertificateRequest, REQUEST_BYTES_MAX, RequestError, RequestRefused, RequestedPair,
};
pub use revocation::{ListError, RevokeError, revocation_lists_from_pem};
pub use rotation::CrossCertifyError;
pub use usages::Usages;
pub use x509::{BACKDATED_SECS, VALIDITY_DAYS_MAX};

//! Why an enrolment bundle cannot be opened.
//!
//! `bundle` makes these, and the errors of this crate hold one.

use thiserror::Error;

/// How long a bundle can be accepted, in seconds: 24 hours.
pub const BUNDLE_TTL_SECS: u64 = 24 * 60 * 60;

/// The characters of a code, without its hyphens.
pub(crate) const CODE_CHARS: usize = 25;
/// The characters between two hyphens.
pub(crate) const GROUP_CHARS: usize = 5;

/// Why a bundle cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The text holds no bundle, or only a part of one.
    #[error("this is not an enrolment bundle, or only a part of one")]
    NotABundle,
    /// The bundle is not what it was when it was made.
    #[error("the bundle was changed or damaged on its way")]
    Damaged,
    /// It was made by a newer version, or asks for more memory or time than is allowed.
    #[error("this version cannot open the bundle")]
    Unsupported,
    /// It is that of a server whose users are in PostgreSQL, and the feature `postgres` was left
    /// out.
    #[error(
        "the bundle is for a server whose users are in PostgreSQL, which this web-ipc was built without"
    )]
    UsersInPostgres,
    /// The code has another length or other characters.
    #[error("a code has {CODE_CHARS} letters and digits in groups of {GROUP_CHARS}")]
    MalformedCode,
    /// The code is that of another bundle.
    #[error("the code does not open this bundle")]
    WrongCode,
    /// It was made more than [`BUNDLE_TTL_SECS`] ago.
    #[error("the bundle expired after 24 hours")]
    Expired,
    /// It was made later than this host's clock says.
    #[error("the bundle was made {secs} s after the time that this host's clock shows")]
    FromTheFuture {
        /// By how much, in seconds.
        secs: u64,
    },
}

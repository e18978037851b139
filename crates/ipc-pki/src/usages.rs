//! What a leaf may be used for: asked for in a request, read back from a certificate.
//!
//! Nothing here knows how either is written.

/// Which ends of a connection a leaf is good for (RFC 5280, section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Usages {
    /// serverAuth and clientAuth: the default, as a peer often is both.
    #[default]
    ServerAndClient,
    /// serverAuth alone.
    Server,
    /// clientAuth alone.
    Client,
}

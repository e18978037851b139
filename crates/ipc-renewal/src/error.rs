//! Why a home was not renewed.

use ipc_base::Remedy;
use ipc_client::{BuildError, ProblemCode, SendError};
use ipc_home::{HomeError, PeerName};
use ipc_setup::SetupError;

/// Why certificates were not renewed. Those that were stay in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The home cannot be read or changed, its authority issues nothing, or the server's answer
    /// cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No client could be made of the home.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The server did not answer, or refused.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The server has given the name as many certificates as it gives in 24 hours. What else has
    /// changed was taken up.
    #[error("the server has given {name} as many certificates as it gives in 24 hours")]
    TooOften {
        /// The name in the certificate.
        name: PeerName,
    },
}

impl RenewError {
    /// Whether the server refuses this client for good: its certificate was revoked, its enrolment
    /// was cancelled or accepted elsewhere.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let Self::Send(error) = self else { return false };
        matches!(error, SendError::CertificateRefused { .. })
            || matches!(
                error.code(),
                Some(ProblemCode::CertificateRevoked | ProblemCode::RenewalRefused)
            )
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Setup(error) => error.remedy(),
            Self::Build(error) => error.remedy(),
            Self::Send(error) => error.remedy(),
            Self::TooOften { .. } => Some(Remedy::act("renew it tomorrow")),
        }
    }
}

impl From<HomeError> for RenewError {
    fn from(error: HomeError) -> Self {
        Self::Setup(error.into())
    }
}

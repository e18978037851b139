//! Why a home was not renewed.

use ipc_base::Remedy;
use ipc_client::{BuildError, ProblemCode, SendError};
use ipc_home::HomeError;
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
        }
    }
}

impl From<HomeError> for RenewError {
    fn from(error: HomeError) -> Self {
        Self::Setup(error.into())
    }
}

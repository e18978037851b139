//! The exit statuses of a command, and the one place that maps an error to its status.
//!
//! `main` ends the process with what is decided here. The commands of the Python tool keep its
//! three statuses. The others have those of `sysexits.h`, so that a script knows without reading
//! the error whether to mend something, or to run the same command again.

use std::sync::atomic::{AtomicU8, Ordering};

use ipc_client::{BuildError, NoReply, Outcome, ProblemCode, PythonFault, SendError};
use ipc_home::HomeError;
use ipc_inbox::OpenError;
#[cfg(feature = "jetstream")]
use ipc_inbox_jetstream::JetStreamError;
use ipc_renewal::RenewError;
use ipc_server::StartError;
use ipc_setup::{BackupFileError, BundleError, SetupError};
use ipc_store::{DatabaseError, StoreError};

use crate::args::Action;

/// Wrong usage, of every command.
pub(crate) const WRONG_USAGE: u8 = 2;

/// Why a command did not do all that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It failed, or the answer is no. Another run without a change fails again.
    Failed,
    /// What was to be sent, or was given as input, is refused: `EX_DATAERR`.
    BadData,
    /// The server cannot be reached: `EX_UNAVAILABLE`.
    Unreachable,
    /// A bug of web-ipc: `EX_SOFTWARE`.
    Internal,
    /// It is not known what became of a message, or the same may succeed later: `EX_TEMPFAIL`.
    TryLater,
    /// A user, password, key or certificate is missing or was refused: `EX_NOPERM`.
    NotPermitted,
}

/// Which statuses a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statuses {
    /// 0, 1 and 2.
    PythonTool,
    /// Those of `sysexits.h` too.
    Sysexits,
}

impl Statuses {
    /// The statuses of a command.
    pub(crate) fn of(action: &Action) -> Self {
        match action {
            Action::Help(_)
            | Action::Init { .. }
            | Action::Import { .. }
            | Action::Certs(_)
            | Action::ListCertificates
            | Action::Revoke(_)
            | Action::Renew(_)
            | Action::RotateAuthority
            | Action::DropOldAuthority { .. }
            | Action::Users(_)
            | Action::Test(_) => Self::PythonTool,
            Action::Serve(_)
            | Action::Send(_)
            | Action::Request(_)
            | Action::Dead(_)
            | Action::Inbox { .. }
            | Action::Keys(_)
            | Action::Enrol(_)
            | Action::Backup { .. }
            | Action::SealedBackup { .. }
            | Action::Restore { .. }
            | Action::Config { .. }
            | Action::Doctor(_) => Self::Sysexits,
        }
    }

    /// The number of a status.
    pub(crate) fn number(self, status: Status) -> u8 {
        match (self, status) {
            (Self::PythonTool, _) | (Self::Sysexits, Status::Failed) => 1,
            (Self::Sysexits, Status::BadData) => 65,
            (Self::Sysexits, Status::Unreachable) => 69,
            (Self::Sysexits, Status::Internal) => 70,
            (Self::Sysexits, Status::TryLater) => 75,
            (Self::Sysexits, Status::NotPermitted) => 77,
        }
    }
}

/// The status of a bug, for any thread that finds one.
static INTERNAL: AtomicU8 = AtomicU8::new(1);

/// Notes which command runs, for [`of_a_bug`].
pub(crate) fn note(statuses: Statuses) {
    INTERNAL.store(statuses.number(Status::Internal), Ordering::Relaxed);
}

/// The number of the status that a bug ends the running command with.
pub(crate) fn of_a_bug() -> u8 {
    INTERNAL.load(Ordering::Relaxed)
}

impl From<&SendError> for Status {
    fn from(error: &SendError) -> Self {
        match error {
            SendError::Body(_) | SendError::TooLarge { .. } => Self::BadData,
            // What may be in the inbox may be sent again under its id, whatever else went wrong.
            _ if error.outcome() == Outcome::NotKnown && !matches!(error, SendError::Stopped) => {
                Self::TryLater
            }
            SendError::Refused { code: Some(code), .. } => Self::from(*code),
            SendError::Refused { status, .. } => match status {
                413 => Self::BadData,
                401 | 403 => Self::NotPermitted,
                408 | 429 | 500.. => Self::TryLater,
                // A proxy or another server answers: ours gives a code.
                _ => Self::Unreachable,
            },
            SendError::BadCredentials { .. } | SendError::CertificateRefused { .. } => {
                Self::NotPermitted
            }
            SendError::ServerNotTrusted { .. } => Self::NotPermitted,
            SendError::PythonTool { fault: PythonFault::NotPickled { .. } } => Self::BadData,
            // It has another message key.
            SendError::PythonTool { fault: PythonFault::NotRead } => Self::NotPermitted,
            SendError::WrongProtocol { .. }
            | SendError::Handshake { .. }
            | SendError::Unreachable { .. }
            | SendError::NoAnswer { .. }
            | SendError::Unexpected { .. } => Self::Unreachable,
            SendError::Busy { .. } => Self::TryLater,
            SendError::Timeout { last, .. } | SendError::InDoubt { last } => Self::from(&**last),
            // The message was not sent, so it does not matter what became of the login.
            SendError::LoginFailed { last } => match Self::from(&**last) {
                Self::TryLater if last.code().is_none() => Self::Unreachable,
                status => status,
            },
            SendError::NoReply { reason: NoReply::NotInTime { .. } } => Self::TryLater,
            SendError::Stopped => Self::Internal,
            // Such as a request without a reply, or a system without random numbers.
            _ => Self::Failed,
        }
    }
}

impl From<ProblemCode> for Status {
    fn from(code: ProblemCode) -> Self {
        match code {
            ProblemCode::MalformedRequest
            | ProblemCode::MalformedFrame
            | ProblemCode::NotAnObject
            | ProblemCode::TooLarge
            | ProblemCode::IdReused => Self::BadData,
            // The keys of both ends differ.
            ProblemCode::MalformedEnvelope
            | ProblemCode::BadCredentials
            | ProblemCode::WrongCertificate
            | ProblemCode::CertificateRevoked
            | ProblemCode::RenewalRefused => Self::NotPermitted,
            // Something else than a web-ipc server of this version answers.
            ProblemCode::NotFound
            | ProblemCode::MethodNotAllowed
            | ProblemCode::UpgradeRequired => Self::Unreachable,
            // Once the clocks are right, the same message is accepted.
            ProblemCode::StaleEnvelope
            | ProblemCode::RequestTimeout
            | ProblemCode::SessionExpired
            | ProblemCode::TooManyAttempts
            | ProblemCode::InternalError
            | ProblemCode::RenewalUnavailable
            | ProblemCode::InboxFull
            | ProblemCode::IdsFull
            | ProblemCode::ShuttingDown
            | ProblemCode::Unavailable
            | ProblemCode::NoReplyInTime => Self::TryLater,
            // The application has the request: `NotAnswered`, `ReplyForgotten`.
            _ => Self::Failed,
        }
    }
}

impl From<&HomeError> for Status {
    fn from(error: &HomeError) -> Self {
        match error {
            HomeError::NoUser { .. }
            | HomeError::CertificateMissing { .. }
            | HomeError::BadCertificate { .. }
            | HomeError::BadPrivateKey { .. }
            | HomeError::EncryptedPrivateKey { .. }
            | HomeError::BadKeys { .. }
            | HomeError::BadCredentials { .. } => Self::NotPermitted,
            _ => Self::Failed,
        }
    }
}

impl From<&BuildError> for Status {
    fn from(error: &BuildError) -> Self {
        match error {
            BuildError::Home(error) => Self::from(error),
            BuildError::Authority { .. } | BuildError::Tls { .. } => Self::NotPermitted,
            _ => Self::Failed,
        }
    }
}

impl From<&StartError> for Status {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Home(error) => Self::from(error),
            StartError::Store(error) => Self::from(error),
            StartError::Inbox(error) => Self::from(error),
            StartError::Authority { .. }
            | StartError::Certificate { .. }
            | StartError::CertificateEnded { .. }
            | StartError::CertificateNotYetGood { .. } => Self::NotPermitted,
            _ => Self::Failed,
        }
    }
}

impl From<&StoreError> for Status {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unreachable,
            StoreError::Database(error) => Self::from(error),
            _ => Self::Failed,
        }
    }
}

impl From<&OpenError> for Status {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::InUse { .. } => Self::TryLater,
            OpenError::Database(error) => Self::from(error),
            _ => Self::Failed,
        }
    }
}

impl From<&DatabaseError> for Status {
    fn from(error: &DatabaseError) -> Self {
        match error {
            DatabaseError::Busy { .. } => Self::TryLater,
            _ => Self::Failed,
        }
    }
}

impl From<&SetupError> for Status {
    fn from(error: &SetupError) -> Self {
        match error {
            SetupError::Home(error) => Self::from(error),
            SetupError::Store(error) => Self::from(error),
            SetupError::Bundle { source } => Self::from(source),
            SetupError::BackupFile { source, .. } => Self::from(source),
            SetupError::RestoredDatabase { source: DatabaseError::Newer { .. }, .. } => {
                Self::Failed
            }
            SetupError::RestoredDatabase { .. } | SetupError::RestoredHome { .. } => Self::BadData,
            SetupError::InUse { .. } => Self::TryLater,
            _ => Self::Failed,
        }
    }
}

impl From<&BundleError> for Status {
    fn from(error: &BundleError) -> Self {
        match error {
            BundleError::NotABundle | BundleError::Damaged => Self::BadData,
            BundleError::MalformedCode | BundleError::WrongCode | BundleError::Expired => {
                Self::NotPermitted
            }
            _ => Self::Failed,
        }
    }
}

impl From<&BackupFileError> for Status {
    fn from(error: &BackupFileError) -> Self {
        match error {
            BackupFileError::MalformedCode | BackupFileError::WrongCode => Self::NotPermitted,
            BackupFileError::Unsupported => Self::Failed,
            _ => Self::BadData,
        }
    }
}

impl From<&RenewError> for Status {
    fn from(error: &RenewError) -> Self {
        match error {
            RenewError::Setup(error) => Self::from(error),
            RenewError::Build(error) => Self::from(error),
            RenewError::Send(error) => Self::from(error),
            _ => Self::Failed,
        }
    }
}

#[cfg(feature = "jetstream")]
impl From<&JetStreamError> for Status {
    fn from(error: &JetStreamError) -> Self {
        match error {
            JetStreamError::Unreachable { .. }
            | JetStreamError::UnknownHost { .. }
            | JetStreamError::NotNats { .. }
            | JetStreamError::NoTls { .. }
            | JetStreamError::Tls { .. } => Self::Unreachable,
            JetStreamError::LoginMissing { .. }
            | JetStreamError::Login { .. }
            | JetStreamError::NoRight { .. }
            | JetStreamError::ServerCertificate { .. }
            | JetStreamError::ClientCertificateMissing { .. }
            | JetStreamError::ClientCertificate { .. } => Self::NotPermitted,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use ipc_client::CredentialsOrigin;

    use super::*;

    fn refused(status: u16, code: Option<ProblemCode>) -> SendError {
        SendError::Refused { status, code, detail: String::new() }
    }

    fn unreachable() -> SendError {
        let source = Arc::new(io::ErrorKind::ConnectionRefused.into());
        SendError::Unreachable { address: "a:1".into(), source }
    }

    fn no_answer() -> SendError {
        let source = Arc::new(io::ErrorKind::ConnectionReset.into());
        SendError::NoAnswer { address: "a:1".into(), source }
    }

    fn late(outcome: Outcome, last: SendError) -> SendError {
        SendError::Timeout { timeout: Duration::from_secs(30), outcome, last: Box::new(last) }
    }

    #[test]
    fn a_failed_send_has_the_status_of_its_cause_and_what_may_be_there_may_be_repeated() {
        let wait = Duration::from_secs(1);
        let bad_login =
            SendError::BadCredentials { username: "a".into(), origin: CredentialsOrigin::Given };
        for (error, status) in [
            (SendError::TooLarge { bytes: 2, bytes_max: 1 }, Status::BadData),
            (refused(422, Some(ProblemCode::IdReused)), Status::BadData),
            (refused(413, None), Status::BadData),
            (refused(401, None), Status::NotPermitted),
            (refused(403, None), Status::NotPermitted),
            (refused(408, None), Status::TryLater),
            (refused(429, None), Status::TryLater),
            (refused(503, None), Status::TryLater),
            (refused(302, None), Status::Unreachable),
            (refused(400, None), Status::Unreachable),
            (refused(404, None), Status::Unreachable),
            (refused(405, None), Status::Unreachable),
            (refused(403, Some(ProblemCode::CertificateRevoked)), Status::NotPermitted),
            (refused(400, Some(ProblemCode::MalformedEnvelope)), Status::NotPermitted),
            (bad_login.clone(), Status::NotPermitted),
            (refused(429, Some(ProblemCode::TooManyAttempts)), Status::TryLater),
            (refused(503, Some(ProblemCode::InboxFull)), Status::TryLater),
            (refused(500, Some(ProblemCode::InternalError)), Status::TryLater),
            (refused(400, Some(ProblemCode::StaleEnvelope)), Status::TryLater),
            (refused(404, Some(ProblemCode::NotFound)), Status::Unreachable),
            (unreachable(), Status::Unreachable),
            (no_answer(), Status::TryLater),
            (late(Outcome::NeverArrived, unreachable()), Status::Unreachable),
            (late(Outcome::NotKnown, unreachable()), Status::TryLater),
            (late(Outcome::Refused, refused(503, Some(ProblemCode::IdsFull))), Status::TryLater),
            (SendError::InDoubt { last: Box::new(bad_login.clone()) }, Status::TryLater),
            // The message was not sent.
            (SendError::LoginFailed { last: Box::new(no_answer()) }, Status::Unreachable),
            (SendError::LoginFailed { last: Box::new(bad_login) }, Status::NotPermitted),
            (
                SendError::LoginFailed {
                    last: Box::new(refused(503, Some(ProblemCode::Unavailable))),
                },
                Status::TryLater,
            ),
            (SendError::NoReply { reason: NoReply::NotInTime { wait } }, Status::TryLater),
            (SendError::NoReply { reason: NoReply::NotGiven }, Status::Failed),
            (SendError::Stopped, Status::Internal),
        ] {
            assert_eq!(Status::from(&error), status, "{error:?}");
        }
    }

    #[test]
    fn the_commands_of_the_python_tool_have_its_statuses_and_others_those_of_sysexits() {
        let all = [
            (Status::Failed, 1),
            (Status::BadData, 65),
            (Status::Unreachable, 69),
            (Status::Internal, 70),
            (Status::TryLater, 75),
            (Status::NotPermitted, 77),
        ];
        for (status, number) in all {
            assert_eq!(Statuses::Sysexits.number(status), number);
            assert_eq!(Statuses::PythonTool.number(status), 1);
        }
    }
}

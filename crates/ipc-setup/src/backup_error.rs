//! Why a sealed backup cannot be restored.
//!
//! `sealed_stream`, `archive` and `restore` make these, and the errors of this crate hold one.

use thiserror::Error;

use crate::bundle_error::{CODE_CHARS, GROUP_CHARS};

/// Why a backup cannot be restored. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BackupFileError {
    /// The file begins in another way than a backup.
    #[error("it is not a sealed backup")]
    NotABackup,
    /// It is a directory, such as the copy that [`Backup`](crate::Backup) makes.
    #[error("it is a directory, and not a sealed backup")]
    Directory,
    /// The code has another length or other characters.
    #[error("a code has {CODE_CHARS} letters and digits in groups of {GROUP_CHARS}")]
    MalformedCode,
    /// The code is that of another file.
    #[error("the code does not open this backup")]
    WrongCode,
    /// Bytes are not what they were when it was made.
    #[error("the backup was changed or damaged")]
    Damaged,
    /// The end is missing.
    #[error("the backup is cut short: its end is missing")]
    Truncated,
    /// It was made by a newer version, or asks for more memory or time than is allowed.
    #[error("this version cannot read the backup")]
    Unsupported,
    /// What is sealed in it is no complete home.
    #[error("what is in the backup is not a whole home: it lacks {}", missing.join(", "))]
    NotWhole {
        /// The names of the files that it lacks.
        missing: Vec<&'static str>,
    },
}

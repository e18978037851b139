//! The errors of a user store.
//!
//! Every fallible call of the crate returns one. A message does not contain the remedy: the program
//! that prints it names its own commands.

use std::error::Error;

use ipc_base::Remedy;
use ipc_sqlite::DatabaseError;

use crate::hashing::HashingError;
use crate::username::{Username, printable};

/// Why a call to a store failed. It never contains a password or a hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The user to be added exists already.
    #[error("user {username} exists already")]
    Taken {
        /// The name of the existing user.
        username: Username,
    },
    /// The user to be deleted or changed does not exist.
    #[error("user {} does not exist", printable(username))]
    Unknown {
        /// The name, as it was presented.
        username: String,
    },
    /// The database file is missing, damaged, locked, or unusable for another reason.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A store of another kind than SQLite could not be read or changed. The cause is shown in the
    /// place of this error.
    #[error(transparent)]
    Storage {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store cannot be reached at the moment: its server is down, or the connection to it is
    /// broken. The same call may succeed later. The cause is shown in the place of this error.
    #[error(transparent)]
    Unavailable {
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Users to be imported are there already, with another password or other rights.
    #[error("{} there already, with another password or other rights: {}",
        if usernames.len() == 1 { "a user is" } else { "users are" }, few(usernames))]
    Differs {
        /// Who they are.
        usernames: Vec<Username>,
    },
    /// This kind of store does not support the call: its users are managed elsewhere.
    #[error("users of this store cannot be changed or listed here")]
    Unsupported,
    /// bcrypt could not be run: the system provided no randomness, or the async runtime is shutting
    /// down.
    #[error("the password cannot be hashed")]
    Hashing {
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// How many names a message has at most.
const NAMES_SHOWN_MAX: usize = 10;

fn few(usernames: &[Username]) -> String {
    let shown: Vec<_> = usernames.iter().take(NAMES_SHOWN_MAX).map(Username::as_str).collect();
    let more = if usernames.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

impl StoreError {
    /// What a person can do about the error; `None` if only the cause tells. A lost or damaged file
    /// without a backup requires a new home.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Taken { username } => Some(
                Remedy::ChooseUserName
                    .or(Remedy::ChangePassword { user: username.as_str().to_owned() }),
            ),
            Self::Unknown { .. } => Some(Remedy::ListUsers),
            Self::Database(error) => match error.remedy()? {
                restore @ (Remedy::RestoreFile { .. } | Remedy::RestoreLog { .. }) => {
                    Some(restore.or(Remedy::ReplaceHome))
                }
                other => Some(other),
            },
            Self::Storage { .. }
            | Self::Unavailable { .. }
            | Self::Differs { .. }
            | Self::Unsupported
            | Self::Hashing { .. } => None,
        }
    }
}

impl From<HashingError> for StoreError {
    fn from(error: HashingError) -> Self {
        Self::Hashing { source: error.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_damaged_file_is_put_back_or_takes_a_new_home() {
        let (what, path) = ("user database", std::path::PathBuf::from("/x/users.db"));
        let damaged = StoreError::from(DatabaseError::Corrupt { what, path: path.clone() });
        let restore = Remedy::RestoreFile { path: path.clone() };
        assert_eq!(damaged.remedy(), Some(restore.or(Remedy::ReplaceHome)));
        let busy = StoreError::from(DatabaseError::Busy { what, path });
        assert_eq!(busy.remedy(), Some(Remedy::WaitForOther));
    }

    #[test]
    fn a_name_that_is_taken_can_have_another_password() {
        let taken = StoreError::Taken { username: Username::parse("ada").unwrap() };
        let change = Remedy::ChangePassword { user: "ada".into() };
        assert_eq!(taken.remedy(), Some(Remedy::ChooseUserName.or(change)));
        let unknown = StoreError::Unknown { username: "bob".into() };
        assert_eq!(unknown.remedy(), Some(Remedy::ListUsers));
    }
}

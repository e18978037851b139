//! What can go wrong with a store.
//!
//! Every fallible call of the crate comes out here. A remedy is not part of a message: the program
//! that prints it names its own commands.

use std::error::Error;

use ipc_base::Remedy;
use ipc_sqlite::DatabaseError;

use crate::hashing::HashingError;
use crate::username::{Username, printable};

/// Why a store did not do what it was asked to do. Never holds a password or a hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The user to be added exists already.
    #[error("user {username} exists already")]
    Taken {
        /// Whose name is taken.
        username: Username,
    },
    /// The user to be deleted or changed does not exist.
    #[error("user {} does not exist", printable(username))]
    Unknown {
        /// Who is not there, as it was presented.
        username: String,
    },
    /// The database file is missing, damaged, locked, or otherwise not to be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A store of another kind than SQLite could not be asked or changed.
    #[error("the store of the users cannot be used")]
    Storage {
        /// What it reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// This kind of store has no such thing: users are managed elsewhere.
    #[error("this store of users cannot be changed or listed here")]
    Unsupported,
    /// bcrypt could not be run: the system gave no randomness, or the async runtime is shutting
    /// down.
    #[error("the password cannot be hashed")]
    Hashing {
        /// What was reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// What a person can do about it; `None` where only the cause can tell. A file of users that is
    /// lost or damaged, and of which there is no copy, takes a new home.
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
            Self::Storage { .. } | Self::Unsupported | Self::Hashing { .. } => None,
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

//! What can go wrong with a store.
//!
//! Every fallible call of the crate comes out here. A remedy is not part of a message: the program
//! that prints it knows its own commands.

use std::error::Error;

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

impl From<HashingError> for StoreError {
    fn from(error: HashingError) -> Self {
        Self::Hashing { source: error.0 }
    }
}

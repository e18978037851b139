//! What a store must bring along for the suite, and functions for names and passwords.

use ipc_store::{CredentialVersion, Password, UserStore, Username};

/// A database of one test, without users.
pub(crate) trait Place {
    type Store: UserStore;

    /// Another store on it, which hashes at the lowest cost and answers from the database.
    async fn open(&self) -> Self::Store;

    /// Binds all users to `peer` as another program would.
    async fn bind_all_to(&self, peer: &'static str);
}

pub(crate) fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) fn password(text: &str) -> Password {
    Password::parse(text.to_owned()).unwrap()
}

/// The version of a user who may have sessions.
pub(crate) async fn version(store: &impl UserStore, user: &str) -> Option<CredentialVersion> {
    store.current(&name(user)).await.unwrap().map(|user| user.credential_version)
}

pub(crate) async fn names(store: &impl UserStore) -> Vec<String> {
    store.list().await.unwrap().iter().map(ToString::to_string).collect()
}

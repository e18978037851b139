//! A temporary user for the test. Only the server of this process knows it, and it is in no file.
//!
//! `--test` comes here if the home's admin was deleted. All other users are those of the home.

use std::io;
use std::sync::Arc;

use ipc_home::{ADMIN_USERNAME, Home};
use ipc_setup::{SetupError, user_store};
use ipc_store::{
    BoxFuture, CredentialVersion, CurrentUser, LoginTally, Password, PeerSighting, StoreError,
    UserStore, Username,
};
use zeroize::Zeroizing;

use crate::error::Failure;

/// A user store with one temporary user and all users of the home.
pub(crate) struct TestUser {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<String>,
    version: CredentialVersion,
    users: Arc<dyn UserStore>,
}

impl TestUser {
    /// Makes the temporary user, unless the home still has its admin.
    pub(crate) async fn unless_admin_is_there(home: &Home) -> Result<Option<Arc<Self>>, Failure> {
        let users = user_store(home).await?;
        let admin = Username::parse(ADMIN_USERNAME).expect("a name like others");
        if users.current(&admin).await.map_err(SetupError::from)?.is_some() {
            users.close().await;
            return Ok(None);
        }
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(|error| {
            Failure::of(&io::Error::other(error), None).while_doing("cannot draw a password")
        })?;
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let (name, rest) = random.split_at(8);
        let (version, password) = rest.split_at(8);
        Ok(Some(Arc::new(Self {
            name: format!("ipc-test-{}", hex(name)),
            password: Zeroizing::new(hex(password)),
            version: CredentialVersion::from_bytes(version.try_into().expect("8 bytes")),
            users,
        })))
    }
}

impl UserStore for TestUser {
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.users.add(username, password)
    }

    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.users.delete(username)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        self.users.list()
    }

    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        if username != self.name {
            return self.users.verify(username, password);
        }
        // In constant time, so that the time does not tell how much of the password was right.
        let difference = self
            .password
            .bytes()
            .zip(password.bytes())
            .fold(0, |sum, (one, other)| sum | (one ^ other));
        let is_right = difference == 0 && self.password.len() == password.len();
        Box::pin(async move { Ok(is_right.then_some(self.version)) })
    }

    fn change_password<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.users.change_password(username, password)
    }

    fn current<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        if username.as_str() != self.name {
            return self.users.current(username);
        }
        Box::pin(async move { Ok(Some(CurrentUser::new(self.version))) })
    }

    fn note_logins<'a>(
        &'a self,
        tallies: &'a [LoginTally],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.users.note_logins(tallies)
    }

    fn record_sightings<'a>(
        &'a self,
        sightings: &'a [PeerSighting],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.users.record_sightings(sightings)
    }
}

//! Makes and compares password hashes, for a store of another kind than SQLite.

use std::fmt;

use zeroize::Zeroizing;

use crate::hashing::{Hasher, Verdict};
use crate::username::printable;
use crate::{CredentialVersion, Options, Password, StoreError, StoredUser};

/// Makes bcrypt hashes, and compares them with passwords, as [`SqliteUserStore`] does: on separate
/// threads, no more of them at once than the machine has cores.
///
/// [`SqliteUserStore`]: crate::SqliteUserStore
pub struct PasswordHasher(Hasher);

impl Options {
    /// A hasher with the [cost](Self::bcrypt_cost) of these options.
    #[must_use]
    pub fn password_hasher(self) -> PasswordHasher {
        PasswordHasher(Hasher::new(self.bcrypt_cost))
    }
}

impl PasswordHasher {
    /// A new hash of `password` with its salt: 60 characters that begin with `$2b$`.
    ///
    /// # Errors
    /// [`StoreError::Hashing`].
    pub async fn hash(&self, password: &Password) -> Result<String, StoreError> {
        Ok(self.0.hash(password).await?.to_string())
    }

    /// Compares `presented`, of any length and form, with the `stored` hash. Returns the hash's
    /// version, or `None` if they do not match. Without a hash, as for an unknown user, the result
    /// is `None` and takes as long as for a wrong password. If the text is not a hash, the result
    /// is `None` too, with a warning in the log.
    ///
    /// # Errors
    /// [`StoreError::Hashing`].
    pub async fn verify(
        &self,
        stored: Option<&str>,
        presented: &str,
    ) -> Result<Option<CredentialVersion>, StoreError> {
        let hash = stored.map(|stored| Zeroizing::new(stored.to_owned()));
        Ok(match self.0.verify(hash, presented).await? {
            Verdict::Right => stored.map(CredentialVersion::of_hash),
            Verdict::Wrong => None,
            Verdict::UnreadableHash => {
                log::warn!("a user cannot log in: bcrypt cannot read the stored hash");
                None
            }
        })
    }

    /// Checks a login as [`UserStore::verify`](crate::UserStore::verify) describes it, with the
    /// user that the store has under this name, if any. Takes one bcrypt whoever it is.
    ///
    /// # Errors
    /// [`StoreError::Hashing`].
    pub async fn check(
        &self,
        username: &str,
        stored: Option<&StoredUser>,
        presented: &str,
    ) -> Result<Option<CredentialVersion>, StoreError> {
        self.0.check(username, stored, presented).await
    }
}

impl Hasher {
    /// Checks a login of the user of this name, as [`UserStore::verify`](crate::UserStore::verify)
    /// describes it.
    pub(crate) async fn check(
        &self,
        username: &str,
        stored: Option<&StoredUser>,
        presented: &str,
    ) -> Result<Option<CredentialVersion>, StoreError> {
        let hash = stored.map(|user| Zeroizing::new(user.password_hash().to_owned()));
        match (self.verify(hash, presented).await?, stored) {
            // Only now: the time must not tell that the user is disabled. Only somebody who knows
            // the password gets this into the log.
            (Verdict::Right, Some(user)) if user.record.is_disabled => {
                log::info!("the user {} is disabled: login refused", printable(username));
                Ok(None)
            }
            (Verdict::Right, user) => Ok(user.map(StoredUser::credential_version)),
            (Verdict::Wrong, _) => Ok(None),
            (Verdict::UnreadableHash, _) => {
                log::warn!(
                    "the stored password hash of user {} is not a bcrypt hash: set a new password",
                    printable(username)
                );
                Ok(None)
            }
        }
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_belongs_to_its_hash_alone_and_to_no_text_that_is_none() {
        let hasher = Options::new().bcrypt_cost_for_tests().password_hasher();
        let hash = hasher.hash(&Password::parse("pass321".to_owned()).unwrap()).await.unwrap();
        let version = hasher.verify(Some(&hash), "pass321").await.unwrap();
        assert_eq!(version, Some(CredentialVersion::of_hash(&hash)));
        for (stored, presented) in
            [(Some(&*hash), "pass322"), (None, "pass321"), (Some("pass321"), "pass321")]
        {
            assert_eq!(hasher.verify(stored, presented).await.unwrap(), None, "{stored:?}");
        }
    }
}

//! What a store says of a user or of a certificate, and what a server tells it.
//!
//! [`UserStore`](crate::UserStore) takes and returns these. They are plain values: nothing here
//! reads or writes.

use std::collections::HashMap;
use std::fmt;

use ipc_base::PeerName;
use ipc_protocol::Fingerprint;
use zeroize::Zeroizing;

use crate::{CredentialVersion, Username};

/// A user who may have sessions, as the user is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentUser {
    /// Sessions with another version have ended.
    pub credential_version: CredentialVersion,
    /// The peer whose certificate alone the user may use; `None` for any.
    pub bound_peer: Option<PeerName>,
}

impl CurrentUser {
    /// A user with these credentials, who may use any certificate.
    #[must_use]
    pub fn new(credential_version: CredentialVersion) -> Self {
        Self { credential_version, bound_peer: None }
    }

    /// The same user, who may use only certificates of `peer`.
    #[must_use]
    pub fn bound_to(self, peer: PeerName) -> Self {
        Self { bound_peer: Some(peer), ..self }
    }

    /// Whether the user may use a certificate of this peer. The case of ASCII letters does not
    /// matter. `None` is a connection without a certificate, or a certificate without a peer name.
    #[must_use]
    pub fn may_use(&self, peer: Option<&PeerName>) -> bool {
        self.bound_peer.as_ref().is_none_or(|bound| {
            peer.is_some_and(|peer| peer.as_str().eq_ignore_ascii_case(bound.as_str()))
        })
    }
}

/// A user in a list, with all that a store knows of the user. Times are seconds since the Unix
/// epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserRecord {
    /// The user's name.
    pub username: Username,
    /// When the user was added; `None` for users from before this was noted.
    pub created_at: Option<u64>,
    /// When the user last logged in, to within seconds; `None` for never, and for logins from
    /// before this was noted.
    pub last_login_at: Option<u64>,
    /// How many logins failed since the last one that succeeded.
    pub failed_logins: u64,
    /// Whether the user may not log in.
    pub is_disabled: bool,
    /// The peer whose certificate alone the user may use, as it is stored; `None` for any.
    pub bound_peer: Option<String>,
}

impl UserRecord {
    /// A user of whom nothing else is known.
    #[must_use]
    pub fn new(username: Username) -> Self {
        Self {
            username,
            created_at: None,
            last_login_at: None,
            failed_logins: 0,
            is_disabled: false,
            bound_peer: None,
        }
    }
}

/// A user with everything that a store keeps, for a copy in another store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredUser {
    /// What a list says of the user.
    pub record: UserRecord,
    /// How often the user was disabled: sessions from before have ended.
    pub times_disabled: u64,
    password_hash: Zeroizing<String>,
}

impl StoredUser {
    /// A user with this bcrypt hash.
    #[must_use]
    pub fn new(record: UserRecord, password_hash: String, times_disabled: u64) -> Self {
        Self { record, times_disabled, password_hash: Zeroizing::new(password_hash) }
    }

    /// The bcrypt hash of the password. A secret: who has it can try passwords.
    #[must_use]
    pub fn password_hash(&self) -> &str {
        &self.password_hash
    }

    /// The version of the user's credentials, which is the same in every copy.
    #[must_use]
    pub fn credential_version(&self) -> CredentialVersion {
        match self.times_disabled {
            0 => CredentialVersion::of_hash(&self.password_hash),
            times => {
                let text = Zeroizing::new(format!("{} {times}", *self.password_hash));
                CredentialVersion::of_hash(&text)
            }
        }
    }

    /// What [`UserStore::current`](crate::UserStore::current) says of the user: `None` for a user
    /// who is disabled, or bound to what cannot be a peer name.
    #[must_use]
    pub fn current(&self) -> Option<CurrentUser> {
        if self.record.is_disabled {
            return None;
        }
        let user = CurrentUser::new(self.credential_version());
        match self.record.bound_peer.as_deref().map(PeerName::parse) {
            None => Some(user),
            Some(Ok(peer)) => Some(user.bound_to(peer)),
            Some(Err(error)) => {
                // No certificate has that name.
                let name = &self.record.username;
                log::warn!("the user {name} is bound to no valid peer name: {error}");
                None
            }
        }
    }

    /// Whether the other is the same user with the same rights. What was only noted of logins does
    /// not matter.
    #[must_use]
    pub fn has_same_rights(&self, other: &Self) -> bool {
        let rights = |user: &Self| {
            let record = &user.record;
            (record.is_disabled, record.created_at, record.bound_peer.clone(), user.times_disabled)
        };
        self.record.username == other.record.username
            && self.password_hash == other.password_hash
            && rights(self) == rights(other)
    }
}

impl fmt::Debug for StoredUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredUser")
            .field("record", &self.record)
            .field("times_disabled", &self.times_disabled)
            .finish_non_exhaustive()
    }
}

/// What an import did, in numbers of users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Users who were not there.
    pub added: usize,
    /// Users who were there with the same rights. They stay as they are.
    pub unchanged: usize,
    /// Users who were there with other rights, and have those of the import now.
    pub overwritten: usize,
}

/// What an import has to write. A store makes it of the users it has, within the transaction that
/// writes.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportPlan<'a> {
    /// Users to add, in this order.
    pub add: Vec<&'a StoredUser>,
    /// Users whose rights are to be replaced.
    pub overwrite: Vec<&'a StoredUser>,
    /// How many stay as they are.
    pub unchanged: usize,
}

impl<'a> ImportPlan<'a> {
    /// Compares the users to import with those that are there.
    ///
    /// # Errors
    /// [`StoreError::Differs`](crate::StoreError::Differs) if users are there with other rights and
    /// are not to be overwritten.
    pub fn new(
        import: &'a [StoredUser],
        there: &[StoredUser],
        may_overwrite: bool,
    ) -> Result<Self, crate::StoreError> {
        let there: HashMap<_, _> = there.iter().map(|user| (&user.record.username, user)).collect();
        let mut plan = Self { add: Vec::new(), overwrite: Vec::new(), unchanged: 0 };
        for user in import {
            match there.get(&user.record.username) {
                None => plan.add.push(user),
                Some(same) if same.has_same_rights(user) => plan.unchanged += 1,
                Some(_) => plan.overwrite.push(user),
            }
        }
        if !plan.overwrite.is_empty() && !may_overwrite {
            let usernames =
                plan.overwrite.iter().map(|user| user.record.username.clone()).collect();
            return Err(crate::StoreError::Differs { usernames });
        }
        Ok(plan)
    }

    /// The numbers of the plan.
    #[must_use]
    pub fn imported(&self) -> Imported {
        Imported {
            added: self.add.len(),
            unchanged: self.unchanged,
            overwritten: self.overwrite.len(),
        }
    }
}

/// The logins of one user during a few seconds, as a server counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginTally {
    /// The name that was presented. There may be no such user.
    pub username: Username,
    /// When a login last succeeded, in seconds since the Unix epoch; `None` if none did.
    pub succeeded_at: Option<u64>,
    /// How many logins failed, after that one if there was one.
    pub failed: u64,
}

impl LoginTally {
    /// A tally of no logins.
    #[must_use]
    pub fn new(username: Username) -> Self {
        Self { username, succeeded_at: None, failed: 0 }
    }

    /// Counts a login that succeeded.
    pub fn succeeded(&mut self, at_secs: u64) {
        self.succeeded_at = self.succeeded_at.max(Some(at_secs));
        self.failed = 0;
    }

    /// Counts a login that failed.
    pub fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }
}

/// A certificate that a server has seen, as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerSighting {
    /// The certificate's SHA-256.
    pub fingerprint: Fingerprint,
    /// The peer name in it.
    pub name: Option<PeerName>,
    /// Its serial number, in lower-case hexadecimal.
    pub serial: Option<String>,
    /// When it was seen last, in seconds since the Unix epoch.
    pub last_seen_at: u64,
    /// The user who last used it.
    pub user: Option<Username>,
    /// The envelope key that it last used, by its short id.
    pub envelope_key_id: Option<String>,
}

impl PeerSighting {
    /// A certificate that was seen, with nothing else known of it.
    #[must_use]
    pub fn new(fingerprint: Fingerprint, last_seen_at: u64) -> Self {
        Self {
            fingerprint,
            name: None,
            serial: None,
            last_seen_at,
            user: None,
            envelope_key_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_user_may_use_certificates_of_that_peer_alone_and_another_user_any() {
        let user = CurrentUser::new(CredentialVersion::from_bytes([1; 8]));
        let peer = |name| PeerName::parse(name).unwrap();
        assert!(user.may_use(None) && user.may_use(Some(&peer("any"))));
        let bound = user.bound_to(peer("Worker1"));
        assert!(bound.may_use(Some(&peer("worker1"))));
        for other in [None, Some(&peer("worker2")), Some(&peer("worker1.local"))] {
            assert!(!bound.may_use(other), "{other:?}");
        }
    }

    #[test]
    fn a_login_that_succeeds_clears_the_failures_before_it() {
        let mut tally = LoginTally::new(Username::parse("bob").unwrap());
        tally.failed();
        tally.succeeded(7);
        tally.failed();
        assert_eq!((tally.succeeded_at, tally.failed), (Some(7), 1));
        tally.succeeded(5);
        assert_eq!((tally.succeeded_at, tally.failed), (Some(7), 0), "the clock went back");
    }
}

//! What a store says of a user or of a certificate, and what a server tells it.
//!
//! [`UserStore`](crate::UserStore) takes and returns these. They are plain values: nothing here
//! reads or writes.

use ipc_base::PeerName;
use ipc_protocol::Fingerprint;

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

//! What the store of users is told of logins and certificates, gathered for some seconds: a flood
//! of logins is one write.
//!
//! `routes` comes here with each login, `server` with the time to write.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipc_protocol::Fingerprint;
use ipc_store::{LoginTally, PeerSighting, UserStore, Username};

use crate::peer::Peer;

/// How many users, and how many certificates, are gathered at most between two writes. Logins of
/// others are not noted meanwhile.
const GATHERED_MAX: usize = 1000;

/// What was gathered since the last write.
#[derive(Debug, Default)]
pub(crate) struct LoginNotes(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    tallies: HashMap<Username, LoginTally>,
    sightings: HashMap<Fingerprint, PeerSighting>,
    /// The last write failed, and the log has it.
    is_failing: bool,
}

impl LoginNotes {
    /// Notes a login that failed. Names that no user can have are not noted.
    pub(crate) fn failed(&self, username: &str) {
        if let Ok(username) = Username::parse_existing(username) {
            self.gathered().tally(username, LoginTally::failed);
        }
    }

    /// Notes a login that succeeded, and its certificate. `key_id` is the short id of the key that
    /// sealed it.
    pub(crate) fn succeeded(
        &self,
        username: &str,
        peer: &Peer,
        key_id: Option<String>,
        now_secs: u64,
    ) {
        let Ok(username) = Username::parse_existing(username) else { return };
        let mut gathered = self.gathered();
        if let Some(fingerprint) = peer.certificate {
            let mut seen = PeerSighting::new(fingerprint, now_secs);
            seen.name = peer.name().cloned();
            seen.serial = peer.facts.as_ref().map(|facts| facts.serial.to_string());
            seen.user = Some(username.clone());
            seen.envelope_key_id = key_id;
            if gathered.sightings.len() < GATHERED_MAX
                || gathered.sightings.contains_key(&fingerprint)
            {
                gathered.sightings.insert(fingerprint, seen);
            }
        }
        gathered.tally(username, |tally| tally.succeeded(now_secs));
    }

    /// Writes what was gathered. What cannot be written is forgotten: logins do not depend on it.
    pub(crate) async fn write(&self, store: &dyn UserStore) {
        let (tallies, sightings) = {
            let mut gathered = self.gathered();
            (mem::take(&mut gathered.tallies), mem::take(&mut gathered.sightings))
        };
        if tallies.is_empty() && sightings.is_empty() {
            return;
        }
        let tallies: Vec<_> = tallies.into_values().collect();
        let sightings: Vec<_> = sightings.into_values().collect();
        let written = async {
            store.note_logins(&tallies).await?;
            store.record_sightings(&sightings).await
        };
        let written = written.await;
        let was_failing = mem::replace(&mut self.gathered().is_failing, written.is_err());
        if let (Err(error), false) = (written, was_failing) {
            log::warn!(
                "the users' database does not take notes of logins: {}",
                ipc_base::chain(&error)
            );
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn tally(&mut self, username: Username, count: impl FnOnce(&mut LoginTally)) {
        if self.tallies.len() < GATHERED_MAX || self.tallies.contains_key(&username) {
            let new = LoginTally::new(username.clone());
            count(self.tallies.entry(username).or_insert(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_is_not_kept() {
        let notes = LoginNotes::default();
        for number in 0..GATHERED_MAX + 500 {
            notes.failed(&format!("user{number}"));
            notes.failed("user0");
            notes.failed("no\0name");
        }
        let gathered = notes.gathered();
        assert_eq!(gathered.tallies.len(), GATHERED_MAX);
        let first = &gathered.tallies[&Username::parse("user0").unwrap()];
        assert_eq!(first.failed as usize, GATHERED_MAX + 501, "who is noted is counted on");
    }
}

//! The keys of a home: listed, rotated, dropped.
//!
//! The command line comes here. A ring is a file with a key a line: the first seals, all open. A
//! new key gets a comment line with the time at which it was made, which readers of the ring
//! ignore.

use std::collections::BTreeMap;

use ipc_envelope::{KEYS_MAX, Key, KeyError, KeyRing, keys_from_text};
use ipc_home::{Home, HomeError, Timestamp, read_secret};
use ipc_store::PeerSighting;
use zeroize::Zeroizing;

use crate::certificates::{ListedCertificate, list_certificates};
use crate::key_id::{KeyId, Ring};
use crate::lock::Lock;
use crate::random::random_bytes;
use crate::{SetupError, files, node};

/// What begins the comment line before a key, followed by seconds since the Unix epoch.
const MADE: &str = "# made ";

/// A key of a ring, without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedKey {
    /// Its id.
    pub id: KeyId,
    /// When it was made, in seconds since the Unix epoch; `None` for a key that was not made by
    /// [`rotate_keys`].
    pub made_at_secs: Option<u64>,
}

/// The keys of a ring, in its order: the first one seals.
///
/// # Errors
/// [`HomeError::BadKeys`] and its like for a file that is no key ring.
pub fn list_keys(home: &Home, ring: Ring) -> Result<Vec<ListedKey>, SetupError> {
    let list = KeyFile::read(home, ring)?;
    Ok(list.entries.iter().map(Entry::listed).collect())
}

/// Puts a new key before the others of a ring, and says its id. The others still open what they
/// sealed, until [`drop_key`] removes them.
///
/// # Errors
/// [`SetupError::TooManyKeys`] if the ring has no room; what is wrong with the home.
pub fn rotate_keys(home: &Home, ring: Ring, now_secs: u64) -> Result<KeyId, SetupError> {
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    let mut list = KeyFile::read(home, ring)?;
    if list.entries.len() >= KEYS_MAX {
        return Err(SetupError::TooManyKeys { ring, keys_max: KEYS_MAX });
    }
    let entry = Entry {
        key: Key::from_bytes(random_bytes()?),
        made_at_secs: Some(now_secs),
        comments: Vec::new(),
    };
    let id = KeyId::of(&entry.key);
    list.entries.insert(0, entry);
    files::write(&ring.file(home), list.to_text().as_bytes())?;
    Ok(id)
}

/// Who uses a key of the envelope ring, of those who were seen: peers whose last login was sealed
/// with it. Sorted by name. A peer that has logged in since with another certificate counts by that
/// login alone.
#[must_use]
pub fn key_users(id: KeyId, peers: &[PeerSighting]) -> Vec<String> {
    let mut last: BTreeMap<String, &PeerSighting> = BTreeMap::new();
    for peer in peers {
        let Some(name) = &peer.name else { continue };
        let known = last.entry(name.as_str().to_ascii_lowercase()).or_insert(peer);
        if known.last_seen_at < peer.last_seen_at {
            *known = peer;
        }
    }
    let id = id.to_string();
    let uses = |peer: &&PeerSighting| peer.envelope_key_id.as_deref() == Some(id.as_str());
    let names = last.into_values().filter(uses).filter_map(|peer| peer.name.as_ref());
    names.map(ToString::to_string).collect()
}

/// Removes a key of a ring. What it sealed opens no more: sessions of the session ring end, and a
/// client that has no other key of the envelope ring is refused. `peers` are those who were seen,
/// of [`Users::peers`](crate::Users::peers). With `force` a key goes that some of them still use.
///
/// `admin.cred` is sealed with the first key before one of the envelope ring goes.
///
/// # Errors
/// [`SetupError::KeyInUse`] for the first key, the only one included;
/// [`SetupError::KeyStillUsed`] without `force`, if somebody outside this home used the key last
/// whose certificate is still good; [`SetupError::UnknownKey`]; what is wrong with the home.
pub fn drop_key(
    home: &Home,
    ring: Ring,
    id: KeyId,
    peers: &[PeerSighting],
    force: bool,
    now_secs: u64,
) -> Result<(), SetupError> {
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    let mut list = KeyFile::read(home, ring)?;
    let at = list.entries.iter().position(|entry| KeyId::of(&entry.key) == id);
    let Some(at) = at else { return Err(SetupError::UnknownKey { ring, id }) };
    if at == 0 {
        return Err(SetupError::KeyInUse { ring, id, is_only: list.entries.len() == 1 });
    }
    if ring == Ring::Envelope {
        if !force {
            let names = users_elsewhere(home, id, peers, now_secs)?;
            if !names.is_empty() {
                return Err(SetupError::KeyStillUsed { id, names });
            }
        }
        let credentials = home.admin_credentials()?;
        files::step();
        files::commit(home.stage_admin_credentials(&credentials, now_secs, random_bytes()?)?)?;
    }
    list.entries.remove(at);
    files::write(&ring.file(home), list.to_text().as_bytes())
}

/// The users of a key that would be cut off without it. Not those who have a pair in this home,
/// since they follow its files, nor those whose certificates are revoked or have expired.
fn users_elsewhere(
    home: &Home,
    id: KeyId,
    peers: &[PeerSighting],
    now_secs: u64,
) -> Result<Vec<String>, SetupError> {
    let mut names = key_users(id, peers);
    if names.is_empty() {
        return Ok(names);
    }
    let list = list_certificates(home)?;
    names.retain(|name| {
        let named =
            || list.certificates.iter().filter(|one| one.name.eq_ignore_ascii_case(name.as_str()));
        let is_here = named().any(|one| one.pair.is_some());
        let is_good =
            |one: &ListedCertificate| one.revoked_at_secs.is_none() && !one.is_expired(now_secs);
        // A certificate that is not listed may be good.
        !is_here && (named().count() == 0 || named().any(is_good))
    });
    Ok(names)
}

/// A key file with its comments, in its order.
struct KeyFile {
    entries: Vec<Entry>,
    /// Lines behind the last key.
    rest: Vec<String>,
}

/// A key with the lines before it.
struct Entry {
    key: Key,
    made_at_secs: Option<u64>,
    /// Comments that somebody wrote.
    comments: Vec<String>,
}

impl Entry {
    fn listed(&self) -> ListedKey {
        ListedKey { id: KeyId::of(&self.key), made_at_secs: self.made_at_secs }
    }
}

impl KeyFile {
    fn read(home: &Home, ring: Ring) -> Result<Self, SetupError> {
        // Names what is wrong with it, a key in both rings included.
        let _: KeyRing = match ring {
            Ring::Envelope => home.envelope_keys()?,
            Ring::Session => home.session_keys()?,
        };
        let path = ring.file(home);
        let bytes = read_secret(&path)?;
        let bad = |source: KeyError| HomeError::BadKeys { path: path.clone(), source };
        let text = std::str::from_utf8(&bytes).map_err(|_| bad(KeyError::NoKeys))?;
        let (mut entries, mut comments, mut made_at_secs) = (Vec::new(), Vec::new(), None);
        for line in text.lines().map(str::trim_ascii).filter(|line| !line.is_empty()) {
            if let Some(made) = line.strip_prefix(MADE) {
                made_at_secs = made.split(' ').next().and_then(|secs| secs.parse().ok());
            } else if line.starts_with('#') {
                comments.push(line.to_owned());
            } else {
                let key = keys_from_text(line).map_err(bad)?.pop().ok_or(bad(KeyError::NoKeys))?;
                let comments = std::mem::take(&mut comments);
                entries.push(Entry { key, made_at_secs: made_at_secs.take(), comments });
            }
        }
        Ok(Self { entries, rest: comments })
    }

    fn to_text(&self) -> Zeroizing<String> {
        let comment_bytes: usize = self
            .entries
            .iter()
            .flat_map(|entry| &entry.comments)
            .chain(&self.rest)
            .map(|line| line.len() + 1)
            .sum();
        // Room for everything at once: text that grows would leave copies of the keys behind.
        let mut text =
            Zeroizing::new(String::with_capacity(comment_bytes + self.entries.len() * 128));
        for entry in &self.entries {
            for comment in &entry.comments {
                text.push_str(comment);
                text.push('\n');
            }
            if let Some(secs) = entry.made_at_secs {
                text.push_str(&format!("{MADE}{secs} ({})\n", Timestamp::from_unix_secs(secs)));
            }
            text.push_str(&entry.key.to_base64url());
            text.push('\n');
        }
        for comment in &self.rest {
            text.push_str(comment);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use ipc_base::Remedy;
    use ipc_home::PeerName;
    use ipc_store::Fingerprint;

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{
        EnrolRequest, InitOptions, RevocationReason, create_enrolment, revoke_certificates,
    };

    const NOW_SECS: u64 = 1_750_000_000;

    fn ids(home: &Home, ring: Ring) -> Vec<KeyId> {
        list_keys(home, ring).unwrap().iter().map(|key| key.id).collect()
    }

    #[test]
    fn a_new_key_is_the_first_and_the_old_ones_still_open() {
        let (_directory, home) = new_home();
        for ring in [Ring::Envelope, Ring::Session] {
            let before = ids(&home, ring);
            let id = rotate_keys(&home, ring, NOW_SECS).unwrap();
            let after = list_keys(&home, ring).unwrap();
            assert_eq!((after[0].id, after[0].made_at_secs), (id, Some(NOW_SECS)));
            assert_eq!((after[1].id, after[1].made_at_secs), (before[0], None));
            assert_eq!(after.len(), 2);
        }
        assert_eq!(home.envelope_keys().unwrap().len(), 2);
        assert_eq!(home.session_keys().unwrap().len(), 2);
        assert_eq!(home.admin_credentials().unwrap().username, "ipc-admin");
    }

    #[test]
    fn comments_stay_with_their_keys() {
        let (_directory, home) = new_home();
        let key = std::fs::read_to_string(home.envelope_keys_file()).unwrap();
        let text = format!("# ours\n\n  {key}# the end\n");
        std::fs::write(home.envelope_keys_file(), text).unwrap();
        rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap();
        let text = std::fs::read_to_string(home.envelope_keys_file()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "# made 1750000000 (2025-06-15T15:06:40Z)");
        assert_eq!(lines[2..], ["# ours", key.trim(), "# the end"]);
    }

    #[test]
    fn a_dropped_key_is_gone_and_the_admin_still_opens() {
        let (_directory, home) = new_home();
        let old = ids(&home, Ring::Envelope)[0];
        let password = home.admin_credentials().unwrap().password;
        let new = rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap();
        drop_key(&home, Ring::Envelope, old, &[], false, NOW_SECS).unwrap();
        assert_eq!(ids(&home, Ring::Envelope), [new]);
        assert_eq!(home.admin_credentials().unwrap().password, password);

        let old = ids(&home, Ring::Session)[0];
        let new = rotate_keys(&home, Ring::Session, NOW_SECS).unwrap();
        drop_key(&home, Ring::Session, old, &[], false, NOW_SECS).unwrap();
        assert_eq!(ids(&home, Ring::Session), [new]);
    }

    #[test]
    fn the_first_key_and_the_only_one_and_unknown_ones_are_not_dropped() {
        let (_directory, home) = new_home();
        let only = ids(&home, Ring::Envelope)[0];
        let drop = |id| drop_key(&home, Ring::Envelope, id, &[], false, NOW_SECS).unwrap_err();
        let error = drop(only);
        assert!(matches!(error, SetupError::KeyInUse { is_only: true, .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::RotateKeys { session: false }));
        let first = rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap();
        let error = drop(first);
        assert!(matches!(error, SetupError::KeyInUse { is_only: false, .. }), "{error:?}");
        let error = drop("00000000".parse().unwrap());
        assert!(matches!(error, SetupError::UnknownKey { .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::ListKeys));
        // A key of the other ring is none of this one.
        let error = drop(ids(&home, Ring::Session)[0]);
        assert!(matches!(error, SetupError::UnknownKey { .. }), "{error:?}");
        assert_eq!(ids(&home, Ring::Envelope), [first, only]);
    }

    fn sighting(name: &str, fingerprint: u8, last_seen_at: u64, key: KeyId) -> PeerSighting {
        let fingerprint = Fingerprint::from_bytes([fingerprint; 32]);
        let mut seen = PeerSighting::new(fingerprint, last_seen_at);
        seen.name = Some(PeerName::parse(name).unwrap());
        seen.envelope_key_id = Some(key.to_string());
        seen
    }

    #[test]
    fn a_peer_uses_the_key_of_its_last_login_alone_whatever_certificate_it_had() {
        let [old, new] = ["00000001", "00000002"].map(|id| id.parse::<KeyId>().unwrap());
        let peers = [
            sighting("worker2", 1, 10, old),
            sighting("worker1", 2, 10, old),
            sighting("worker1", 3, 20, new),
            sighting("worker3", 4, 30, new),
            sighting("worker3", 5, 20, old),
            PeerSighting::new(Fingerprint::from_bytes([6; 32]), 10),
        ];
        assert_eq!(key_users(old, &peers), ["worker2"]);
        assert_eq!(key_users(new, &peers), ["worker1", "worker3"]);
    }

    #[test]
    fn a_key_that_a_client_used_last_goes_by_force_alone() {
        let (_directory, home) = new_home();
        let now_secs = InitOptions::now().now_secs;
        let addresses = ["127.0.0.1:3000".to_owned()];
        for name in ["worker2", "worker1"] {
            create_enrolment(&home, &EnrolRequest::new(name, &addresses, now_secs)).unwrap();
        }
        let old = ids(&home, Ring::Envelope)[0];
        let new = rotate_keys(&home, Ring::Envelope, now_secs).unwrap();
        let peers = [
            sighting("worker2", 1, 10, old),
            sighting("worker1", 2, 10, old),
            sighting("localhost", 3, 10, old),
        ];
        let drop = |force| drop_key(&home, Ring::Envelope, old, &peers, force, now_secs);
        let error = drop(false).unwrap_err();
        assert!(
            matches!(&error, SetupError::KeyStillUsed { id, names }
                if *id == old && *names == ["worker1", "worker2"]),
            "{error:?}"
        );
        assert_eq!(error.remedy(), Some(Remedy::DropUsedKey { id: old.to_string() }));
        assert_eq!(ids(&home, Ring::Envelope), [new, old]);
        // One that has been revoked is refused anyhow.
        revoke_certificates(&home, "worker2", RevocationReason::Unspecified, now_secs).unwrap();
        let error = drop(false).unwrap_err();
        assert_eq!(error.to_string(), format!("{old} in envelope.keys is still used by worker1"));
        drop(true).unwrap();
        assert_eq!(ids(&home, Ring::Envelope), [new]);
    }

    #[test]
    fn a_key_that_only_pairs_of_this_home_and_revoked_clients_used_goes_without_force() {
        let (_directory, home) = new_home();
        let now_secs = InitOptions::now().now_secs;
        let addresses = ["127.0.0.1:3000".to_owned()];
        create_enrolment(&home, &EnrolRequest::new("worker1", &addresses, now_secs)).unwrap();
        revoke_certificates(&home, "worker1", RevocationReason::Unspecified, now_secs).unwrap();
        let old = ids(&home, Ring::Envelope)[0];
        let new = rotate_keys(&home, Ring::Envelope, now_secs).unwrap();
        let peers = [sighting("worker1", 2, 10, old), sighting("localhost", 3, 10, old)];
        drop_key(&home, Ring::Envelope, old, &peers, false, now_secs).unwrap();
        assert_eq!(ids(&home, Ring::Envelope), [new]);
    }

    #[test]
    fn a_ring_takes_no_more_keys_than_are_read() {
        let (_directory, home) = new_home();
        for _ in 1..KEYS_MAX {
            rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap();
        }
        let error = rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap_err();
        assert!(matches!(error, SetupError::TooManyKeys { keys_max: KEYS_MAX, .. }), "{error:?}");
        assert_eq!(home.envelope_keys().unwrap().len(), KEYS_MAX);
    }

    #[test]
    fn a_home_that_is_not_complete_is_refused() {
        let (_directory, home) = new_home();
        std::fs::remove_file(home.admin_cred_file()).unwrap();
        let error = rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::Incomplete { .. })), "{error:?}");
    }

    #[test]
    fn of_eight_rotations_at_once_none_is_lost() {
        let (_directory, home) = new_home();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| rotate_keys(&home, Ring::Envelope, NOW_SECS).unwrap());
            }
        });
        assert_eq!(home.envelope_keys().unwrap().len(), 9);
        assert_eq!(home.admin_credentials().unwrap().username, "ipc-admin");
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_rotates_and_drops() {
        let Some(home) = kills::home_of_child() else { return };
        rotate_then_drop(&Home::at(home));
    }

    /// Drops all but the first key; makes a second one first, where there is one only.
    fn rotate_then_drop(home: &Home) {
        if ids(home, Ring::Envelope).len() == 1 {
            rotate_keys(home, Ring::Envelope, NOW_SECS).unwrap();
        }
        for id in ids(home, Ring::Envelope).into_iter().skip(1) {
            drop_key(home, Ring::Envelope, id, &[], false, NOW_SECS).unwrap();
        }
    }

    #[test]
    fn a_run_killed_at_any_step_leaves_a_ring_that_opens_the_admin() {
        let killed = kills::at_each_step(
            "keys::tests::child_process_rotates_and_drops",
            || {
                let (directory, home) = new_home();
                (directory, home.root().to_owned())
            },
            |home| {
                let home = Home::at(home);
                assert_eq!(home.admin_credentials().unwrap().username, "ipc-admin");
                rotate_then_drop(&home);
                assert_eq!(ids(&home, Ring::Envelope).len(), 1);
                assert_eq!(home.admin_credentials().unwrap().username, "ipc-admin");
                assert!(home.temporary_files().unwrap().is_empty());
            },
        );
        assert_eq!(killed, 9);
    }
}

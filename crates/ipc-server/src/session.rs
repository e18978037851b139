//! Session tokens: a login's result, sealed, so that the server stores no sessions. The time is an
//! argument.
//!
//! A connection caches the token that it opened last, since the next request usually brings the
//! same.

use std::cell::RefCell;
use std::rc::Rc;

use ipc_envelope::KeyRing;
use ipc_protocol::Fingerprint;
use ipc_store::CredentialVersion;
use zeroize::Zeroizing;

/// The content of a token. Layout of the plaintext: version 1 (1 byte), expiry in seconds since the
/// Unix epoch (8, big endian), credential version (8), 1 and the certificate's SHA-256 or 33 zero
/// bytes (33), user name (UTF-8, the rest).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) credential_version: CredentialVersion,
    pub(crate) expires_at_secs: u64,
    /// The certificate that the session was granted to. `None` over plain http.
    pub(crate) certificate: Option<Fingerprint>,
}

const LAYOUT_VERSION: u8 = 1;
const FIXED_BYTES: usize = 1 + 8 + 8 + 33;

/// A longer text is not parsed: the longest user name makes a token of some six hundred characters.
const TOKEN_BYTES_MAX: usize = 1024;

impl Session {
    /// Seals the token as base64url text.
    pub(crate) fn seal(&self, keys: &KeyRing, now_secs: u64, iv: [u8; 16]) -> Zeroizing<String> {
        let mut plaintext = Vec::with_capacity(FIXED_BYTES + self.user.len());
        plaintext.push(LAYOUT_VERSION);
        plaintext.extend_from_slice(&self.expires_at_secs.to_be_bytes());
        plaintext.extend_from_slice(self.credential_version.as_bytes());
        plaintext.push(u8::from(self.certificate.is_some()));
        plaintext.extend_from_slice(
            &self.certificate.map_or([0; 32], |certificate| *certificate.as_bytes()),
        );
        plaintext.extend_from_slice(self.user.as_bytes());
        Zeroizing::new(keys.seal_base64url(&plaintext, now_secs, iv))
    }

    /// Whether the session has not expired.
    pub(crate) fn lasts(&self, now_secs: u64) -> bool {
        now_secs < self.expires_at_secs
    }

    /// Opens a token. Returns `None` if this server's key did not seal it, or if it has expired:
    /// the client logs in again in either case.
    pub(crate) fn open(token: &str, keys: &KeyRing, now_secs: u64) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        // The time in the envelope is when the token was granted; the expiry is inside.
        let plaintext = keys.open_base64url(token.as_bytes(), None).ok()?;
        let (fixed, user) = plaintext.split_first_chunk::<FIXED_BYTES>()?;
        let (version, fixed) = fixed.split_first()?;
        let (expires_at, fixed) = fixed.split_first_chunk()?;
        let (credential_version, fixed) = fixed.split_first_chunk()?;
        let (has_certificate, certificate) = fixed.split_first()?;
        let session = Session {
            user: std::str::from_utf8(user).ok()?.to_owned(),
            credential_version: CredentialVersion::from_bytes(*credential_version),
            expires_at_secs: u64::from_be_bytes(*expires_at),
            certificate: match has_certificate {
                0 => None,
                _ => Some(Fingerprint::from_bytes(certificate.try_into().ok()?)),
            },
        };
        (*version == LAYOUT_VERSION && session.lasts(now_secs)).then_some(session)
    }
}

/// The token that a connection opened last, with its content.
#[derive(Default)]
pub(crate) struct LastSession(RefCell<Option<Last>>);

struct Last {
    token: Zeroizing<String>,
    session: Rc<Session>,
    /// The state of the session keys under which it was opened.
    keys_number: u64,
}

/// The session keys, with the number of the snapshot that they are from: what was opened under
/// another one is opened again, since its key may have been dropped.
#[derive(Clone, Copy)]
pub(crate) struct SessionKeys<'k> {
    pub(crate) ring: &'k KeyRing,
    pub(crate) number: u64,
}

impl LastSession {
    /// Like [`Session::open`], but does not decrypt a token again that equals the last one. Checks
    /// the expiry in either case.
    pub(crate) fn open(
        &self,
        token: &str,
        keys: SessionKeys<'_>,
        now_secs: u64,
    ) -> Option<Rc<Session>> {
        if let Some(last) = &*self.0.borrow()
            && last.keys_number == keys.number
            && last.token.as_str() == token
        {
            return last.session.lasts(now_secs).then(|| Rc::clone(&last.session));
        }
        let session = Rc::new(Session::open(token, keys.ring, now_secs)?);
        self.0.replace(Some(Last {
            token: Zeroizing::new(token.to_owned()),
            session: Rc::clone(&session),
            keys_number: keys.number,
        }));
        Some(session)
    }

    /// Whether the token that was opened last opens with these keys, and has not expired.
    pub(crate) fn still_opens(&self, keys: SessionKeys<'_>, now_secs: u64) -> bool {
        let mut last = self.0.borrow_mut();
        let Some(last) = &mut *last else { return false };
        if last.keys_number != keys.number {
            if Session::open(&last.token, keys.ring, now_secs).is_none() {
                return false;
            }
            last.keys_number = keys.number;
        }
        last.session.lasts(now_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_envelope::Key;

    fn keys(byte: u8) -> KeyRing {
        KeyRing::new(Key::from_bytes([byte; 32]))
    }

    fn of(ring: &KeyRing) -> SessionKeys<'_> {
        SessionKeys { ring, number: 0 }
    }

    fn session(certificate: Option<Fingerprint>) -> Session {
        Session {
            user: "müller".into(),
            credential_version: CredentialVersion::from_bytes([7; 8]),
            expires_at_secs: 3600,
            certificate,
        }
    }

    #[test]
    fn a_token_says_what_was_sealed_into_it() {
        for certificate in
            [None, Some(Fingerprint::from_bytes([0; 32])), Some(Fingerprint::from_bytes([9; 32]))]
        {
            let token = session(certificate).seal(&keys(1), 0, [5; 16]);
            assert_eq!(Session::open(&token, &keys(1), 3599), Some(session(certificate)));
        }
    }

    #[test]
    fn the_token_of_the_longest_name_is_one() {
        let longest = Session { user: "\u{10ffff}".repeat(80), ..session(None) };
        let token = longest.seal(&keys(1), 0, [5; 16]);
        assert!(token.len() <= TOKEN_BYTES_MAX);
        assert_eq!(Session::open(&token, &keys(1), 0), Some(longest));
    }

    #[test]
    fn a_token_ends_with_its_hour() {
        let token = session(None).seal(&keys(1), 0, [5; 16]);
        assert_eq!(Session::open(&token, &keys(1), 3600), None);
        assert_eq!(Session::open(&token, &keys(1), u64::MAX), None);
    }

    #[test]
    fn what_another_key_sealed_is_no_token() {
        let token = session(None).seal(&keys(2), 0, [5; 16]);
        assert_eq!(Session::open(&token, &keys(1), 0), None);
    }

    #[test]
    fn a_sealed_text_of_another_form_is_no_token() {
        for plaintext in [
            &b""[..],
            &[1; 10],
            &[1; FIXED_BYTES - 1],
            &[2; FIXED_BYTES + 4],
            &[1, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            let token = keys(1).seal_base64url(plaintext, 0, [5; 16]);
            assert_eq!(Session::open(&token, &keys(1), 0), None);
        }
        for text in ["", "x", "gAAAAA==", &keys(1).seal_base64url(&[1; 16 << 20], 0, [5; 16])] {
            assert_eq!(Session::open(text, &keys(1), 0), None);
        }
    }

    #[test]
    fn a_token_that_comes_again_says_the_same_until_it_ends_and_another_one_says_its_own() {
        let last = LastSession::default();
        let first = session(None).seal(&keys(1), 0, [5; 16]);
        let second = Session { user: "other".into(), ..session(None) }.seal(&keys(1), 0, [6; 16]);
        for _ in 0..2 {
            assert_eq!(last.open(&first, of(&keys(1)), 3599).as_deref(), Some(&session(None)));
        }
        assert_eq!(last.open(&second, of(&keys(1)), 0).unwrap().user, "other");
        assert_eq!(
            last.open(&second, of(&keys(1)), 3600),
            None,
            "it ends although it is remembered"
        );
        assert_eq!(last.open(&first, of(&keys(2)), 0), None);
        let (head, tail) = first.split_at(first.len() - 2);
        assert_eq!(last.open(&format!("{head}A{tail}"), of(&keys(1)), 0), None);
        assert_eq!(
            last.open(&second, of(&keys(1)), 0).unwrap().user,
            "other",
            "what is no token replaces none"
        );
    }

    #[test]
    fn a_token_is_opened_again_once_the_keys_have_changed() {
        let last = LastSession::default();
        let token = session(None).seal(&keys(1), 0, [5; 16]);
        let (old, dropped) = (keys(1), keys(2));
        let later = |ring| SessionKeys { ring, number: 1 };
        assert!(!last.still_opens(of(&old), 0), "none was opened");
        assert!(last.open(&token, of(&old), 0).is_some());
        assert!(last.still_opens(of(&old), 0) && last.still_opens(later(&old), 0));
        assert!(!last.still_opens(later(&old), 3600), "it ends all the same");
        let last = LastSession::default();
        assert!(last.open(&token, of(&old), 0).is_some());
        assert!(!last.still_opens(later(&dropped), 0));
        assert_eq!(last.open(&token, later(&dropped), 0), None);
    }
}

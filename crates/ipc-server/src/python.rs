//! Reads bodies of peers that run the unmodified Python tool: pickled dicts in envelopes.
//!
//! `routes` comes here where the server accepts such peers. What is not checked here is checked
//! where it is for all others: the envelope, the password, the session. This file does not know
//! what happens to a message afterwards.

use std::time::{Instant, SystemTime};

use ipc_envelope::Freshness;
use ipc_inbox::Message;
use ipc_pickle::{DecodeError, Limits, VALUE_BYTES_MAX, VALUES_MAX_DEFAULT, to_json};
use ipc_protocol::{AUTH_PLAINTEXT_BYTES_MAX, AuthRequest, MessageId, ProblemCode};
use ipc_store::PASSWORD_BYTES_MAX;
use zeroize::Zeroizing;

use crate::admit::{on_a_thread, open};
use crate::authenticate::{self, Sender};
use crate::clock::unix_secs;
use crate::memory_budget::Reservation;
use crate::peer::Peer;
use crate::python_ids::NotOwn;
use crate::python_sessions::PythonSessions;
use crate::refusal::{RETRY_AFTER, Refusal, internal};
use crate::sealed_body::{FREE_BYTES, SealedBody};
use crate::state::State;

/// A login has two values and two keys, each of which may be remembered.
const LOGIN_VALUES_MAX: usize = 64;

/// How many bytes of text a message may have for each byte of its pickle, beyond the first
/// [`FREE_BYTES`]. References make a long text of a short pickle; those of a program that sends a
/// few objects again and again make one some times as long.
const TEXT_RATIO_MAX: usize = 32;

/// The limits of a message whose pickle has this length.
fn limits(pickle_bytes: usize, text_bytes_max: usize) -> Limits {
    let text_bytes = pickle_bytes.saturating_mul(TEXT_RATIO_MAX).saturating_add(FREE_BYTES);
    Limits { text_bytes_max: text_bytes.min(text_bytes_max), values_max: VALUES_MAX_DEFAULT }
}

/// How much memory it takes at most to read a pickle of this length, beside the pickle. As with
/// bodies, the first [`FREE_BYTES`] are not counted.
fn memory(pickle_bytes: usize, limits: &Limits) -> usize {
    let values = pickle_bytes.min(limits.values_max).saturating_mul(VALUE_BYTES_MAX);
    values.saturating_add(limits.text_bytes_max).saturating_sub(FREE_BYTES)
}

/// Whether a plaintext begins like a pickled dict and not like a frame, which begins with `{` or
/// white space: with the protocol's number, or, in protocols 0 and 1, a mark or an empty dict.
pub(crate) fn is_pickle(plaintext: &[u8]) -> bool {
    matches!(plaintext.first(), Some(0x80 | b'(' | b'}'))
}

/// Reads a login. Its envelope is open.
///
/// # Errors
/// 400 if the plaintext is another pickle.
pub(crate) fn login(
    mut sealed: SealedBody,
    freshness: Freshness,
) -> Result<(MessageId, AuthRequest), Refusal> {
    let limits = Limits { text_bytes_max: AUTH_PLAINTEXT_BYTES_MAX, values_max: LOGIN_VALUES_MAX };
    let text = to_json(sealed.open(freshness)?, &limits).map_err(refused)?;
    let text = Zeroizing::new(text);
    let mut credentials = credentials(&text).ok_or_else(|| {
        let detail = "the pickled dict is not {\"username\": …, \"password\": …}";
        Refusal::new(ProblemCode::MalformedFrame, detail)
    })?;
    cut(&mut credentials.password);
    Ok((message_id(&sealed)?, credentials))
}

/// Leaves off what is behind the bytes of a password that bcrypt reads, as the Python tool does: it
/// makes passwords of 128 characters, and its hashes are of the first 72 bytes. Half a character is
/// left off with the rest, since passwords are text here. The tool hashes it, so that such a
/// password does not fit its hash: `docs/from-the-python-tool.md` says so.
fn cut(password: &mut Zeroizing<String>) {
    let length = password.floor_char_boundary(PASSWORD_BYTES_MAX);
    // The bytes behind are wiped, and not only forgotten.
    let kept = Zeroizing::new(password[..length].to_owned());
    *password = kept;
}

/// The credentials that a JSON object holds, if it holds nothing else.
fn credentials(text: &str) -> Option<AuthRequest> {
    // The error of serde_json is dropped, because it could quote the password.
    serde_json::from_str(text).ok()
}

/// Opens an envelope. If it holds a pickle, authenticates its sender and makes a message of it,
/// with the memory that is reserved for it. Otherwise the inner result is the envelope, which is
/// open.
///
/// # Errors
/// Those of every message: 400, 403, 413, 419 and 503.
pub(crate) async fn message(
    sealed: SealedBody,
    peer: &Peer,
    sessions: &PythonSessions,
    state: &State,
) -> Result<Result<(Message, Reservation), SealedBody>, Refusal> {
    let received_at = SystemTime::now();
    let now_secs = unix_secs(received_at);
    let mut sealed = open(sealed, state).await?;
    let freshness = Freshness::at(now_secs);
    if !is_pickle(sealed.open(freshness)?) {
        return Ok(Err(sealed));
    }
    let token = sessions.token(peer);
    let token = token.as_ref().map(|token| token.as_str());
    let session = authenticate::session(token, (None, peer), state, now_secs);
    if let (Err(_), Some(token)) = (&session, token) {
        sessions.forget(peer, token);
    }
    let user = authenticate::user(&*session?, peer, state).await?;
    let id = message_id(&sealed)?;
    let sender = Sender::new(user, peer, received_at, sealed.key_index(), state);
    let text_bytes_max = state.limits.plaintext_bytes_max;
    // References make a long text of a short pickle, so that even a short one is read there.
    let made = on_a_thread(state, move || {
        let pickle_bytes = sealed.open(freshness)?.len();
        let limits = limits(pickle_bytes, text_bytes_max);
        // Here and not before: what waits for a thread holds no memory for its turn.
        if !sealed.reserve_more(memory(pickle_bytes, &limits)) {
            let detail = "the server has no memory to read a pickle of this length at the moment";
            return Err(Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER));
        }
        let text = to_json(sealed.open(freshness)?, &limits).map_err(refused)?;
        if credentials(&text).is_some() {
            drop(Zeroizing::new(text));
            let detail = "a login was sent to the route of messages";
            return Err(Refusal::new(ProblemCode::MalformedFrame, detail));
        }
        let mut reservation = sealed.into_reservation();
        reservation.shrink_to(text.len().saturating_sub(FREE_BYTES));
        Ok((sender.message(id, &text, false), reservation))
    });
    let (message, reservation) = made.await?;
    sessions.message_ids.remember(id, &message.user, Instant::now()).map_err(not_own)?;
    Ok(Ok((message, reservation)))
}

/// The refusal of a message that another user sent before from the same bytes. It is no success: a
/// message that was not stored then would be lost, and one that was is not this user's.
fn not_own(why: NotOwn) -> Refusal {
    match why {
        NotOwn::OfAnother => {
            Refusal::new(ProblemCode::IdReused, "another user sent the same envelope before")
        }
        NotOwn::Full => {
            let detail = "the server remembers as many message ids as it may";
            Refusal::new(ProblemCode::IdsFull, detail).retry_after(RETRY_AFTER)
        }
    }
}

/// The id of a message or a login, made of the MAC of its envelope, which is open: the same token
/// has the same id. A UUID of version 8 (RFC 9562, section 5.8) with the first 122 bits of the MAC
/// that are left beside version and variant.
fn message_id(sealed: &SealedBody) -> Result<MessageId, Refusal> {
    let mac = sealed.mac().ok_or_else(|| internal("reading a MAC", "the envelope is not open"))?;
    Ok(id_of(&mac))
}

fn id_of(mac: &[u8; 32]) -> MessageId {
    let mut id = [0; 16];
    id.copy_from_slice(&mac[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    MessageId::from_bytes(id)
}

/// The refusal of a pickle. The log gets the reason too.
fn refused(error: DecodeError) -> Refusal {
    let code = match error {
        DecodeError::NotADict => ProblemCode::NotAnObject,
        DecodeError::TooLong | DecodeError::TooManyValues => ProblemCode::TooLarge,
        _ => ProblemCode::MalformedFrame,
    };
    Refusal::new(code, error.to_string()).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_no_pickle_and_a_pickled_dict_is_one() {
        for pickle in [&b"\x80\x04}."[..], b"(dp0\n.", b"}q\x00."] {
            assert!(is_pickle(pickle));
        }
        for other in [&b""[..], b"{}", b" {}", b"\n{", b"\t{", b"\r{", b"[", b"]", b"cos\n"] {
            assert!(!is_pickle(other));
        }
    }

    #[test]
    fn a_pickle_becomes_no_longer_than_its_length_allows_and_its_memory_is_known_before() {
        assert_eq!(limits(0, 1 << 24).text_bytes_max, 64 * 1024);
        assert_eq!(limits(1000, 1 << 24).text_bytes_max, 64 * 1024 + 32_000);
        assert_eq!(limits(1000, 1000).text_bytes_max, 1000);
        assert_eq!(limits(1 << 20, 1 << 24).text_bytes_max, 1 << 24);
        let needed = |pickle_bytes| memory(pickle_bytes, &limits(pickle_bytes, 1 << 24));
        assert_eq!(needed(1000), 1000 * 176 + 32_000);
        let values = (1 << 18) * 176;
        assert_eq!(needed(1 << 18), values + 8 * (1 << 20));
        assert_eq!(needed(1 << 24), values + (1 << 24) - 64 * 1024, "there are no more values");
    }

    #[test]
    fn the_id_is_the_beginning_of_the_mac_as_a_uuid_of_version_8() {
        let mac: [u8; 32] = std::array::from_fn(|index| 0xf0 | index as u8 & 0x0f);
        assert_eq!(id_of(&mac).to_string(), "f0f1f2f3-f4f5-86f7-b8f9-fafbfcfdfeff");
        assert_eq!(id_of(&[0; 32]).to_string(), "00000000-0000-8000-8000-000000000000");
    }

    #[test]
    fn a_password_is_cut_after_72_bytes_and_half_a_character_goes_with_the_rest() {
        for (password, kept) in [
            ("", ""),
            ("pass321", "pass321"),
            (&*"x".repeat(72), &*"x".repeat(72)),
            (&"x".repeat(128), &"x".repeat(72)),
            (&"é".repeat(40), &"é".repeat(36)),
            (&format!("{}é", "x".repeat(71)), &"x".repeat(71)),
        ] {
            let mut cut_off = Zeroizing::new(password.to_owned());
            cut(&mut cut_off);
            assert_eq!(*cut_off, kept);
        }
    }

    #[test]
    fn only_a_name_and_a_password_are_credentials() {
        assert!(credentials(r#"{"password":"b","username":"a"}"#).is_some());
        for other in [
            "{}",
            r#"{"username":"a"}"#,
            r#"{"username":"a","password":1}"#,
            r#"{"username":"a","password":"b","c":1}"#,
        ] {
            assert!(credentials(other).is_none(), "{other}");
        }
    }
}

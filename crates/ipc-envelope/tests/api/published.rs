//! Tests the vectors of the Fernet specification. `tests/vectors/fernet/README.md` says where they
//! come from.

use ipc_envelope::{Freshness, Key, KeyRing, OpenError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Generate {
    token: String,
    now: String,
    iv: [u8; 16],
    src: String,
    secret: String,
}

#[derive(Deserialize)]
struct Verify {
    token: String,
    now: String,
    ttl_sec: u64,
    src: String,
    secret: String,
}

#[derive(Deserialize)]
struct Invalid {
    desc: String,
    token: String,
    now: String,
    ttl_sec: u64,
    secret: String,
}

fn ring(secret: &str) -> KeyRing {
    KeyRing::new(Key::from_base64url(secret).unwrap())
}

fn freshness(now: &str, ttl_secs: u64) -> Option<Freshness> {
    Some(Freshness { age_secs_max: ttl_secs, ..Freshness::at(unix_secs(now)) })
}

/// Converts an RFC 3339 time, such as `1985-10-26T01:20:00-07:00`, to seconds since the Unix epoch.
fn unix_secs(rfc3339: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| rfc3339[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let offset_secs =
        (number(20..22) * 60 + number(23..25)) * 60 * if &rfc3339[19..20] == "-" { -1 } else { 1 };
    // Counts days in the proleptic Gregorian calendar. Years begin in March, so that the leap day
    // is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let secs =
        ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19) - offset_secs;
    u64::try_from(secs).unwrap()
}

#[test]
fn the_times_of_the_vectors_are_read_right() {
    assert_eq!(unix_secs("1970-01-01T00:00:00+00:00"), 0);
    assert_eq!(unix_secs("1985-10-26T01:20:00-07:00"), 499_162_800);
    assert_eq!(unix_secs("2000-02-29T23:59:59+01:00"), 951_865_199);
}

#[test]
fn every_published_token_is_made_to_the_byte() {
    let vectors: Vec<Generate> =
        serde_json::from_str(include_str!("../vectors/fernet/generate.json")).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let sealed = ring(&vector.secret).seal_base64url(
            vector.src.as_bytes(),
            unix_secs(&vector.now),
            vector.iv,
        );
        assert_eq!(sealed, vector.token);
    }
}

#[test]
fn every_published_good_token_opens() {
    let vectors: Vec<Verify> =
        serde_json::from_str(include_str!("../vectors/fernet/verify.json")).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let freshness = freshness(&vector.now, vector.ttl_sec);
        let opened =
            ring(&vector.secret).open_base64url(vector.token.as_bytes(), freshness).unwrap();
        assert_eq!(*opened, vector.src.as_bytes());
    }
}

#[test]
fn every_published_bad_token_is_refused_for_its_reason() {
    let vectors: Vec<Invalid> =
        serde_json::from_str(include_str!("../vectors/fernet/invalid.json")).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let now_secs = unix_secs(&vector.now);
        let freshness = freshness(&vector.now, vector.ttl_sec);
        let error =
            ring(&vector.secret).open_base64url(vector.token.as_bytes(), freshness).unwrap_err();
        let about_time =
            ["far-future TS (unacceptable clock skew)", "expired TTL"].contains(&&*vector.desc);
        match error {
            OpenError::Stale { now_secs: told, .. } => {
                assert!(about_time && told == now_secs, "{}", vector.desc)
            }
            other => assert!(!about_time && other == OpenError::Invalid, "{}", vector.desc),
        }
        // Without a check of the time only those two open.
        let opened = ring(&vector.secret).open_base64url(vector.token.as_bytes(), None);
        assert_eq!(opened.is_ok(), about_time, "{}", vector.desc);
    }
}

//! Compares with another implementation, the `fernet` crate, in both directions.

use fernet::{Fernet, MultiFernet};
use ipc_envelope::{Key, KeyRing, OpenError};

use crate::support::{IV, KEY, NOW, ring};

fn theirs() -> Fernet {
    Fernet::new(&Key::from_bytes(KEY).to_base64url()).unwrap()
}

/// Plaintexts with every remainder of the block size, around the vector widths of cipher and
/// base64, and a large one.
fn plaintexts() -> impl Iterator<Item = Vec<u8>> {
    (0..=130)
        .chain([1_000, 65_536, 1_000_003])
        .map(|length| (0..length).map(|index| (index % 251) as u8).collect())
}

#[test]
fn what_we_seal_they_open() {
    for plaintext in plaintexts() {
        assert_eq!(
            theirs().decrypt(&ring().seal_base64url(&plaintext, NOW, IV)).unwrap(),
            plaintext
        );
    }
}

#[test]
fn what_they_seal_we_open() {
    for plaintext in plaintexts() {
        let text = theirs().encrypt(&plaintext);
        assert_eq!(*ring().open_base64url(text.as_bytes(), None).unwrap(), plaintext);
        assert_eq!(
            ring().open_base64url_in_place(&mut text.into_bytes(), None).unwrap().plaintext(),
            plaintext
        );
    }
}

#[test]
fn a_key_made_by_them_is_read_and_rotated_alike() {
    let (old, new) = (Fernet::generate_key(), Fernet::generate_key());
    let their_ring = MultiFernet::new(vec![Fernet::new(&new).unwrap(), Fernet::new(&old).unwrap()]);
    let our_ring = KeyRing::from_text(&format!("{new}\n{old}\n")).unwrap();
    let old_ring = KeyRing::from_text(&old).unwrap();
    assert_eq!(their_ring.decrypt(&our_ring.seal_base64url(b"a", NOW, IV)).unwrap(), b"a");
    assert_eq!(their_ring.decrypt(&old_ring.seal_base64url(b"b", NOW, IV)).unwrap(), b"b");
    assert_eq!(*our_ring.open_base64url(their_ring.encrypt(b"c").as_bytes(), None).unwrap(), b"c");
    let newest = their_ring.encrypt(b"d");
    assert_eq!(old_ring.open_base64url(newest.as_bytes(), None).err(), Some(OpenError::Invalid));
}

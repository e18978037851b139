//! Gives a server of a channel the plaintexts that libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|plaintext: &[u8]| {
    ipc_protocol_fuzz::client_frame(plaintext);
});

//! Fernet envelopes and key rings: bytes in, bytes out.

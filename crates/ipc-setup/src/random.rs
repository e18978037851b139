//! Randomness from the operating system: keys, initialisation vectors and the admin's password.

use std::io;

use ipc_home::HomeError;
use zeroize::Zeroizing;

use crate::SetupError;

/// 64 signs, so that every random byte gives one of them with the same chance.
const PASSWORD_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PASSWORD_CHARS: usize = 32;

/// `N` random bytes.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], SetupError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| HomeError::NoRandomness { source: io::Error::other(error) })?;
    Ok(bytes)
}

/// A password of 32 characters, 192 bits: never typed by anyone.
pub(crate) fn random_password() -> Result<Zeroizing<String>, SetupError> {
    let bytes = Zeroizing::new(random_bytes::<PASSWORD_CHARS>()?);
    let mut password = Zeroizing::new(String::with_capacity(PASSWORD_CHARS));
    for byte in bytes.iter() {
        password.push(char::from(PASSWORD_ALPHABET[usize::from(byte % 64)]));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_32_characters_and_never_the_same() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }
}

//! A check value that tells whether a given password is the one that got a kept session.
//!
//! `session` uses it. The home keeps neither the password nor a fast hash of it: somebody with the
//! home, or a copy of it, could try passwords against a fast hash, while a server allows only a few
//! tries. The bcrypt of a login takes about 250 ms, which a kept session should save. So the check
//! is a bcrypt of a sixty-fourth of that cost: about 4 ms for each process with a password, and for
//! each guess.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The binary logarithm of the number of rounds.
const COST: u32 = 6;

/// The beginning of a check with this cost.
const FORM: &str = "$2b$06$";

/// A password in a form without a limit of length: bcrypt ignores all bytes after the 72nd.
#[derive(Clone)]
pub(crate) struct GivenPassword(Zeroizing<String>);

impl GivenPassword {
    pub(crate) fn of(password: &str) -> Self {
        let mut digest = Zeroizing::new([0; 32]);
        digest.copy_from_slice(&Sha256::digest(password.as_bytes()));
        let mut hex = Zeroizing::new(String::with_capacity(64));
        for byte in digest.iter() {
            let _ = write!(hex, "{byte:02x}");
        }
        GivenPassword(hex)
    }

    /// The check to keep. `None` if the system gives no random numbers for the salt.
    pub(crate) fn check(&self) -> Option<String> {
        bcrypt::hash(self.0.as_bytes(), COST).ok()
    }

    /// Whether `check` is of this password.
    pub(crate) fn passes(&self, check: &str) -> bool {
        // Otherwise a tampered file could ask for any number of rounds.
        check.starts_with(FORM) && bcrypt::verify(self.0.as_bytes(), check).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_passes_its_own_check_and_no_other() {
        let long = "x".repeat(100);
        for (password, other) in
            [("pass321", "pass322"), ("", " "), (long.as_str(), &long[1..]), ("a\0b", "a\0c")]
        {
            let given = GivenPassword::of(password);
            let check = given.check().unwrap();
            assert!(check.starts_with(FORM), "{check}");
            assert!(given.passes(&check));
            assert!(!GivenPassword::of(other).passes(&check));
            assert_ne!(given.check().unwrap(), check, "each has a salt of its own");
        }
    }

    #[test]
    fn what_is_no_check_or_costs_more_passes_nothing() {
        let given = GivenPassword::of("pass321");
        let check = given.check().unwrap();
        for bad in ["", "$2b$06$", &check[..check.len() - 1], &check.replace("$06$", "$31$")] {
            assert!(!given.passes(bad), "{bad}");
        }
    }
}

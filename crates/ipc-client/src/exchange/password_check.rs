//! By what a password that is given is known again as the one that got a kept session.
//!
//! `session` comes here. The password itself is not kept, and not a hash of it that is fast:
//! whoever reads a home, or a copy of it, would have a fast hash to try passwords against, whose
//! only other judge is a server that allows a few tries. A login's own bcrypt takes some 250 ms,
//! which a kept session is there to save. So it is bcrypt at a sixty-fourth of that: some 4 ms for
//! each process that is given a password, and for each guess.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Two to this power are the rounds.
const COST: u32 = 6;

/// How a check of that cost begins.
const FORM: &str = "$2b$06$";

/// A password, in a form whose every byte counts for bcrypt, which would ignore what lies
/// beyond 72.
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

    /// What is kept; `None` if the system gave no randomness for the salt.
    pub(crate) fn check(&self) -> Option<String> {
        bcrypt::hash(self.0.as_bytes(), COST).ok()
    }

    /// Whether this is the password that the check is of.
    pub(crate) fn passes(&self, check: &str) -> bool {
        // A file may ask for any number of rounds.
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

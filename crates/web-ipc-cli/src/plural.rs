//! Numbers with their nouns.
//!
//! Results and lines of the log come here.

use std::fmt;

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: impl fmt::Display + PartialEq + From<u8>, what: &str) -> String {
    if count == 1.into() { format!("{count} {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1_u32, "message"), "1 message");
        assert_eq!(counted(0_usize, "message"), "0 messages");
    }
}

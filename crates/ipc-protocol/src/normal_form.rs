//! One spelling for text that looks the same: Unicode's normal form C.
//!
//! A keyboard or a file system may give `é` as one character or as two. Both ends, and all code
//! that compares user names or passwords, come here. RFC 8265 requires this form for both (sections
//! 3.4 and 4.2). It also maps other spaces in passwords to U+0020. That is left out: a password
//! hash that another program made from the unmapped text would no longer match.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use zeroize::Zeroizing;

/// Normalising a text never makes it longer than this many times its bytes (UAX 15, section 9).
const GROWTH_MAX: usize = 3;

/// A text in normal form C (NFC). A text that is in this form already, such as ASCII, is returned
/// unchanged.
#[must_use]
pub fn to_nfc(text: &str) -> String {
    if text.is_ascii() {
        text.to_owned()
    } else {
        ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned()
    }
}

/// A text in normal form D (NFD), in which another program may have stored it.
#[must_use]
pub fn to_nfd(text: &str) -> String {
    if text.is_ascii() {
        text.to_owned()
    } else {
        DecomposingNormalizerBorrowed::new_nfd().normalize(text).into_owned()
    }
}

/// [`to_nfc`] of a secret. The result is wiped when dropped.
#[must_use]
pub fn secret_to_nfc(secret: &str) -> Zeroizing<String> {
    // The whole capacity is reserved at once: a string that grows would leave unwiped copies
    // behind.
    let mut normal = Zeroizing::new(String::with_capacity(GROWTH_MAX * secret.len()));
    let written = ComposingNormalizerBorrowed::new_nfc().normalize_to(secret, &mut *normal);
    written.expect("a string takes any text");
    normal
}

/// [`to_nfd`] of a secret. The result is wiped when dropped.
#[must_use]
pub fn secret_to_nfd(secret: &str) -> Zeroizing<String> {
    let mut normal = Zeroizing::new(String::with_capacity(2 * GROWTH_MAX * secret.len()));
    let written = DecomposingNormalizerBorrowed::new_nfd().normalize_to(secret, &mut *normal);
    written.expect("a string takes any text");
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_letter_become_one() {
        for (text, nfc, nfd) in [
            ("Zoe\u{308}", "Zo\u{eb}", "Zoe\u{308}"),
            ("Zo\u{eb}", "Zo\u{eb}", "Zoe\u{308}"),
            ("\u{212b}", "\u{c5}", "A\u{30a}"),
            ("\u{ac00}", "\u{ac00}", "\u{1100}\u{1161}"),
            ("plain", "plain", "plain"),
            // Characters that are only compatible stay different (NFC, not NFKC).
            ("\u{ff21}", "\u{ff21}", "\u{ff21}"),
        ] {
            assert_eq!((to_nfc(text).as_str(), to_nfd(text).as_str()), (nfc, nfd), "{text:?}");
            assert_eq!(secret_to_nfc(text).as_str(), nfc);
            assert_eq!(secret_to_nfd(text).as_str(), nfd);
        }
    }

    #[test]
    fn the_room_for_a_secret_is_enough_for_the_worst() {
        // U+0390 grows threefold, U+1D160 is never composed, U+0958 becomes two characters.
        for worst in ["\u{390}", "\u{1d160}", "\u{958}", "\u{1f82}", "\u{fb2c}"] {
            let text = worst.repeat(40);
            assert!(to_nfc(&text).len() <= GROWTH_MAX * text.len(), "{worst:?}");
            assert!(to_nfd(&text).len() <= 2 * GROWTH_MAX * text.len(), "{worst:?}");
        }
    }
}

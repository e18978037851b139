//! One spelling for text that looks the same: Unicode's normal form C.
//!
//! A keyboard or a file system may give `é` as one character or as two. Both ends come here with
//! user names, and whoever compares names or passwords: RFC 8265 asks for this form in its profiles
//! of both (sections 3.4 and 4.2). Its mapping of other spaces in passwords is left out, since a
//! hash that another program made of what was typed would be lost by it.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use zeroize::Zeroizing;

/// Normalising a text never makes it longer than this many times its bytes (UAX 15, section 9).
const GROWTH_MAX: usize = 3;

/// A text in normal form C (NFC). What is in it already, such as ASCII, comes back as it is.
#[must_use]
pub fn to_nfc(text: &str) -> String {
    if text.is_ascii() {
        text.to_owned()
    } else {
        ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned()
    }
}

/// A text in normal form D (NFD): what another program may have stored.
#[must_use]
pub fn to_nfd(text: &str) -> String {
    if text.is_ascii() {
        text.to_owned()
    } else {
        DecomposingNormalizerBorrowed::new_nfd().normalize(text).into_owned()
    }
}

/// [`to_nfc`] of a secret: what is made is wiped when dropped.
#[must_use]
pub fn secret_to_nfc(secret: &str) -> Zeroizing<String> {
    // Room for everything at once: a string that grows would leave copies behind.
    let mut normal = Zeroizing::new(String::with_capacity(GROWTH_MAX * secret.len()));
    let written = ComposingNormalizerBorrowed::new_nfc().normalize_to(secret, &mut *normal);
    written.expect("a string takes any text");
    normal
}

/// [`to_nfd`] of a secret.
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
            // Forms that are alike and not the same stay two (NFC, not NFKC).
            ("\u{ff21}", "\u{ff21}", "\u{ff21}"),
        ] {
            assert_eq!((to_nfc(text).as_str(), to_nfd(text).as_str()), (nfc, nfd), "{text:?}");
            assert_eq!(secret_to_nfc(text).as_str(), nfc);
            assert_eq!(secret_to_nfd(text).as_str(), nfd);
        }
    }

    #[test]
    fn the_room_for_a_secret_is_enough_for_the_worst() {
        // U+0390 grows threefold, U+1D160 is never composed, U+0958 becomes two.
        for worst in ["\u{390}", "\u{1d160}", "\u{958}", "\u{1f82}", "\u{fb2c}"] {
            let text = worst.repeat(40);
            assert!(to_nfc(&text).len() <= GROWTH_MAX * text.len(), "{worst:?}");
            assert!(to_nfd(&text).len() <= 2 * GROWTH_MAX * text.len(), "{worst:?}");
        }
    }
}

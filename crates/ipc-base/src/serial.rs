//! The serial number of a certificate, as text and as bytes.
//!
//! Certificates are revoked, listed and filed by it. Nothing here knows how a certificate is read.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use thiserror::Error;

/// The longest serial number, in bytes (RFC 5280, section 4.1.2.2).
pub const SERIAL_NUMBER_BYTES_MAX: usize = 20;

/// The serial number of a certificate: an integer from 0 to 2^160 − 1.
///
/// `Display` writes lower-case hexadecimal digits, two for each byte, without leading zero bytes:
/// `0a1b`. That form is safe to use as a file name.
///
/// ```
/// use ipc_base::SerialNumber;
///
/// let serial: SerialNumber = "00:0A:1B".parse().unwrap();
/// assert_eq!(serial.to_string(), "0a1b");
/// assert_eq!(serial, SerialNumber::from_be_bytes(&[0x0a, 0x1b]).unwrap());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SerialNumber(Vec<u8>);

/// Why something is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SerialNumberError {
    /// There is no digit and no byte in it.
    #[error("a serial number cannot be empty")]
    Empty,
    /// It is greater than 20 bytes can hold.
    #[error("a serial number has at most {SERIAL_NUMBER_BYTES_MAX} bytes")]
    TooLong,
    /// The integer that it was read from is negative (RFC 5280, section 4.1.2.2).
    #[error("a serial number cannot be negative")]
    Negative,
    /// The text holds something else than hexadecimal digits in pairs, with or without a colon
    /// between the pairs.
    #[error("a serial number is written in hexadecimal digits, two for each byte")]
    NotHex,
}

impl SerialNumber {
    /// Takes the bytes of an unsigned integer, most significant first. Leading zero bytes do not
    /// count.
    ///
    /// # Errors
    /// [`SerialNumberError::Empty`], [`SerialNumberError::TooLong`].
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Self, SerialNumberError> {
        let Some(last) = bytes.len().checked_sub(1) else { return Err(SerialNumberError::Empty) };
        // Zero keeps one byte.
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(last);
        let significant = &bytes[first..];
        if significant.len() > SERIAL_NUMBER_BYTES_MAX {
            return Err(SerialNumberError::TooLong);
        }
        Ok(Self(significant.to_vec()))
    }

    /// The bytes of the integer, most significant first, without leading zero bytes; zero is one
    /// byte.
    #[must_use]
    pub fn as_be_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for SerialNumber {
    type Err = SerialNumberError;

    /// Reads hexadecimal digits in either case, in pairs, with or without a colon between the
    /// pairs: what `Display` writes and what `openssl x509` prints.
    fn from_str(text: &str) -> Result<Self, SerialNumberError> {
        if text.is_empty() {
            return Err(SerialNumberError::Empty);
        }
        let pairs: Vec<&[u8]> = match text.contains(':') {
            true => text.as_bytes().split(|byte| *byte == b':').collect(),
            false => text.as_bytes().chunks(2).collect(),
        };
        let bytes: Option<Vec<u8>> = pairs.into_iter().map(pair_value).collect();
        Self::from_be_bytes(&bytes.ok_or(SerialNumberError::NotHex)?)
    }
}

fn pair_value(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            write!(text, "{byte:02x}")?;
        }
        // As one text, so that a width given by the caller applies to the whole.
        f.pad(&text)
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_as_it_is_written() {
        for bytes in [&[0][..], &[1], &[0x7f], &[0x80], &[1, 0], &[0xff; 20]] {
            let serial = SerialNumber::from_be_bytes(bytes).unwrap();
            assert_eq!(serial.as_be_bytes(), bytes);
            assert_eq!(serial.to_string().parse(), Ok(serial.clone()), "{serial}");
        }
    }

    #[test]
    fn leading_zero_bytes_do_not_count() {
        let serial = |bytes: &[u8]| SerialNumber::from_be_bytes(bytes).unwrap();
        assert_eq!(serial(&[0, 0, 5]), serial(&[5]));
        assert_eq!(serial(&[0, 0]).to_string(), "00");
        assert_eq!(serial(&[0x0a, 0xb0]).to_string(), "0ab0");
        let mut bytes = vec![0; 30];
        bytes.extend([0xff; 20]);
        assert_eq!(serial(&bytes).to_string(), "ff".repeat(20));
    }

    #[test]
    fn digits_are_read_in_either_case_and_with_colons() {
        let parse = |text: &str| text.parse::<SerialNumber>().map(|serial| serial.to_string());
        assert_eq!(parse("0A1b").as_deref(), Ok("0a1b"));
        assert_eq!(parse("0A:1B").as_deref(), Ok("0a1b"));
        assert_eq!(parse("00000a").as_deref(), Ok("0a"));
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        for text in
            ["a", "0g", "abc", "a:bc", "ab:", ":ab", "ab::cd", "+1", "0x01", " 01", "ü", "ab:c:d"]
        {
            assert_eq!(text.parse::<SerialNumber>(), Err(SerialNumberError::NotHex), "{text}");
        }
        assert_eq!("".parse::<SerialNumber>(), Err(SerialNumberError::Empty));
        assert_eq!(SerialNumber::from_be_bytes(&[]), Err(SerialNumberError::Empty));
        assert_eq!("01".repeat(21).parse::<SerialNumber>(), Err(SerialNumberError::TooLong));
        assert_eq!(SerialNumber::from_be_bytes(&[1; 21]), Err(SerialNumberError::TooLong));
    }

    #[test]
    fn a_width_applies_to_the_whole_number() {
        let serial: SerialNumber = "0a1b".parse().unwrap();
        assert_eq!(format!("{serial:<6}|"), "0a1b  |");
        assert_eq!(format!("{serial:?}"), "SerialNumber(0a1b)");
    }
}

//! What CA and leaf certificates have in common: serial numbers, dates, names.
//!
//! The authority, the leaves and the listing use it. Nothing here decides the purpose of a
//! certificate.

use std::error::Error as StdError;

use ipc_base::{SerialNumber, SerialNumberError};
use openssl::asn1::{Asn1Integer, Asn1IntegerRef, Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::rand::rand_bytes;
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

/// How long before its issue a certificate becomes valid, in seconds. So a peer with a slow clock
/// accepts it at once.
pub const BACKDATED_SECS: u64 = 300;

/// The longest validity, in days: a hundred years.
pub const VALIDITY_DAYS_MAX: u32 = 36_500;

/// 9999-12-31T23:59:59Z, the last time that a certificate can express (RFC 5280, section 4.1.2.5).
pub(crate) const TIME_SECS_MAX: u64 = 253_402_300_799;

const DAY_SECS: u64 = 86_400;

/// Removes the byte order mark that Windows tools write in front of text. OpenSSL finds no PEM
/// after one.
pub(crate) fn unmarked(pem: &[u8]) -> &[u8] {
    pem.strip_prefix("\u{feff}".as_bytes()).unwrap_or(pem)
}

/// Reads the first certificate in PEM text.
pub(crate) fn certificate_from_pem(pem: &[u8]) -> Result<X509, Box<dyn StdError + Send + Sync>> {
    refuse_encrypted(pem)?;
    Ok(X509::from_pem(unmarked(pem))?)
}

/// Reads all certificates in PEM text.
pub(crate) fn certificates_from_pem(
    pem: &[u8],
) -> Result<Vec<X509>, Box<dyn StdError + Send + Sync>> {
    refuse_encrypted(pem)?;
    Ok(X509::stack_from_pem(unmarked(pem))?)
}

/// Refuses a block that says that it is encrypted (RFC 1421, section 4.6.1.1), whatever its label.
/// OpenSSL would ask for its passphrase on the terminal, and wait.
fn refuse_encrypted(pem: &[u8]) -> Result<(), Box<dyn StdError + Send + Sync>> {
    match pem.windows(b"Proc-Type:".len()).any(|window| window == b"Proc-Type:") {
        true => Err("the PEM text is encrypted".into()),
        false => Ok(()),
    }
}

/// `now_secs` plus so many days. Saturates: the caller limits or refuses such a time.
pub(crate) fn days_after(now_secs: u64, days: u32) -> u64 {
    now_secs.saturating_add(u64::from(days) * DAY_SECS)
}

/// Starts a version 3 certificate with a new serial number and these dates.
pub(crate) fn start(now_secs: u64, not_after_secs: u64) -> Result<X509Builder, ErrorStack> {
    start_between(now_secs.saturating_sub(BACKDATED_SECS), not_after_secs)
}

/// Starts a version 3 certificate with a fresh serial number and these dates.
pub(crate) fn start_between(
    not_before_secs: u64,
    not_after_secs: u64,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509Builder::new()?;
    // Version numbers are zero-based: this is version 3, which has extensions (RFC 5280, section
    // 4.1.2.1).
    builder.set_version(2)?;
    builder.set_serial_number(serial()?.as_ref())?;
    builder.set_not_before(time(not_before_secs)?.as_ref())?;
    builder.set_not_after(time(not_after_secs)?.as_ref())?;
    Ok(builder)
}

/// A serial number of 16 random bytes: positive, never zero, always 16 bytes in DER (RFC 5280,
/// section 4.1.2.2, allows 20).
fn serial() -> Result<Asn1Integer, ErrorStack> {
    let mut bytes = [0; 16];
    // In one of 128 cases the first byte becomes zero, and the number would be shorter.
    while bytes[0] == 0 {
        rand_bytes(&mut bytes)?;
        bytes[0] &= 0x7f;
    }
    Asn1Integer::from_bn(BigNum::from_slice(&bytes)?.as_ref())
}

/// A serial number in OpenSSL's form.
pub(crate) fn to_asn1(serial: &SerialNumber) -> Result<Asn1Integer, ErrorStack> {
    Asn1Integer::from_bn(BigNum::from_slice(serial.as_be_bytes())?.as_ref())
}

/// A serial number that OpenSSL has read, unless it is negative or too long.
pub(crate) fn read_serial(
    serial: &Asn1IntegerRef,
) -> Result<SerialNumber, Box<dyn StdError + Send + Sync>> {
    let number = serial.to_bn()?;
    if number.is_negative() {
        return Err(SerialNumberError::Negative.into());
    }
    // In OpenSSL zero has no bytes.
    Ok(SerialNumber::from_be_bytes(&[&[0], number.to_vec().as_slice()].concat())?)
}

/// A time in a certificate, capped at [`TIME_SECS_MAX`] and at what the platform's `time_t` can
/// hold.
pub(crate) fn time(secs: u64) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(secs.min(TIME_SECS_MAX).try_into().unwrap_or(time_t_max()))
}

/// The greatest `time_t`; reached only if it has 32 bits.
fn time_t_max<T: From<i32>>() -> T {
    T::from(i32::MAX)
}

/// Seconds since the Unix epoch; a time before it counts as 0.
pub(crate) fn to_unix_secs(time: &Asn1TimeRef) -> Result<u64, ErrorStack> {
    let since_epoch = Asn1Time::from_unix(0)?.diff(time)?;
    let secs = i64::from(since_epoch.days) * 86_400 + i64::from(since_epoch.secs);
    Ok(u64::try_from(secs).unwrap_or(0))
}

/// A distinguished name with only a common name.
pub(crate) fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

/// The first common name, if it is text.
pub(crate) fn read_common_name(name: &X509NameRef) -> Option<String> {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next()?;
    entry.data().to_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_positive_and_has_16_bytes() {
        for _ in 0..1000 {
            let number = serial().unwrap().to_bn().unwrap();
            assert!(!number.is_negative());
            assert_eq!(number.num_bytes(), 16);
            assert!(number.num_bits() <= 127);
        }
    }

    #[test]
    fn a_serial_number_reads_back_as_it_was_written_and_a_negative_one_is_refused() {
        for text in ["00", "01", "7f", "80", "0123456789abcdef0123456789abcdefffffffff"] {
            let written = to_asn1(&text.parse().unwrap()).unwrap();
            assert_eq!(read_serial(&written).unwrap().to_string(), text);
        }
        for number in ["-1".to_owned(), "ff".repeat(21)] {
            let number = Asn1Integer::from_bn(&BigNum::from_hex_str(&number).unwrap()).unwrap();
            assert!(read_serial(&number).is_err());
        }
    }

    #[test]
    fn serial_numbers_differ() {
        assert_ne!(serial().unwrap().to_bn().unwrap(), serial().unwrap().to_bn().unwrap());
    }

    #[test]
    fn times_read_back_as_they_were_written() {
        // The last ones are on both sides of 2050, where the encoding changes (RFC 5280, section
        // 4.1.2.5).
        for secs in
            [0, 1, 86_399, 86_400, 1_750_000_000, 2_524_607_999, 2_524_608_000, TIME_SECS_MAX]
        {
            assert_eq!(to_unix_secs(&time(secs).unwrap()).unwrap(), secs);
        }
    }

    #[test]
    fn a_time_beyond_the_year_9999_is_capped_and_one_before_1970_is_zero() {
        assert_eq!(to_unix_secs(&time(u64::MAX).unwrap()).unwrap(), TIME_SECS_MAX);
        assert_eq!(to_unix_secs(&Asn1Time::from_unix(-1).unwrap()).unwrap(), 0);
    }

    #[test]
    fn days_saturate() {
        assert_eq!(days_after(100, 1), 86_500);
        assert_eq!(days_after(u64::MAX, VALIDITY_DAYS_MAX), u64::MAX);
    }
}

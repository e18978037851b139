//! The text form of a time, for people and for programs, in UTC.
//!
//! Other crates use it for log lines, output and file names. It reads no clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A point in time. `Display` writes it as in RFC 3339, in UTC: `2025-03-19T19:38:50Z`.
///
/// A precision gives the number of digits after the second, at most 9. Further digits are cut off.
/// A year of five digits, which RFC 3339 cannot express, is shown as `second 253402300800 since
/// 1970`.
///
/// ```
/// use ipc_base::Timestamp;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let time = UNIX_EPOCH + Duration::from_millis(1_742_413_130_608);
/// assert_eq!(Timestamp::from(time).to_string(), "2025-03-19T19:38:50Z");
/// assert_eq!(format!("{:.3}", Timestamp::from(time)), "2025-03-19T19:38:50.608Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The time `secs` seconds after the Unix epoch.
    pub fn from_unix_secs(secs: u64) -> Self {
        Timestamp(Duration::from_secs(secs))
    }

    /// The time `since` after the Unix epoch.
    pub fn since_unix_epoch(since: Duration) -> Self {
        Timestamp(since)
    }

    /// The time in seconds and without colons, which some programs do not accept in a file name:
    /// `2025-03-19T19-38-50Z`.
    pub fn for_file_name(self) -> String {
        self.to_string().replace([':', ' '], "-")
    }
}

impl From<SystemTime> for Timestamp {
    /// A time before 1970, which only a clock that was never set shows, becomes 1970.
    fn from(time: SystemTime) -> Self {
        Timestamp(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let nanos = format!(".{:09}", self.0.subsec_nanos());
        let fraction = match f.precision() {
            None | Some(0) => "",
            Some(digits) => &nanos[..=digits.min(9)],
        };
        let calendar = i64::try_from(secs)
            .ok()
            .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
        let Some(time) = calendar else {
            return write!(f, "second {secs}{fraction} since 1970");
        };
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_utc_with_as_many_digits_as_are_asked_for() {
        let time = Timestamp::since_unix_epoch(Duration::from_nanos(1_742_413_130_608_999_999));
        assert_eq!(time.to_string(), "2025-03-19T19:38:50Z");
        assert_eq!(format!("{time:.0}"), "2025-03-19T19:38:50Z");
        assert_eq!(format!("{time:.3}"), "2025-03-19T19:38:50.608Z");
        assert_eq!(format!("{time:.9}"), "2025-03-19T19:38:50.608999999Z");
        assert_eq!(format!("{time:.12}"), "2025-03-19T19:38:50.608999999Z");
        assert_eq!(format!("{:.3}", Timestamp::from_unix_secs(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_unix_secs(951_782_400).to_string(), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn text_sorts_as_time_does() {
        let texts = [0, 999, 1000, 86_399_999, 86_400_000, 1_742_413_130_608].map(|millis| {
            format!("{:.3}", Timestamp::since_unix_epoch(Duration::from_millis(millis)))
        });
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn a_time_that_no_calendar_knows_is_told_in_seconds() {
        let last = Duration::from_secs(253_402_300_799);
        assert_eq!(Timestamp::since_unix_epoch(last).to_string(), "9999-12-31T23:59:59Z");
        let next = Timestamp::since_unix_epoch(last + Duration::from_millis(1608));
        assert_eq!(next.to_string(), "second 253402300800 since 1970");
        assert_eq!(format!("{next:.3}"), "second 253402300800.608 since 1970");
        let end = Timestamp::from_unix_secs(u64::MAX);
        assert_eq!(end.to_string(), "second 18446744073709551615 since 1970");
    }

    #[test]
    fn a_clock_that_was_never_set_shows_the_beginning() {
        let before = Timestamp::from(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before, Timestamp::from_unix_secs(0));
    }

    #[test]
    fn the_name_of_a_file_has_neither_colons_nor_spaces() {
        assert_eq!(
            Timestamp::from_unix_secs(1_742_413_130).for_file_name(),
            "2025-03-19T19-38-50Z"
        );
        let end = Timestamp::from_unix_secs(u64::MAX).for_file_name();
        assert!(!end.contains([':', ' ', '/']), "{end}");
    }
}

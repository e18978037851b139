//! How a time is written where programs read it.

use std::time::SystemTime;

use time::OffsetDateTime;

/// RFC 3339 in UTC, with always three digits of the second's fraction, so that text sorts as time
/// does.
pub(crate) fn rfc_3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(
            rfc_3339(UNIX_EPOCH + Duration::from_millis(1_742_413_130_608)),
            "2025-03-19T19:38:50.608Z"
        );
        assert_eq!(rfc_3339(UNIX_EPOCH + Duration::from_micros(1_500)), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc_3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}

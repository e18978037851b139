//! This host's clock: its time in seconds, and whether HTTP can write it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::StartError;

/// The first second of the year 10000. A `Date` header (RFC 9110, section 5.6.7) has four digits
/// for the year; the HTTP library panics at a fifth.
const BEYOND: Duration = Duration::from_secs(253_402_300_800);

/// The seconds since the Unix epoch; 0 for a time before it.
pub(crate) fn unix_secs(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Refuses a clock that is set beyond the year 9999.
pub(crate) fn check(now: SystemTime) -> Result<(), StartError> {
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) if since >= BEYOND => Err(StartError::Clock { now_secs: since.as_secs() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_of_the_year_9999_is_the_last_that_is_taken() {
        assert!(check(UNIX_EPOCH + BEYOND - Duration::from_secs(1)).is_ok());
        let error = check(UNIX_EPOCH + BEYOND).unwrap_err();
        assert!(matches!(error, StartError::Clock { now_secs: 253_402_300_800 }), "{error}");
        assert!(error.remedy().is_some());
        assert!(check(UNIX_EPOCH - Duration::from_secs(1)).is_ok(), "wrong, but it can be written");
    }
}

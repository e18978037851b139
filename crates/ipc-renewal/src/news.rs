//! Decides which results of a look are told: a fault that stays is told once a day.
//!
//! `renewing` comes here after each look. The time is an argument.

use std::time::Duration;

use ipc_base::chain;

use crate::{DueRenewals, RenewError};

/// How often a fault is told that stays the same.
const TOLD_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The fault that was told last.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Option<(String, Duration)>,
}

impl News {
    /// Whether a result is to be told at `now`, a time that only grows.
    pub(crate) fn is_news(
        &mut self,
        looked: &Result<DueRenewals, RenewError>,
        now: Duration,
    ) -> bool {
        let (fault, has_renewed) = match looked {
            Ok(done) => {
                let names: Vec<_> = done.left.iter().map(|one| one.name.as_str()).collect();
                (names.join(", "), !done.renewed.is_empty())
            }
            Err(error) => (chain(error).to_string(), false),
        };
        if fault.is_empty() {
            self.told = None;
            return has_renewed;
        }
        let is_known = self
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == fault && now.saturating_sub(*at) < TOLD_EVERY);
        if !is_known {
            self.told = Some((fault, now));
        }
        has_renewed || !is_known
    }
}

#[cfg(test)]
mod tests {
    use ipc_client::{ProblemCode, SendError};

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn refused(code: ProblemCode) -> Result<DueRenewals, RenewError> {
        let detail = String::new();
        Err(SendError::Refused { status: code.status(), code: Some(code), detail }.into())
    }

    #[test]
    fn a_fault_that_stays_is_told_once_a_day_and_another_at_once() {
        let mut news = News::default();
        let unavailable = || refused(ProblemCode::RenewalUnavailable);
        let told: Vec<_> =
            (0..50).filter(|hour| news.is_news(&unavailable(), HOUR * *hour)).collect();
        assert_eq!(told, [0, 24, 48]);
        assert!(news.is_news(&refused(ProblemCode::RenewalRefused), HOUR * 50));
        assert!(news.is_news(&unavailable(), HOUR * 51));
    }

    #[test]
    fn nothing_is_no_news_and_a_fault_that_comes_again_is() {
        let mut news = News::default();
        let unavailable = || refused(ProblemCode::RenewalUnavailable);
        assert!(news.is_news(&unavailable(), HOUR));
        assert!(!news.is_news(&Ok(DueRenewals::default()), HOUR * 2));
        assert!(news.is_news(&unavailable(), HOUR * 3));
    }
}

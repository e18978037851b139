//! Removes from the stream what nobody needs any more: messages that are acknowledged and whose ids
//! are no longer remembered.
//!
//! The NATS server could remove old messages by itself (`max_age`), and would then also remove
//! those that still wait. So one of the servers does it, each about once a minute.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::LastRawMessageErrorKind;

use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(60);

/// How much longer than the ids their messages are kept, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);

/// Runs until the inbox ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if !shared.is_connected() {
            continue;
        }
        let kept_for = shared.options.remembered_for + MARGIN;
        match prune(&shared, kept_for).await {
            Ok(0) => (),
            Ok(count) => log::debug!("removed {count} acknowledged messages from the stream"),
            Err(error) => log::debug!("removed nothing from the stream: {error}"),
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Removes messages that are acknowledged and were stored longer than `kept_for` before the last
/// one. Returns how many. The time of the last one is by the NATS server's clock, as theirs is.
async fn prune(shared: &Shared, kept_for: Duration) -> Result<u64, Failed> {
    let floor = shared.consumer().await?.floor();
    let stream = shared.jetstream.get_stream(&shared.names.stream).await?;
    let state = &stream.cached_info().state;
    let newest = state.last_timestamp;
    let mut search = Search { from: state.first_sequence, to: floor.saturating_add(1) };
    while let Some(number) = search.next() {
        let stays = match stream.get_raw_message(number).await {
            Ok(stored) => Duration::try_from(newest - stored.time).unwrap_or_default() <= kept_for,
            // Somebody has removed it already.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => false,
            Err(error) => return Err(error.into()),
        };
        search.learn(number, stays);
    }
    let stay = search.from;
    if stay <= state.first_sequence {
        return Ok(0);
    }
    Ok(stream.purge().sequence(stay).await?.purged)
}

/// Looks for the first number of `from..to` that stays; all that follow it stay too.
struct Search {
    from: u64,
    to: u64,
}

impl Search {
    /// The number to look at next. `None` once `from` is the first that stays.
    fn next(&self) -> Option<u64> {
        (self.from < self.to).then(|| self.from + (self.to - self.from) / 2)
    }

    fn learn(&mut self, number: u64, stays: bool) {
        match stays {
            true => self.to = number,
            false => self.from = number + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_that_stays_is_found() {
        for first in 3..=9 {
            let mut search = Search { from: 3, to: 9 };
            while let Some(number) = search.next() {
                search.learn(number, number >= first);
            }
            assert_eq!(search.from, first);
        }
        assert_eq!(Search { from: 5, to: 3 }.next(), None, "there is none");
    }
}

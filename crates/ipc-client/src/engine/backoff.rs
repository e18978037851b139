//! How long to wait before a message is sent again. Randomness is an argument; nothing here sleeps.

use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause, before jitter, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(2);

/// With less time than this left, another attempt is not worth while.
pub(crate) const LAST_CHANCE: Duration = Duration::from_millis(50);

/// The growing pauses between the attempts of one send.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// The pause to make now: 50 ms doubling to 2 s, each times 0.5 to 1.5 so that clients that
    /// failed together do not come back together, and at least `told`, what the server asked for.
    /// With `left` until the deadline, a pause that nobody asked for takes at most half of it, so
    /// that a last attempt is made in time.
    ///
    /// `None` if there is no time left for another attempt.
    pub(crate) fn next(
        &mut self,
        told: Option<Duration>,
        left: Duration,
        random: u32,
    ) -> Option<Duration> {
        if left < LAST_CHANCE {
            return None;
        }
        let factor = 0.5 + f64::from(random) / f64::from(u32::MAX);
        let own = self.next.mul_f64(factor).min(left / 2);
        self.next = (self.next * 2).min(LONGEST);
        match told {
            Some(told) if told >= left => None,
            Some(told) => Some(told.max(own)),
            None => Some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);
    const MIDDLE: u32 = u32::MAX / 2;

    #[test]
    fn pauses_double_up_to_two_seconds() {
        let mut pauses = Backoff::new();
        let seen: Vec<_> =
            (0..8).map(|_| pauses.next(None, LONG, MIDDLE).unwrap().as_secs_f64()).collect();
        for (seen, wanted) in seen.into_iter().zip([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]) {
            assert!((seen - wanted).abs() < 0.001, "{seen} for {wanted}");
        }
    }

    #[test]
    fn jitter_is_half_to_one_and_a_half() {
        let pause = |random| Backoff::new().next(None, LONG, random).unwrap();
        assert_eq!(pause(0), Duration::from_millis(25));
        assert_eq!(pause(u32::MAX), Duration::from_millis(75));
    }

    #[test]
    fn the_server_is_obeyed_within_the_deadline() {
        let told = Some(Duration::from_secs(7));
        assert_eq!(Backoff::new().next(told, LONG, MIDDLE), told);
        assert_eq!(Backoff::new().next(told, Duration::from_secs(7), MIDDLE), None);
        let pause = Backoff::new().next(Some(Duration::ZERO), LONG, 0).unwrap();
        assert_eq!(pause, Duration::from_millis(25), "told not to wait, it pauses all the same");
    }

    #[test]
    fn near_the_deadline_pauses_shrink_and_then_end() {
        let mut pauses = Backoff { next: LONGEST };
        assert_eq!(
            pauses.next(None, Duration::from_millis(400), MIDDLE),
            Some(Duration::from_millis(200))
        );
        assert_eq!(pauses.next(None, Duration::from_millis(49), MIDDLE), None);
    }
}

//! Computes the pause before a message is sent again. Randomness is an argument. Nothing here
//! sleeps.

use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause, before jitter, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(2);

/// With less time than this left, another attempt is not worthwhile.
pub(crate) const LAST_CHANCE: Duration = Duration::from_millis(50);

/// The growing pauses between the attempts of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// Returns the next pause: 50 ms, doubling up to 2 s. A random factor between 0.5 and 1.5 keeps
    /// clients that failed together from returning together. The pause is at least `told`, the
    /// value of the server's `Retry-After`. `left` is the time until the deadline. A pause that the
    /// server did not ask for is at most half of it, which leaves time for a last attempt.
    ///
    /// Returns `None` if no time is left for another attempt.
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
        assert_eq!(
            pause,
            Duration::from_millis(25),
            "a Retry-After of 0 does not remove the pause"
        );
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

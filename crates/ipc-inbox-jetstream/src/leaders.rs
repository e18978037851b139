//! Whether the leaders of the inbox are heard from, over the NATS server that this process is
//! connected to.
//!
//! NATS servers pass messages on by one step: one that cannot reach the server that leads a stream
//! has no leader for its clients, while the others have. So a process that hears nothing of a
//! leader goes to another NATS server. Everything that asks a leader reports here what came of it.
//! The time is an argument, and nothing here connects.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the way to another server takes at most, with room. What is asked on the way gets no
/// answer, and says nothing of that server.
const ON_THE_WAY: Duration = Duration::from_millis(250);

/// For how long a leader is not heard from before another NATS server is tried. While NATS elects
/// one, which takes longer, no server has any, and trying them costs little.
const LEAVE_AFTER: Duration = Duration::from_millis(1500);

/// How many servers are tried before it takes twice as long, and how often it is doubled at most.
const LEFT_QUICKLY: u32 = 3;
const SLOWER_MAX: u32 = 3;

/// What has a leader of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Led {
    Messages,
    Consumer,
    Replies,
}

#[derive(Debug, Default)]
pub(crate) struct Leaders(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In the order of [`Led`].
    each: [Silence; 3],
    /// When another NATS server was tried.
    left_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    answered_at: Option<Instant>,
    /// Since when it is not heard from at the NATS server of now.
    since: Option<Instant>,
    /// How many NATS servers were left since it was heard from.
    left: u32,
}

impl Leaders {
    /// The leader has answered.
    pub(crate) fn answers(&self, led: Led, now: Instant) {
        let answered = Silence { answered_at: Some(now), ..Silence::default() };
        self.state().each[led as usize] = answered;
    }

    /// What was asked at `asked_at` had no answer of the leader. Returns whether to go to another
    /// NATS server.
    pub(crate) fn is_silent(&self, led: Led, asked_at: Instant, now: Instant) -> bool {
        let mut state = self.state();
        // What was asked before says nothing of the NATS server of now.
        if state.left_at.is_some_and(|left_at| asked_at < left_at + ON_THE_WAY) {
            return false;
        }
        let silence = &mut state.each[led as usize];
        // Something else that was asked may have had its answer meanwhile.
        let asked_at = silence.answered_at.map_or(asked_at, |answered| answered.max(asked_at));
        let since = *silence.since.insert(silence.since.map_or(asked_at, |at| at.min(asked_at)));
        // If no server helps, there is no such stream, and trying them so often is of no use.
        let leave_after = LEAVE_AFTER * (1 << (silence.left / LEFT_QUICKLY).min(SLOWER_MAX));
        if now.duration_since(since) < leave_after {
            return false;
        }
        silence.left = silence.left.saturating_add(1);
        state.each.iter_mut().for_each(|silence| silence.since = None);
        state.left_at = Some(now);
        true
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place in the pool of the NATS server to try next: one that failed least since it was last
/// reached, of these the first behind the one that was tried last, and that one only if there is no
/// other. `failed` has the failures of each.
pub(crate) fn next_server(failed: &[usize], last: Option<usize>) -> Option<usize> {
    let count = failed.len();
    let first = last.map_or(0, |last| last + 1);
    let others = count - usize::from(last.is_some_and(|last| last < count) && count > 1);
    (first..first + others).map(|place| place % count).min_by_key(|place| failed[*place])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_leader_that_is_silent_for_long_sends_to_another_server_once() {
        let (leaders, start) = (Leaders::default(), Instant::now());
        assert!(!leaders.is_silent(Led::Messages, start, start));
        assert!(!leaders.is_silent(Led::Messages, start + SECOND, start + SECOND));
        assert!(leaders.is_silent(Led::Messages, start + 2 * SECOND, start + 2 * SECOND));
        // From the same time, on the connection that is left.
        assert!(!leaders.is_silent(Led::Messages, start + SECOND, start + 3 * SECOND));
        let on_the_way = start + 2 * SECOND + ON_THE_WAY / 2;
        assert!(!leaders.is_silent(Led::Messages, on_the_way, on_the_way + 2 * SECOND));
        // At the next server it begins again.
        let then = start + 3 * SECOND;
        assert!(!leaders.is_silent(Led::Messages, then, then));
        assert!(leaders.is_silent(Led::Messages, then, then + 2 * SECOND));
    }

    #[test]
    fn an_answer_of_one_leader_says_nothing_of_another() {
        let (leaders, start) = (Leaders::default(), Instant::now());
        assert!(!leaders.is_silent(Led::Replies, start, start));
        assert!(!leaders.is_silent(Led::Consumer, start, start));
        leaders.answers(Led::Replies, start);
        let later = start + 2 * SECOND;
        assert!(!leaders.is_silent(Led::Replies, later, later));
        assert!(leaders.is_silent(Led::Consumer, later, later));
    }

    #[test]
    fn a_question_that_waited_for_long_is_enough() {
        let (leaders, start) = (Leaders::default(), Instant::now());
        assert!(leaders.is_silent(Led::Consumer, start, start + 2 * SECOND));
    }

    #[test]
    fn what_is_answered_meanwhile_counts() {
        let (leaders, start) = (Leaders::default(), Instant::now());
        leaders.answers(Led::Consumer, start + SECOND);
        assert!(!leaders.is_silent(Led::Consumer, start, start + 2 * SECOND));
        assert!(leaders.is_silent(Led::Consumer, start, start + 3 * SECOND));
    }

    #[test]
    fn where_no_server_helps_they_are_tried_less_often_until_one_does() {
        let (leaders, start) = (Leaders::default(), Instant::now());
        let mut now = start;
        let mut left_after = |count: usize| {
            let mut pauses = Vec::new();
            for _ in 0..count {
                now += ON_THE_WAY;
                let since = now;
                while !leaders.is_silent(Led::Messages, since, now) {
                    now += SECOND / 2;
                }
                pauses.push(now.duration_since(since).as_millis());
            }
            pauses
        };
        assert_eq!(left_after(4), [1500, 1500, 1500, 3000]);
        assert_eq!(left_after(8)[5..], [12_000, 12_000, 12_000]);
        leaders.answers(Led::Messages, start + 1000 * SECOND);
        now = start + 1000 * SECOND;
        assert!(leaders.is_silent(Led::Messages, now, now + 2 * SECOND));
    }

    #[test]
    fn another_server_comes_first_and_one_that_fails_last() {
        assert_eq!(next_server(&[0, 0, 0], Some(0)), Some(1));
        assert_eq!(next_server(&[0, 0, 0], Some(2)), Some(0));
        assert_eq!(next_server(&[0, 2, 0], Some(0)), Some(2));
        assert_eq!(next_server(&[0, 2, 1], Some(0)), Some(2));
        assert_eq!(next_server(&[0, 2, 1], Some(2)), Some(0));
        assert_eq!(next_server(&[3, 2, 1], None), Some(2));
        assert_eq!(next_server(&[7], Some(0)), Some(0), "there is no other");
        assert_eq!(next_server(&[0, 0], Some(5)), Some(0));
        assert_eq!(next_server(&[], None), None);
    }
}

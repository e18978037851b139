//! The capacity of an inbox in memory: places for messages, and bytes for their bodies.

use tokio::sync::{AcquireError, Semaphore, TryAcquireError};

/// Bytes are counted in steps of this many, so that a count of them is small enough for a
/// semaphore.
const STEP: usize = 1024;

/// Capacity that is handed out in the order in which it is asked for, so that nobody starves. What
/// is taken stays taken until it is given back.
#[derive(Debug)]
pub(crate) struct Capacity {
    messages: Semaphore,
    steps: Semaphore,
    steps_max: u32,
}

impl Capacity {
    /// Capacity for so many messages and bytes, each at least 1. A message that is longer than all
    /// the bytes fits when it is the only one.
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Self {
        let steps_max =
            u32::try_from(bytes_max.div_ceil(STEP)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Capacity {
            messages: Semaphore::new(messages_max.clamp(1, Semaphore::MAX_PERMITS)),
            steps: Semaphore::new(steps_max as usize),
            steps_max,
        }
    }

    /// Takes the room for a message of so many bytes, if it is there.
    ///
    /// # Errors
    /// Whether there is none now, or none any more.
    pub(crate) fn try_take(&self, bytes: usize) -> Result<(), TryAcquireError> {
        let place = self.messages.try_acquire()?;
        self.steps.try_acquire_many(self.steps_of(bytes))?.forget();
        place.forget();
        Ok(())
    }

    /// Takes the room for a message of so many bytes, and waits for it. Dropped unfinished, it has
    /// taken nothing.
    ///
    /// # Errors
    /// If the room was closed.
    pub(crate) async fn take(&self, bytes: usize) -> Result<(), AcquireError> {
        let place = self.messages.acquire().await?;
        self.steps.acquire_many(self.steps_of(bytes)).await?.forget();
        place.forget();
        Ok(())
    }

    /// Gives back what a message of so many bytes took.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.messages.add_permits(1);
        self.steps.add_permits(self.steps_of(bytes) as usize);
    }

    /// [`give_back`](Capacity::give_back) for many at once.
    pub(crate) fn give_back_all(&self, lengths: impl Iterator<Item = usize>) {
        let (messages, steps) = lengths.fold((0, 0), |(messages, steps), bytes| {
            (messages + 1, steps + self.steps_of(bytes) as usize)
        });
        self.messages.add_permits(messages);
        self.steps.add_permits(steps);
    }

    /// From now on there is no room, and nobody waits for any.
    pub(crate) fn close(&self) {
        self.messages.close();
        self.steps.close();
    }

    fn steps_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(STEP)).unwrap_or(u32::MAX).clamp(1, self.steps_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_bytes_are_both_limited_and_given_back() {
        let capacity = Capacity::new(2, 4 * STEP);
        capacity.try_take(3 * STEP).unwrap();
        assert!(capacity.try_take(2 * STEP).is_err(), "bytes");
        capacity.try_take(1).unwrap();
        assert!(capacity.try_take(0).is_err(), "places");
        capacity.give_back(3 * STEP);
        capacity.try_take(3 * STEP).unwrap();
        capacity.give_back_all([1, 3 * STEP].into_iter());
        assert_eq!(
            (capacity.messages.available_permits(), capacity.steps.available_permits()),
            (2, 4)
        );
    }

    #[test]
    fn one_message_fits_however_long_and_then_none() {
        let capacity = Capacity::new(10, STEP);
        capacity.try_take(100 * STEP).unwrap();
        assert!(capacity.try_take(1).is_err());
        capacity.give_back(100 * STEP);
        capacity.try_take(1).unwrap();
    }

    #[test]
    fn a_failed_try_takes_no_place() {
        let capacity = Capacity::new(1, STEP);
        capacity.try_take(1).unwrap();
        capacity.give_back(1);
        let capacity = Capacity::new(2, STEP);
        capacity.try_take(1).unwrap();
        assert!(capacity.try_take(1).is_err());
        assert_eq!(capacity.messages.available_permits(), 1);
    }
}

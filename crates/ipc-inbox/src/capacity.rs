//! The capacity of an inbox in memory: a number of messages, and of bytes for their bodies.

use tokio::sync::{AcquireError, Semaphore, TryAcquireError};

/// Bytes are counted in steps of this size, so that a semaphore can count them.
const STEP: usize = 1024;

/// Grants capacity in the order of the calls, so that no caller starves. The capacity stays taken
/// until [`give_back`](Capacity::give_back).
#[derive(Debug)]
pub(crate) struct Capacity {
    messages: Semaphore,
    steps: Semaphore,
    steps_max: u32,
}

impl Capacity {
    /// Capacity for this many messages and bytes, each at least 1. A message longer than
    /// `bytes_max` fits if the inbox is empty.
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Self {
        let steps_max =
            u32::try_from(bytes_max.div_ceil(STEP)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        Capacity {
            messages: Semaphore::new(messages_max.clamp(1, Semaphore::MAX_PERMITS)),
            steps: Semaphore::new(steps_max as usize),
            steps_max,
        }
    }

    /// Takes capacity for a message of `bytes` bytes if there is enough.
    ///
    /// # Errors
    /// Says whether there is none now, or the capacity was closed.
    pub(crate) fn try_take(&self, bytes: usize) -> Result<(), TryAcquireError> {
        let place = self.messages.try_acquire()?;
        self.steps.try_acquire_many(self.steps_of(bytes))?.forget();
        place.forget();
        Ok(())
    }

    /// Waits until there is capacity for a message of `bytes` bytes, and takes it. A future that is
    /// dropped has taken nothing.
    ///
    /// # Errors
    /// If the capacity was closed.
    pub(crate) async fn take(&self, bytes: usize) -> Result<(), AcquireError> {
        let place = self.messages.acquire().await?;
        self.steps.acquire_many(self.steps_of(bytes)).await?.forget();
        place.forget();
        Ok(())
    }

    /// Gives back the capacity of a message of `bytes` bytes.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.messages.add_permits(1);
        self.steps.add_permits(self.steps_of(bytes) as usize);
    }

    /// [`give_back`](Capacity::give_back) for many messages.
    pub(crate) fn give_back_all(&self, lengths: impl Iterator<Item = usize>) {
        let (messages, steps) = lengths.fold((0, 0), |(messages, steps), bytes| {
            (messages + 1, steps + self.steps_of(bytes) as usize)
        });
        self.messages.add_permits(messages);
        self.steps.add_permits(steps);
    }

    /// Refuses every later call, and ends all waits.
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

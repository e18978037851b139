//! Random numbers from the operating system, for ids, initialisation vectors and pauses.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_protocol::MessageId;
use zeroize::Zeroize as _;

use crate::error::SendError;

/// How many bytes are fetched at once. They are enough for the ids of many messages: a system call
/// for each id would cost more than the rest of its work.
const POOL_BYTES: usize = 1024;

/// Random bytes that were fetched ahead. Each is used once, even after a `fork`: a pool belongs to
/// one client, whose thread or runtime does not exist in the child.
#[derive(Debug)]
pub(crate) struct Pool {
    bytes: [u8; POOL_BYTES],
    /// The index of the first unused byte.
    next: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Pool { bytes: [0; POOL_BYTES], next: POOL_BYTES }
    }

    /// Returns the next bytes.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], SendError> {
        const { assert!(N <= POOL_BYTES) };
        if POOL_BYTES - self.next < N {
            fill(&mut self.bytes)?;
            self.next = 0;
        }
        let mut taken = [0; N];
        let given = &mut self.bytes[self.next..self.next + N];
        taken.copy_from_slice(given);
        given.zeroize();
        self.next += N;
        Ok(taken)
    }
}

impl Pool {
    /// Returns a new id that begins with the time, so that ids drawn one after another are close to
    /// each other in a server's index.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn draw_id(&mut self) -> Result<MessageId, SendError> {
        // With a clock before 1970, or far in the future, only that order is lost.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.take().map(|random| MessageId::from_time(millis, random))
    }
}

/// Returns `N` random bytes.
///
/// # Errors
/// [`SendError::NoRandomness`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SendError> {
    let mut bytes = [0; N];
    fill(&mut bytes).map(|()| bytes)
}

fn fill(bytes: &mut [u8]) -> Result<(), SendError> {
    getrandom::fill(bytes).map_err(|error| SendError::NoRandomness { source: Arc::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_bytes_are_given_out_twice() {
        let mut pool = Pool::new();
        let mut given = HashSet::new();
        for _ in 0..10 * POOL_BYTES / 16 {
            assert!(given.insert(pool.take::<16>().unwrap()));
            assert!(given.insert(
                [[0; 4], [0; 4], [0; 4], pool.take::<4>().unwrap()].concat().try_into().unwrap()
            ));
        }
    }
}

//! Holds the data that a channel sends, and gives the response's body no more at a time than the
//! connection takes.
//!
//! The driver adds a frame when none is left. The body takes it piece by piece.

use std::task::Context;

use bytes::{Bytes, BytesMut};

use crate::memory_budget::Reservation;
use crate::write_progress::WriteProgress;

/// The largest piece. Together with [`ON_THE_WAY_MAX`] it is less than actix-http collects before
/// it writes. With more, actix-http would not poll the body again, and the driver would not run.
const PIECE_BYTES: usize = 15 * 1024;

/// While this many bytes are handed out and not written, no further piece is handed out.
const ON_THE_WAY_MAX: u64 = 15 * 1024;

/// A longer payload is not copied.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// The bytes that wait to be handed out.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: BytesMut,
    /// A long payload that follows these bytes, with its memory reservation.
    long: Option<(Bytes, Option<Reservation>)>,
}

/// The result of asking for the next piece.
pub(super) enum Piece {
    Some(Bytes),
    /// There is a piece, but the connection does not take it yet.
    Later,
    None,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.long.is_none()
    }

    /// The buffer for short frames. Nothing long may wait behind it yet.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Appends the payload of a frame whose header was written. If the payload was copied, returns
    /// its buffer, emptied.
    pub(super) fn push(
        &mut self,
        mut payload: Vec<u8>,
        reservation: Option<Reservation>,
    ) -> Vec<u8> {
        if payload.len() > COPIED_BYTES_MAX {
            self.long = Some((payload.into(), reservation));
            return Vec::new();
        }
        self.bytes.extend_from_slice(&payload);
        payload.clear();
        payload
    }

    /// Takes the next piece and counts it as handed out.
    pub(super) fn take(&mut self, written: &WriteProgress, context: &Context<'_>) -> Piece {
        if self.is_empty() {
            return Piece::None;
        }
        if written.on_the_way() >= ON_THE_WAY_MAX {
            written.wait(context);
            return Piece::Later;
        }
        let piece = if !self.bytes.is_empty() {
            self.bytes.split_to(self.bytes.len().min(PIECE_BYTES)).freeze()
        } else if let Some((long, _)) = &mut self.long {
            let piece = long.split_to(long.len().min(PIECE_BYTES));
            if long.is_empty() {
                self.long = None;
            }
            piece
        } else {
            Bytes::new()
        };
        written.hand_out(piece.len());
        Piece::Some(piece)
    }

    /// Frees the buffer's memory, if it is empty.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::memory_budget::MemoryBudget;

    #[test]
    fn no_more_is_handed_out_than_the_connection_takes_and_a_long_frame_gives_its_memory_back() {
        let (written, context) = (WriteProgress::default(), Context::from_waker(Waker::noop()));
        let budget = MemoryBudget::new(100_000);
        let mut reservation = Reservation::none(&budget);
        assert!(reservation.grow_to(100_000));
        let payload: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let mut outgoing = Outgoing::default();
        outgoing.bytes().extend_from_slice(b"header");
        assert!(outgoing.push(payload.clone(), Some(reservation)).is_empty());
        let mut sent = Vec::new();
        loop {
            match outgoing.take(&written, &context) {
                Piece::Some(piece) => {
                    assert!(piece.len() <= PIECE_BYTES);
                    sent.extend_from_slice(&piece);
                }
                Piece::Later => {
                    // This is less than actix-http collects before it writes.
                    assert!(written.on_the_way() < 32 * 1024);
                    assert!(!Reservation::none(&budget).grow_to(1), "the rest is in memory");
                    written.advance(10_000);
                }
                Piece::None => break,
            }
        }
        assert_eq!(sent, [b"header", payload.as_slice()].concat());
        assert!(outgoing.is_empty() && Reservation::none(&budget).grow_to(100_000));
    }

    #[test]
    fn a_short_frame_is_copied_and_its_buffer_comes_back() {
        let mut outgoing = Outgoing::default();
        let buffer = outgoing.push(b"payload".to_vec(), None);
        assert!(buffer.is_empty() && buffer.capacity() >= 7);
        assert_eq!(&outgoing.bytes()[..], b"payload");
    }
}

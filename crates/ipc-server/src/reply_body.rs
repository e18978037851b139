//! The body of a reply. It gives its memory back when the peer has taken it.
//!
//! `routes` makes one for each reply. actix-http copies what it gets into a buffer of its own.
//! Therefore it gets a long reply in pieces, each after the one before was sent: memory holds one
//! copy of the reply and not two.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

use crate::memory_budget::Reservation;

/// Replies up to this many bytes take nothing from the memory budget.
pub(crate) const REPLY_FREE_BYTES: usize = 16 * 1024;

/// How many bytes actix-http collects before it writes.
const PIECE_BYTES: usize = 32 * 1024;

/// A reply that is being sent.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    rest: Bytes,
    _reservation: Reservation,
}

impl ReplyBody {
    /// `reservation` is the memory that a long reply takes from the budget.
    pub(crate) fn new(reply: Vec<u8>, reservation: Reservation) -> Self {
        ReplyBody { rest: reply.into(), _reservation: reservation }
    }
}

impl MessageBody for ReplyBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().rest;
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;

    #[test]
    fn a_reply_goes_out_in_pieces_and_gives_its_memory_back_at_the_end() {
        let budget = MemoryBudget::new(100_000);
        let mut reservation = Reservation::none(&budget);
        assert!(reservation.grow_to(100_000));
        let reply: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let mut body = ReplyBody::new(reply.clone(), reservation);
        assert_eq!(body.size(), BodySize::Sized(100_000));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut sent = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
            assert!(piece.len() <= PIECE_BYTES);
            sent.extend_from_slice(&piece);
            assert!(!Reservation::none(&budget).grow_to(1), "the rest is in memory");
        }
        assert_eq!(sent, reply);
        drop(body);
        assert!(Reservation::none(&budget).grow_to(100_000));
    }
}

//! A POST that is under way, and the parsing of a batch's reply.
//!
//! `posting` makes them, `state` holds them. Nothing here sends.

use std::rc::Rc;
use std::time::Duration;

use ipc_protocol::{BatchOutcome, BatchReply};
use tokio::time::Instant;

use crate::call::EntryStatus;
use crate::engine::active_call::Chunk;
use crate::exchange::refusal::of_code;
use crate::transport::attempt::Attempt;

/// A POST that takes longer than this does not hold up others: waiting entries go over another
/// connection.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(5);

/// A POST that is under way.
pub(super) struct Post {
    pub(super) number: u64,
    pub(super) chunks: Vec<Chunk>,
    pub(super) attempt: Rc<Attempt>,
    pub(super) begun_at: Instant,
    pub(super) is_request: bool,
}

impl Post {
    /// When this POST becomes late and so holds up no other. `None` if it is late already, or is a
    /// request's.
    pub(super) fn late_at(&self) -> Option<Instant> {
        let late_at = self.begun_at + LATE_AFTER;
        (!self.is_request && Instant::now() < late_at).then_some(late_at)
    }

    /// When the calls of this POST end.
    pub(super) fn ends(&self) -> impl Iterator<Item = Instant> {
        let is_written = self.attempt.writing.get();
        self.chunks.iter().filter(|chunk| !chunk.call.is_over()).map(
            move |chunk| match is_written {
                true => chunk.call.end_once_there(),
                false => chunk.call.end().0,
            },
        )
    }
}

/// The statuses of `count` messages as a batch's reply reports them, in order. `None` for a message
/// that found no room.
pub(super) fn statuses(
    reply: &BatchReply,
    count: usize,
) -> Result<Vec<Option<EntryStatus>>, &'static str> {
    let full_from = reply.full_from.map_or(count, |index| index as usize);
    let mut codes: Vec<Option<&str>> = vec![None; count];
    for BatchOutcome { index, code } in &reply.others {
        let other = codes
            .get_mut(*index as usize)
            .ok_or("the reply has the index of a message that was not sent")?;
        if other.replace(code).is_some() {
            return Err("the reply has the index of a message twice");
        }
    }
    let accepted = codes.iter().take(full_from).filter(|code| code.is_none()).count();
    if full_from > count || accepted != reply.accepted as usize {
        return Err("the counts in the reply do not match the messages sent");
    }
    let statuses = codes.into_iter().enumerate().map(|(index, code)| match code {
        None if index >= full_from => None,
        None => Some(EntryStatus::Accepted),
        Some(BatchOutcome::DUPLICATE) => Some(EntryStatus::Duplicate),
        Some(code) => Some(EntryStatus::Refused(of_code(code, None).error)),
    });
    Ok(statuses.collect())
}

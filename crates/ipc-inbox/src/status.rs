//! What an inbox holds at a moment.
//!
//! Each kind of inbox makes one, and the application reads it.

use std::time::SystemTime;

/// What an inbox holds at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxStatus {
    /// Messages that wait to be delivered, as [`Inbox::waiting`](crate::Inbox::waiting) has them;
    /// `None` if the inbox cannot say at the moment.
    pub waiting: Option<u64>,
    /// When the oldest of them arrived; `None` if there is none. An inbox that never says leaves it
    /// `None` too, and `knows_oldest` false.
    pub oldest: Option<SystemTime>,
    /// Whether this kind of inbox knows how old its messages are.
    pub knows_oldest: bool,
    /// Ids that are remembered, to know a message that is sent again; `None` if this kind of inbox
    /// does not say.
    pub remembered_ids: Option<u64>,
    /// Dead letters; `None` if this kind of inbox does not say.
    pub dead_letters: Option<u64>,
    /// Why the inbox can store nothing at the moment, or soon will not; `None` if it can.
    pub problem: Option<String>,
}

impl InboxStatus {
    /// The status of an inbox of which only the number of waiting messages is known.
    pub fn of_waiting(waiting: u64) -> Self {
        InboxStatus { waiting: Some(waiting), ..InboxStatus::default() }
    }

    /// The status of an inbox that says nothing, for this reason.
    pub fn of_problem(problem: impl Into<String>) -> Self {
        InboxStatus { problem: Some(problem.into()), ..InboxStatus::default() }
    }

    /// Sets when the oldest message arrived.
    pub fn with_oldest(mut self, oldest: Option<SystemTime>) -> Self {
        self.oldest = oldest;
        self.knows_oldest = true;
        self
    }

    /// Sets how many ids are remembered.
    pub fn with_remembered_ids(mut self, ids: u64) -> Self {
        self.remembered_ids = Some(ids);
        self
    }

    /// Sets how many dead letters there are.
    pub fn with_dead_letters(mut self, letters: u64) -> Self {
        self.dead_letters = Some(letters);
        self
    }

    /// Sets why the inbox can store nothing.
    pub fn with_problem(mut self, problem: Option<String>) -> Self {
        self.problem = problem;
        self
    }
}

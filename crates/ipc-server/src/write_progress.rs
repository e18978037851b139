//! Counts how much of the data for a connection was written to its stream, and notifies receivers
//! behind it.
//!
//! `timeouts` has one for each connection and reports what was written. A channel uses it to hand
//! out no more than its peer takes. Nothing here knows the content.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use ipc_inbox::NotifyGuard;

/// The data on their way to a stream.
#[derive(Debug, Default)]
pub(crate) struct WriteProgress {
    handed_out: Cell<u64>,
    written: Cell<u64>,
    /// The task that waits until more is written.
    waiting: RefCell<Option<Waker>>,
    /// Receivers that are notified once the data handed out before are written.
    guards: RefCell<Vec<NotifyGuard>>,
}

impl WriteProgress {
    /// Counts bytes that were handed out. Returns their total.
    pub(crate) fn hand_out(&self, bytes: usize) -> u64 {
        let all = self.handed_out.get() + bytes as u64;
        self.handed_out.set(all);
        all
    }

    /// How many bytes were written in total.
    pub(crate) fn total(&self) -> u64 {
        self.written.get()
    }

    /// How many bytes were handed out and are not written yet.
    pub(crate) fn on_the_way(&self) -> u64 {
        self.handed_out.get() - self.written.get()
    }

    /// Wakes the task when more is written.
    pub(crate) fn wait(&self, context: &Context<'_>) {
        self.waiting.replace(Some(context.waker().clone()));
    }

    /// Notifies receivers when everything handed out so far is flushed, or when the peer takes no
    /// more at the moment.
    pub(crate) fn notify_behind(&self, guard: NotifyGuard) {
        if !guard.is_none() {
            self.guards.borrow_mut().push(guard);
        }
    }

    /// Counts bytes that were written. They may include bytes that were not handed out here, such
    /// as those of a response's head.
    pub(crate) fn advance(&self, bytes: usize) {
        self.written.set(self.handed_out.get().min(self.written.get() + bytes as u64));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Reports that everything handed out was written and flushed.
    pub(crate) fn flushed(&self) {
        self.written.set(self.handed_out.get());
        self.release();
    }

    /// Notifies the receivers now.
    pub(crate) fn release(&self) {
        self.guards.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_not_taken_for_what_was_handed_out() {
        let written = WriteProgress::default();
        written.advance(200);
        assert_eq!((written.hand_out(100), written.on_the_way()), (100, 100));
        written.advance(30);
        assert_eq!((written.total(), written.on_the_way()), (30, 70));
        written.advance(200);
        assert_eq!((written.total(), written.on_the_way()), (100, 0));
        assert_eq!(written.hand_out(5), 105);
        written.flushed();
        assert_eq!((written.total(), written.on_the_way()), (105, 0));
    }
}

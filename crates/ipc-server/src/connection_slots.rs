//! Limits the number of connections and handshakes. At the limit, the connection that has kept the
//! server waiting longest is closed.
//!
//! `handshake` and `http` come here with each connection. Each worker thread has one
//! [`ConnectionSlots`] and one [`Handshakes`]. Nothing here knows TLS or HTTP.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::stopping::{Counted, Stopping};
use crate::timeouts::ConnectionState;

/// The connections of a worker.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    max: usize,
    stopping: Arc<Stopping>,
    slots: RefCell<HashMap<u64, Rc<ConnectionState>>>,
    next: Cell<u64>,
}

/// A slot of a connection. It is released when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    owner: Rc<ConnectionSlots>,
    number: u64,
    _counted: Counted,
}

impl ConnectionSlots {
    pub(crate) fn new(max: usize, stopping: Arc<Stopping>) -> Rc<Self> {
        Rc::new(ConnectionSlots { max, stopping, slots: RefCell::default(), next: Cell::new(0) })
    }

    /// Takes a slot for a connection. If none is free, closes the connection that has been idle
    /// longest, or else the one whose head takes longest. Returns `None` if every connection has a
    /// request that is being served.
    pub(crate) fn acquire(
        self: &Rc<Self>,
        connection: &Rc<ConnectionState>,
    ) -> Option<ConnectionSlot> {
        let mut slots = self.slots.borrow_mut();
        if slots.len() >= self.max {
            let ranks = slots
                .iter()
                .filter_map(|(number, connection)| Some((connection.eviction_rank()?, *number)));
            let (_, longest) = ranks.min()?;
            if let Some(connection) = slots.remove(&longest) {
                connection.close_now();
            }
        }
        let number = self.next.replace(self.next.get().wrapping_add(1));
        slots.insert(number, Rc::clone(connection));
        let counted = self.stopping.count();
        Some(ConnectionSlot { owner: Rc::clone(self), number, _counted: counted })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.owner.slots.borrow_mut().remove(&self.number);
    }
}

/// The handshakes of a worker that are running, the oldest first.
#[derive(Debug)]
pub(crate) struct Handshakes {
    max: usize,
    under_way: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next: Cell<u64>,
}

/// A place among the handshakes. It is released when it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake<'a> {
    all: &'a Handshakes,
    number: u64,
    /// Ends when the place is given to a newer handshake.
    pub(crate) displaced: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(max: usize) -> Self {
        Handshakes { max, under_way: RefCell::default(), next: Cell::new(0) }
    }

    /// Takes a place, if need be from the oldest handshake. A working peer needs milliseconds for
    /// its handshake, so the oldest one is most likely that of a silent peer.
    pub(crate) fn begin(&self) -> Handshake<'_> {
        let (sender, displaced) = oneshot::channel();
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= self.max {
            // Dropping the sender tells the handshake's receiver.
            under_way.pop_front();
        }
        under_way.push_back((number, sender));
        Handshake { all: self, number, displaced }
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        self.all.under_way.borrow_mut().retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::framing::BodyLength;
    use crate::timeouts::Timeouts;

    fn connection() -> Rc<ConnectionState> {
        let time = Duration::from_secs(10);
        ConnectionState::new(Timeouts { idle: time, head: time, linger: time, answer: time })
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_longest_makes_room() {
        let slots = ConnectionSlots::new(3, Stopping::new());
        let connections = [connection(), connection(), connection()];
        let mut taken = Vec::new();
        for connection in &connections {
            tokio::time::advance(Duration::from_secs(1)).await;
            connection.request_begins(BodyLength::None, false);
            connection.answered(false);
            connection.answer_is_written();
            assert!(connection.eviction_rank().is_none(), "the peer may be taking it");
            connection.flushed();
            taken.push(slots.acquire(connection).unwrap());
        }
        connections[0].request_begins(BodyLength::None, false);
        let newcomer = connection();
        taken.push(slots.acquire(&newcomer).unwrap());
        assert!(
            connections[1].eviction_rank().is_none(),
            "the first is busy, the second was idle before the third"
        );
        assert!(connections[2].eviction_rank().is_some() && newcomer.eviction_rank().is_some());
        assert_eq!(slots.slots.borrow().len(), 3);
        taken.remove(1);
        assert_eq!(slots.slots.borrow().len(), 3, "its slot went to another connection");
        drop(taken);
        assert!(slots.slots.borrow().is_empty());
    }

    #[tokio::test]
    async fn nobody_who_is_busy_makes_room() {
        let slots = ConnectionSlots::new(1, Stopping::new());
        let busy = connection();
        let _slot = slots.acquire(&busy).unwrap();
        busy.request_begins(BodyLength::Chunked, false);
        assert!(slots.acquire(&connection()).is_none());
    }

    #[test]
    fn the_oldest_handshake_makes_room() {
        let handshakes = Handshakes::new(2);
        let (mut first, mut second) = (handshakes.begin(), handshakes.begin());
        let mut third = handshakes.begin();
        let is_displaced = |place: &mut Handshake<'_>| {
            place.displaced.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert!(
            is_displaced(&mut first) && !is_displaced(&mut second) && !is_displaced(&mut third)
        );
        drop(second);
        let _fourth = handshakes.begin();
        assert!(!is_displaced(&mut third), "a place that was given back is free");
        drop(first);
        assert_eq!(handshakes.under_way.borrow().len(), 2);
    }
}

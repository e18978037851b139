//! Limits the number of connections and handshakes. At the limit, the connection that has kept the
//! server waiting longest is closed. A peer that reaches its own limit closes only connections of
//! its own, so that it keeps nobody else out.
//!
//! `handshake` and `http` come here with each connection. Each worker thread has one
//! [`ConnectionSlots`] and one [`Handshakes`]. Nothing here knows TLS or HTTP.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use ipc_protocol::Fingerprint;
use tokio::sync::oneshot;

use crate::stopping::{Counted, Stopping};
use crate::timeouts::ConnectionState;

/// What the connections of a peer are counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    /// The peer name in the certificate, in lower case. A renewed certificate has the same name, so
    /// that renewing brings a peer no further connections.
    Name(Rc<str>),
    /// The fingerprint of a certificate without a peer name.
    Certificate(Fingerprint),
}

/// Why there is no slot for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The limit of connections is reached, and the server waits for none of them.
    AllBusy,
    /// The peer has as many connections as one peer may have, and the server waits for none of
    /// them.
    PeerBusy,
}

/// The connections of a worker.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    max: usize,
    peer_max: usize,
    stopping: Arc<Stopping>,
    taken: RefCell<Taken>,
    next: Cell<u64>,
}

#[derive(Debug, Default)]
struct Taken {
    slots: HashMap<u64, Occupant>,
    /// How many slots each peer has.
    of_each: HashMap<PeerKey, usize>,
}

#[derive(Debug)]
struct Occupant {
    connection: Rc<ConnectionState>,
    /// `None` over plain http, where connections are not counted for each peer.
    peer: Option<PeerKey>,
}

/// A slot of a connection. It is released when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    owner: Rc<ConnectionSlots>,
    number: u64,
    _counted: Counted,
}

impl ConnectionSlots {
    /// Makes slots for `max` connections, `peer_max` of them for one peer.
    pub(crate) fn new(max: usize, peer_max: usize, stopping: Arc<Stopping>) -> Rc<Self> {
        Rc::new(ConnectionSlots {
            max,
            peer_max,
            stopping,
            taken: RefCell::default(),
            next: Cell::new(0),
        })
    }

    /// Takes a slot for a connection. If none is free, closes the connection that has been idle
    /// longest, or else the one whose head takes longest. If the peer has reached its own limit,
    /// only its own connections are considered.
    ///
    /// # Errors
    /// If every connection that could make room has a request that is being served.
    pub(crate) fn acquire(
        self: &Rc<Self>,
        connection: &Rc<ConnectionState>,
        peer: Option<PeerKey>,
    ) -> Result<ConnectionSlot, NoSlot> {
        let mut taken = self.taken.borrow_mut();
        if let Some(peer) = &peer
            && taken.of(peer) >= self.peer_max
        {
            taken.make_room(|occupant| occupant.peer.as_ref() == Some(peer), NoSlot::PeerBusy)?;
        }
        if taken.slots.len() >= self.max {
            taken.make_room(|_| true, NoSlot::AllBusy)?;
        }
        let number = self.next.replace(self.next.get().wrapping_add(1));
        taken.insert(number, Occupant { connection: Rc::clone(connection), peer });
        let counted = self.stopping.count();
        Ok(ConnectionSlot { owner: Rc::clone(self), number, _counted: counted })
    }
}

impl Taken {
    fn of(&self, peer: &PeerKey) -> usize {
        self.of_each.get(peer).copied().unwrap_or(0)
    }

    /// Closes the connection that has kept the server waiting longest, among those that `may` go.
    ///
    /// # Errors
    /// `busy` if the server waits for none of them.
    fn make_room(&mut self, may: impl Fn(&Occupant) -> bool, busy: NoSlot) -> Result<(), NoSlot> {
        let ranks =
            self.slots.iter().filter(|(_, occupant)| may(occupant)).filter_map(
                |(number, occupant)| Some((occupant.connection.eviction_rank()?, *number)),
            );
        let (_, longest) = ranks.min().ok_or(busy)?;
        if let Some(occupant) = self.remove(longest) {
            occupant.connection.close_now();
        }
        Ok(())
    }

    fn insert(&mut self, number: u64, occupant: Occupant) {
        if let Some(peer) = &occupant.peer {
            *self.of_each.entry(peer.clone()).or_default() += 1;
        }
        self.slots.insert(number, occupant);
    }

    fn remove(&mut self, number: u64) -> Option<Occupant> {
        let occupant = self.slots.remove(&number)?;
        if let Some(peer) = &occupant.peer {
            match self.of_each.get_mut(peer) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(self.of_each.remove(peer)),
            }
        }
        Some(occupant)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.owner.taken.borrow_mut().remove(self.number);
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

    fn peer(name: &str) -> Option<PeerKey> {
        Some(PeerKey::Name(name.into()))
    }

    /// A connection that has been idle since now.
    fn idle() -> Rc<ConnectionState> {
        let connection = connection();
        connection.request_begins(BodyLength::None, false);
        connection.answered(false);
        connection.answer_is_written();
        assert!(connection.eviction_rank().is_none(), "the peer may be taking it");
        connection.flushed();
        connection
    }

    fn busy() -> Rc<ConnectionState> {
        let connection = connection();
        connection.request_begins(BodyLength::Chunked, false);
        connection
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_longest_makes_room() {
        let slots = ConnectionSlots::new(3, 3, Stopping::new());
        let (mut connections, mut taken) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            tokio::time::advance(Duration::from_secs(1)).await;
            connections.push(idle());
            taken.push(slots.acquire(connections.last().unwrap(), peer(name)).unwrap());
        }
        connections[0].request_begins(BodyLength::None, false);
        let newcomer = connection();
        taken.push(slots.acquire(&newcomer, peer("d")).unwrap());
        assert!(
            connections[1].eviction_rank().is_none(),
            "the first is busy, the second was idle before the third"
        );
        assert!(connections[2].eviction_rank().is_some() && newcomer.eviction_rank().is_some());
        assert_eq!(slots.taken.borrow().slots.len(), 3);
        taken.remove(1);
        assert_eq!(slots.taken.borrow().slots.len(), 3, "its slot went to another connection");
        drop(taken);
        let left = slots.taken.borrow();
        assert!(left.slots.is_empty() && left.of_each.is_empty());
    }

    #[tokio::test]
    async fn nobody_who_is_busy_makes_room() {
        let slots = ConnectionSlots::new(1, 1, Stopping::new());
        let _slot = slots.acquire(&busy(), None).unwrap();
        assert_eq!(slots.acquire(&connection(), None).err(), Some(NoSlot::AllBusy));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_limit_a_peer_closes_its_own_connections_and_never_those_of_another() {
        let slots = ConnectionSlots::new(10, 2, Stopping::new());
        let others = idle();
        let _others = slots.acquire(&others, peer("other")).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (first, second) = (idle(), busy());
        let _first = slots.acquire(&first, peer("own")).unwrap();
        let second_slot = slots.acquire(&second, peer("own")).unwrap();
        let _third = slots.acquire(&busy(), peer("own")).unwrap();
        assert!(first.eviction_rank().is_none(), "its own idle connection was closed");
        assert!(others.eviction_rank().is_some(), "the other's, idle for longer, was not");
        assert_eq!(slots.acquire(&connection(), peer("own")).err(), Some(NoSlot::PeerBusy));
        assert!(others.eviction_rank().is_some());
        let _newcomer = slots.acquire(&connection(), peer("newcomer")).unwrap();
        drop(second_slot);
        assert!(slots.acquire(&connection(), peer("own")).is_ok(), "a slot was given back");
    }

    #[tokio::test]
    async fn without_a_certificate_connections_are_not_counted_for_each_peer() {
        let slots = ConnectionSlots::new(3, 1, Stopping::new());
        let taken: Vec<_> = (0..3).map(|_| slots.acquire(&busy(), None).unwrap()).collect();
        assert_eq!(slots.acquire(&busy(), None).err(), Some(NoSlot::AllBusy));
        drop(taken);
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

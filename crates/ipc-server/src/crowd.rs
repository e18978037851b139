//! How many may be connected: where a place is needed, whoever keeps the server waiting longest
//! gives up his.
//!
//! `handshake` and `http` come here with each connection. There is one of each per worker thread.
//! Nothing here knows TLS or HTTP.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::deadline::Watch;

/// The connections of a worker.
#[derive(Debug)]
pub(crate) struct Crowd {
    max: usize,
    members: RefCell<HashMap<u64, Rc<Watch>>>,
    next: Cell<u64>,
}

/// A place in a crowd, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Rc<Crowd>,
    number: u64,
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Rc<Self> {
        Rc::new(Crowd { max, members: RefCell::default(), next: Cell::new(0) })
    }

    /// A place for a connection. Where there is none, the connection that has been idle longest is
    /// closed for it, or else the one whose head takes longest; `None` where requests are under way
    /// on all.
    pub(crate) fn join(self: &Rc<Self>, watch: &Rc<Watch>) -> Option<Member> {
        let mut members = self.members.borrow_mut();
        if members.len() >= self.max {
            let turns = members.iter().filter_map(|(number, watch)| Some((watch.turn()?, *number)));
            let (_, longest) = turns.min()?;
            if let Some(watch) = members.remove(&longest) {
                watch.close_now();
            }
        }
        let number = self.next.replace(self.next.get().wrapping_add(1));
        members.insert(number, Rc::clone(watch));
        Some(Member { crowd: Rc::clone(self), number })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(&self.number);
    }
}

/// The handshakes of a worker that are under way, the oldest first.
#[derive(Debug)]
pub(crate) struct Handshakes {
    max: usize,
    under_way: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next: Cell<u64>,
}

/// A place among the handshakes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake<'a> {
    all: &'a Handshakes,
    number: u64,
    /// Ends when the place was given to another.
    pub(crate) displaced: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(max: usize) -> Self {
        Handshakes { max, under_way: RefCell::default(), next: Cell::new(0) }
    }

    /// A place, that of the oldest handshake if need be: a good peer needs milliseconds, one that
    /// is silent is the oldest soon.
    pub(crate) fn begin(&self) -> Handshake<'_> {
        let (sender, displaced) = oneshot::channel();
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= self.max {
            // Its receiver learns of it by the drop.
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
    use crate::deadline::Times;
    use crate::framing::BodyLength;

    fn watch() -> Rc<Watch> {
        let time = Duration::from_secs(10);
        Watch::new(Times { idle: time, head: time, linger: time, answer: time })
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_longest_makes_room() {
        let crowd = Crowd::new(3);
        let watches = [watch(), watch(), watch()];
        let mut members = Vec::new();
        for watch in &watches {
            tokio::time::advance(Duration::from_secs(1)).await;
            watch.request_begins(BodyLength::None, false);
            watch.answered(false);
            watch.answer_is_written();
            assert!(watch.turn().is_none(), "the peer may be taking it");
            watch.flushed();
            members.push(crowd.join(watch).unwrap());
        }
        watches[0].request_begins(BodyLength::None, false);
        let newcomer = watch();
        members.push(crowd.join(&newcomer).unwrap());
        assert!(
            watches[1].turn().is_none(),
            "the first is busy, the second was idle before the third"
        );
        assert!(watches[2].turn().is_some() && newcomer.turn().is_some());
        assert_eq!(crowd.members.borrow().len(), 3);
        members.remove(1);
        assert_eq!(crowd.members.borrow().len(), 3, "its place is another's");
        drop(members);
        assert!(crowd.members.borrow().is_empty());
    }

    #[tokio::test]
    async fn nobody_who_is_busy_makes_room() {
        let crowd = Crowd::new(1);
        let busy = watch();
        let _member = crowd.join(&busy).unwrap();
        busy.request_begins(BodyLength::Chunked, false);
        assert!(crowd.join(&watch()).is_none());
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

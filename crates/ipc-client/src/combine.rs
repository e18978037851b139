//! What many tasks send at the same moment goes out together: one seal, one request and one commit carry many messages, each
//! with an answer of its own.
//!
//! A message that finds the line idle goes out at once and alone. What comes while it is on its way waits for its return, or for
//! another connection where that is worth its price, and goes out as one batch. Nothing waits for others to come.
//!
//! The worker's thread comes here with each `send`. What an attempt that failed means for a message, and whether there is
//! another one, is decided in `errand`, for each message by itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use ipc_protocol::MessageId;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::batch::{Batch, ENTRY_BYTES, Fate, no_room};
use crate::client::Sent;
use crate::errand::{Errand, Fault, Next};
use crate::error::SendError;
use crate::send::Sender;
use crate::session::Generation;

/// How many messages go out together at most; a server takes 1000 unless set otherwise.
const GROUP_MESSAGES_MAX: usize = 500;

/// How many bytes of messages go out together at most, a longer message alone. More would gain nothing: what a request costs
/// beside its bytes is little by then.
const GROUP_BYTES_MAX: usize = 64 * 1024;

/// With so many messages waiting, and half as many as went out last, or with so many bytes, another connection is worth its
/// price although none is late: one end then works at one group while the other works at the next.
const WAITING_MESSAGES: usize = 8;
const WAITING_BYTES: usize = GROUP_BYTES_MAX / 2;

/// A group that is on its way for longer than this holds nobody up any more: what waits goes out over another connection.
const LATE_AFTER: Duration = Duration::from_millis(5);

/// How often those that wait are looked through, at least.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// A message that waits to go out.
struct Waiting {
    id: MessageId,
    body: String,
    deadline_at: Instant,
    done: Done,
}

/// Who is to hear what became of a message.
enum Done {
    /// Whoever called `send`: what comes of this attempt or of those after it.
    Send(oneshot::Sender<Result<Sent, SendError>>),
    /// The errand that makes this attempt: what comes of it alone.
    Attempt(oneshot::Sender<Attempted>),
}

/// What came of an attempt, and the message's body back.
struct Attempted {
    body: String,
    result: Result<Sent, (Fault, Generation)>,
}

impl Done {
    fn is_closed(&self) -> bool {
        match self {
            Done::Send(done) => done.is_closed(),
            Done::Attempt(done) => done.is_closed(),
        }
    }
}

/// The messages that wait, and how many groups are on their way.
#[derive(Default)]
pub(crate) struct Outgoing {
    waiting: RefCell<VecDeque<Waiting>>,
    /// Bytes of those that wait.
    bytes: Cell<usize>,
    flights: Cell<usize>,
    /// How many messages went out last.
    last_group: Cell<usize>,
    /// How many of the flights hold nobody up any more.
    late: Cell<usize>,
    /// Fewer than [`GROUP_MESSAGES_MAX`] where the server has refused as many.
    messages_max: Cell<Option<usize>>,
    has_watchman: Cell<bool>,
}

impl Outgoing {
    fn push(&self, message: Waiting) {
        self.bytes.set(self.bytes.get() + message.body.len());
        self.waiting.borrow_mut().push_back(message);
    }

    /// The next group: the first that wait, as far as they go together. Those that nobody waits for any more are dropped, those
    /// whose time is over go into `due`.
    fn take(&self, now: Instant, due: &mut Vec<Waiting>) -> Vec<Waiting> {
        let messages_max = self.messages_max.get().unwrap_or(GROUP_MESSAGES_MAX);
        let mut waiting = self.waiting.borrow_mut();
        let mut group = Vec::with_capacity(waiting.len().min(messages_max));
        let mut bytes = 0;
        while let Some(next) = waiting.front() {
            let (is_wanted, is_due) = (!next.done.is_closed(), next.deadline_at <= now);
            if is_wanted && !is_due {
                bytes += next.body.len() + ENTRY_BYTES;
                if !group.is_empty() && (bytes > GROUP_BYTES_MAX || group.len() >= messages_max) {
                    break;
                }
            }
            let Some(next) = waiting.pop_front() else { break };
            self.bytes.set(self.bytes.get() - next.body.len());
            if is_wanted {
                if is_due { due.push(next) } else { group.push(next) }
            }
        }
        self.last_group.set(group.len());
        group
    }

    /// Takes out those whose time is over.
    fn take_due(&self, now: Instant) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let (due, left) = waiting.drain(..).partition(|message| message.deadline_at <= now);
        *waiting = left;
        self.bytes.set(waiting.iter().map(|message| message.body.len()).sum());
        Vec::from(due)
    }

    /// Whether one more group should go out now.
    fn wants_flight(&self, connections_max: usize) -> bool {
        let waiting = self.waiting.borrow().len();
        let flights = self.flights.get();
        waiting > 0
            && flights < connections_max
            && (flights == self.late.get()
                || waiting >= WAITING_MESSAGES.max(self.last_group.get() / 2)
                || self.bytes.get() >= WAITING_BYTES)
    }
}

/// A task that brings groups, for as long as it lives; also when it ends early.
struct Flight {
    outgoing: Rc<Outgoing>,
    is_late: Cell<bool>,
    /// It came to its end, rather than to that of its runtime, or to a panic.
    is_landed: Cell<bool>,
}

impl Flight {
    fn begin(outgoing: &Rc<Outgoing>) -> Self {
        outgoing.flights.set(outgoing.flights.get() + 1);
        Flight { outgoing: Rc::clone(outgoing), is_late: Cell::new(false), is_landed: Cell::new(false) }
    }

    fn set_late(&self, is_late: bool) {
        let before = self.is_late.replace(is_late);
        self.outgoing.late.set(self.outgoing.late.get() + usize::from(is_late) - usize::from(before));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.set_late(false);
        self.outgoing.flights.set(self.outgoing.flights.get() - 1);
        if !self.is_landed.get() {
            // Nobody may come for those that wait. With their senders dropped, they hear that the client has stopped.
            let waiting = std::mem::take(&mut *self.outgoing.waiting.borrow_mut());
            self.outgoing.bytes.set(0);
            drop(waiting);
        }
    }
}

/// Somebody looks after the deadlines of those that wait, for as long as this lives.
struct Watching(Rc<Outgoing>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.has_watchman.set(false);
    }
}

impl Sender {
    /// Sends a message, whose body is JSON text, under an id of its own.
    pub(crate) fn send(
        self: &Rc<Self>,
        body: String,
        deadline_at: Instant,
        done: oneshot::Sender<Result<Sent, SendError>>,
    ) {
        match self.draw_id() {
            Ok(id) => self.enqueue(Waiting { id, body, deadline_at, done: Done::Send(done) }),
            Err(error) => drop(done.send(Err(error))),
        }
    }

    /// Sends a message, together with others where there are some. Who waits hears of it by its `done`.
    fn enqueue(self: &Rc<Self>, message: Waiting) {
        self.outgoing.push(message);
        self.launch();
    }

    /// Sends what waits, if it need not wait any longer.
    fn launch(self: &Rc<Self>) {
        let is_off = self.outgoing.wants_flight(self.connections_max);
        if is_off {
            let (sender, flight) = (Rc::clone(self), Flight::begin(&self.outgoing));
            actix_rt::spawn(async move { sender.fly(&flight).await });
        }
        // What waits, be it for a connection, may wait beyond its time.
        let waits = !is_off || self.permits.available_permits() == 0;
        if waits && !self.outgoing.has_watchman.replace(true) {
            actix_rt::spawn(watch(Rc::downgrade(self), Watching(Rc::clone(&self.outgoing))));
        }
    }

    /// Brings group after group to the server, until none waits.
    async fn fly(self: &Rc<Self>, flight: &Flight) {
        loop {
            let permit = self.any_permit().await;
            let mut due = Vec::new();
            let group = self.outgoing.take(Instant::now(), &mut due);
            self.tell_waited_too_long(due);
            if group.is_empty() {
                break;
            }
            let is_alone = group.len() == 1;
            self.bring(group, &permit, flight).await;
            drop(permit);
            flight.set_late(false);
            if !is_alone {
                // Those who were answered may have more to send, which then goes together.
                tokio::task::yield_now().await;
            }
        }
        flight.is_landed.set(true);
    }

    /// Brings a group to the server and tells each what came of it.
    async fn bring(self: &Rc<Self>, group: Vec<Waiting>, permit: &SemaphorePermit<'_>, flight: &Flight) {
        let now = Instant::now();
        let mut batch = Batch::with_capacity(group.len());
        let mut open = Vec::with_capacity(group.len());
        for Waiting { id, body, deadline_at, done } in group {
            batch.push(id, body);
            open.push(Some((deadline_at, done)));
        }
        let deadlines = || open.iter().flatten().map(|(deadline_at, _)| *deadline_at);
        let (first, last) = (deadlines().min().unwrap_or(now), deadlines().max().unwrap_or(now));
        let errand = Errand::unattended(last, self.deadline);
        let mut used = self.session.generation();
        let result = {
            let mut bringing = pin!(self.submit_whole(&mut batch, &errand, &mut used, permit));
            let mut timer = pin!(sleep_until(first.min(now + LATE_AFTER)));
            loop {
                let ended = poll_fn(|cx| match bringing.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
                });
                if let Some(result) = ended.await {
                    break result;
                }
                let now = Instant::now();
                flight.set_late(true);
                self.launch();
                for due in open.iter_mut().filter(|one| one.as_ref().is_some_and(|(at, _)| *at <= now)) {
                    if let Some((_, done)) = due.take() {
                        self.tell_out_of_time(done, errand.may_have_arrived());
                    }
                }
                match open.iter().flatten().map(|(at, _)| *at).min() {
                    Some(next) => timer.as_mut().reset(next),
                    // Nobody is left to tell. What is on its way is on its way.
                    None => break bringing.await,
                }
            }
        };
        if let Some(messages) = batch.learned() {
            self.outgoing.messages_max.set(Some(messages));
        }
        for (entry, open) in batch.into_entries().zip(open) {
            let Some((deadline_at, done)) = open else { continue };
            let result = match (entry.fate, &result) {
                (Some(Fate::Sent), _) => Ok(Sent { id: entry.id, duplicate: false }),
                (Some(Fate::Duplicate), _) => Ok(Sent { id: entry.id, duplicate: true }),
                (Some(Fate::Refused(error)), _) => Err(Fault { error, next: Next::GiveUp }),
                (None, Ok(())) => Err(no_room()),
                (None, Err(fault)) => Err(fault.again()),
            };
            self.tell(Waiting { id: entry.id, body: entry.body, deadline_at, done }, result, used);
        }
    }

    /// Tells what came of an attempt at a message, or sees to it that there is another one.
    fn tell(self: &Rc<Self>, message: Waiting, result: Result<Sent, Fault>, used: Generation) {
        let Waiting { id, body, deadline_at, done } = message;
        // Where nobody waits for the answer any more, nobody misses it.
        match (done, result) {
            (Done::Send(done), Ok(sent)) => drop(done.send(Ok(sent))),
            (Done::Send(done), Err(Fault { error, next: Next::GiveUp })) => drop(done.send(Err(error))),
            (Done::Send(mut done), Err(fault)) => {
                let sender = Rc::clone(self);
                actix_rt::spawn(async move {
                    let errand = Errand::new(deadline_at, sender.deadline, &mut done);
                    let result = sender.go_on(id, body, (fault, used), &errand).await;
                    drop(done.send(result));
                });
            }
            (Done::Attempt(done), result) => {
                let result = result.map_err(|fault| (fault, used));
                drop(done.send(Attempted { body, result }));
            }
        }
    }

    /// Goes on with a message whose first attempt has failed.
    async fn go_on(
        self: &Rc<Self>,
        id: MessageId,
        body: String,
        failed: (Fault, Generation),
        errand: &Errand<'_>,
    ) -> Result<Sent, SendError> {
        let body = Cell::new(Some(body));
        self.persist_after(Some(failed), errand, async |used| {
            // An attempt gives it back.
            let text = body.take().unwrap_or_default();
            let (done, attempted) = oneshot::channel();
            let deadline_at = errand.deadline_at;
            self.enqueue(Waiting { id, body: text, deadline_at, done: Done::Attempt(done) });
            match errand.unless_given_up(attempted).await? {
                Ok(Attempted { body: text, result }) => {
                    body.set(Some(text));
                    result.map_err(|(fault, generation)| {
                        *used = generation;
                        fault
                    })
                }
                Err(_) => Err(Fault { error: SendError::Stopped, next: Next::GiveUp }),
            }
        })
        .await
    }

    /// Tells whoever waits for a message that its time is over while it is on its way.
    fn tell_out_of_time(self: &Rc<Self>, done: Done, may_have_arrived: bool) {
        let fault = self.out_of_time(may_have_arrived);
        let message = Waiting {
            id: MessageId::from_bytes([0; 16]),
            body: String::new(),
            deadline_at: Instant::now(),
            done,
        };
        self.tell(message, Err(fault), self.session.generation());
    }

    /// Tells those that their time is over that it is, while they wait. Returns when the next one's will be.
    fn end_waits(self: &Rc<Self>) -> Option<Instant> {
        self.tell_waited_too_long(self.outgoing.take_due(Instant::now()));
        self.outgoing.waiting.borrow().iter().map(|message| message.deadline_at).min()
    }

    fn tell_waited_too_long(self: &Rc<Self>, due: Vec<Waiting>) {
        for message in due {
            self.tell(message, Err(self.busy()), self.session.generation());
        }
    }
}

/// Sees to it that no message waits beyond its time. Ends when none waits.
async fn watch(sender: Weak<Sender>, _watching: Watching) {
    loop {
        let Some(strong) = sender.upgrade() else { return };
        let Some(next) = strong.end_waits() else { return };
        drop(strong);
        // Whatever comes later mostly has more time, but a message that is sent again has less.
        sleep_until(next.min(Instant::now() + WATCH_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Sent, SendError>>;

    fn message(number: u8, bytes: usize, deadline_at: Instant) -> (Waiting, Answer) {
        let (done, answer) = oneshot::channel();
        let (id, body) = (MessageId::from_bytes([number; 16]), "x".repeat(bytes));
        (Waiting { id, body, deadline_at, done: Done::Send(done) }, answer)
    }

    /// An outgoing queue of messages of these lengths, and who waits for them.
    fn outgoing(lengths: &[usize]) -> (Rc<Outgoing>, Vec<Answer>) {
        let outgoing = Rc::<Outgoing>::default();
        let deadline_at = Instant::now() + Duration::from_secs(30);
        let answers = (0..).zip(lengths).map(|(number, bytes)| {
            let (message, answer) = message(number, *bytes, deadline_at);
            outgoing.push(message);
            answer
        });
        let answers = answers.collect();
        (outgoing, answers)
    }

    impl Outgoing {
        fn take_now(&self) -> Vec<Waiting> {
            let mut due = Vec::new();
            let group = self.take(Instant::now(), &mut due);
            assert!(due.is_empty());
            group
        }
    }

    fn ids(group: &[Waiting]) -> Vec<u8> {
        group.iter().map(|message| message.id.as_bytes()[0]).collect()
    }

    #[test]
    fn what_waits_goes_together_in_order_up_to_the_limits() {
        let (outgoing, _answers) = outgoing(&[10, 20, GROUP_BYTES_MAX, 30]);
        assert_eq!(ids(&outgoing.take_now()), [0, 1]);
        assert_eq!(ids(&outgoing.take_now()), [2], "a long one goes alone");
        assert_eq!((ids(&outgoing.take_now()), outgoing.bytes.get()), (vec![3], 0));
        assert!(outgoing.take_now().is_empty());
    }

    #[test]
    fn no_more_go_together_than_the_server_takes() {
        let (outgoing, _answers) = outgoing(&[1; 5]);
        outgoing.messages_max.set(Some(2));
        assert_eq!(
            [outgoing.take_now().len(), outgoing.take_now().len(), outgoing.take_now().len()],
            [2, 2, 1]
        );
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_dropped() {
        let (outgoing, mut answers) = outgoing(&[1, 2, 3]);
        answers.remove(1);
        assert_eq!((ids(&outgoing.take_now()), outgoing.bytes.get()), (vec![0, 2], 0));
    }

    #[test]
    fn a_message_that_finds_the_line_idle_goes_at_once_and_others_wait_for_its_return_if_it_is_soon() {
        let (outgoing, _answers) = outgoing(&[1]);
        assert!(outgoing.wants_flight(4));
        let flight = Flight::begin(&outgoing);
        assert!(!outgoing.wants_flight(4));
        flight.set_late(true);
        assert!(outgoing.wants_flight(4), "nothing waits for a late one");
        assert!(!outgoing.wants_flight(1), "but for a connection");
        flight.set_late(false);
        assert!(!outgoing.wants_flight(4));
        flight.is_landed.set(true);
        drop(flight);
        assert!(outgoing.wants_flight(4));
        outgoing.take_now();
        assert!(!outgoing.wants_flight(4), "there is nothing to send");
    }

    #[test]
    fn many_or_long_messages_are_worth_another_connection() {
        for lengths in [vec![1; WAITING_MESSAGES], vec![WAITING_BYTES]] {
            let (outgoing, _answers) = outgoing(&lengths);
            let _flight = Flight::begin(&outgoing);
            assert!(outgoing.wants_flight(4));
        }
        let (outgoing, _answers) = outgoing(&[1; WAITING_MESSAGES]);
        let _flight = Flight::begin(&outgoing);
        outgoing.last_group.set(WAITING_MESSAGES * 3);
        assert!(!outgoing.wants_flight(4), "few beside those that are on their way");
    }

    #[test]
    fn those_whose_time_is_over_are_taken_out() {
        let outgoing = Outgoing::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let messages = [message(0, 5, later), message(1, 6, now), message(2, 7, later)];
        let _answers: Vec<_> = messages
            .into_iter()
            .map(|(message, answer)| {
                outgoing.push(message);
                answer
            })
            .collect();
        let mut due = Vec::new();
        let group = outgoing.take(now, &mut due);
        assert_eq!((ids(&group), ids(&due), outgoing.bytes.get()), (vec![0, 2], vec![1], 0));
        for message in group.into_iter().chain(due) {
            outgoing.push(message);
        }
        assert_eq!(ids(&outgoing.take_due(now)), [1]);
        assert_eq!((outgoing.bytes.get(), ids(&outgoing.take_now())), (12, vec![0, 2]));
    }

    #[test]
    fn those_that_wait_for_a_task_that_is_gone_hear_that_the_client_has_stopped() {
        let (outgoing, mut answers) = outgoing(&[1]);
        let flight = Flight::begin(&outgoing);
        flight.is_landed.set(true);
        drop(flight);
        assert!(answers[0].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop(Flight::begin(&outgoing));
        assert!(answers[0].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert_eq!((outgoing.bytes.get(), outgoing.flights.get()), (0, 0));
    }
}

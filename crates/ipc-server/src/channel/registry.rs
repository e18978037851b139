//! The open channels of a worker, and whether their users may still be there: looked at twice a
//! second for all of them.
//!
//! A channel looks for itself with each frame and before replies go out; one on which nothing
//! happens is woken here when its time is over.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use actix_web::{HttpRequest, web};

use super::closing::Closing;
use crate::authenticate;
use crate::peer::{LastingPeer, Peer};
use crate::refusal::Refusal;
use crate::session::{LastSession, Session};
use crate::state::{State, unix_secs};
use crate::users::Standing;

/// How often all channels are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// How old an answer of the users' database may be for that: with the period and the time that an
/// answer takes, less than a second.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// The open channels of a worker.
#[derive(Default)]
pub(crate) struct Channels {
    members: RefCell<HashMap<u64, Rc<ChannelPeer>>>,
    next: Cell<u64>,
    is_watched: Cell<bool>,
}

/// Who is at the other end of a channel, and by what right.
pub(super) struct ChannelPeer {
    peer: LastingPeer,
    /// Spares the opening of a token that comes again.
    last_session: LastSession,
    session: RefCell<Option<Rc<Session>>>,
    /// Something of it has ended, or is not known.
    is_in_doubt: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

/// A channel's place among the others, given back when it is dropped.
pub(super) struct Registration {
    channels: Rc<Channels>,
    number: u64,
    pub(super) channel_peer: Rc<ChannelPeer>,
}

impl Channels {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Takes in the channel that a request opens.
    pub(super) fn join(
        self: &Rc<Self>,
        request: &HttpRequest,
        state: &web::Data<State>,
    ) -> Registration {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let channel_peer = Rc::new(ChannelPeer {
            peer: LastingPeer::of(request),
            last_session: LastSession::default(),
            session: RefCell::default(),
            is_in_doubt: Cell::new(false),
            task: RefCell::default(),
        });
        self.members.borrow_mut().insert(number, Rc::clone(&channel_peer));
        if !self.is_watched.replace(true) {
            actix_web::rt::spawn(watch(Rc::downgrade(self), state.clone()));
        }
        Registration { channels: Rc::clone(self), number, channel_peer }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.channels.members.borrow_mut().remove(&self.number);
    }
}

/// Looks at all channels from time to time. Ends with the last of them.
async fn watch(channels: Weak<Channels>, state: web::Data<State>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(channels) = channels.upgrade() else { return };
        let standings: Vec<_> = channels.members.borrow().values().cloned().collect();
        if standings.is_empty() {
            channels.is_watched.set(false);
            return;
        }
        drop(channels);
        for channel_peer in standings {
            if !channel_peer.is_good(&state).await {
                channel_peer.is_in_doubt.set(true);
                if let Some(task) = channel_peer.task.borrow().as_ref() {
                    task.wake_by_ref();
                }
            }
        }
    }
}

impl ChannelPeer {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.peer.address
    }

    pub(super) fn last_session(&self) -> &LastSession {
        &self.last_session
    }

    /// The peer, as it is now.
    ///
    /// # Errors
    /// 403 if its certificate is no longer good.
    pub(super) fn peer(&self, state: &State, now_secs: u64) -> Result<Peer, Refusal> {
        self.peer.look(&state.transport, now_secs)
    }

    pub(super) fn session(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone()
    }

    /// Takes the session that a frame brought. Returns whether it is another one than before.
    ///
    /// # Errors
    /// It is another user's: what goes out would be for the first.
    pub(super) fn set_session(&self, session: Rc<Session>) -> Result<bool, Closing> {
        let before = self.session.replace(Some(Rc::clone(&session)));
        match before {
            Some(before) if before.user != session.user => {
                Err(Closing::policy("a session of another user than the channel's"))
            }
            before => Ok(before.is_none_or(|before| !Rc::ptr_eq(&before, &session))),
        }
    }

    /// Whether something of it has ended since this was asked last. Notes who is to be woken when
    /// it does.
    pub(super) fn is_in_doubt(&self, context: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        self.is_in_doubt.take()
    }

    /// The user, if everything is as it was and nobody has to be asked; `None` if the users'
    /// database has to be.
    ///
    /// # Errors
    /// 403 and 419 as with each request.
    pub(super) fn user(&self, state: &State, now_secs: u64) -> Result<Option<Arc<str>>, Refusal> {
        let peer = self.peer(state, now_secs)?;
        let session = self.session.borrow();
        let session = session
            .as_ref()
            .filter(|session| session.lasts(now_secs))
            .ok_or_else(authenticate::expired)?;
        let with = (session.credential_version, peer.name());
        match state.users.known(&session.user, with, Instant::now()) {
            None => Ok(None),
            Some(standing) => authenticate::standing(standing).map(Some),
        }
    }

    /// Whether everything is as it was. Before there is a session, nothing but the certificate can
    /// have ended.
    async fn is_good(&self, state: &State) -> bool {
        let now_secs = unix_secs(SystemTime::now());
        let Ok(peer) = self.peer(state, now_secs) else { return false };
        let Some(session) = self.session() else { return true };
        if !session.lasts(now_secs) {
            return false;
        }
        let with = (session.credential_version, peer.name());
        let current =
            state.users.current_within(FRESH_FOR, &session.user, with, Instant::now()).await;
        matches!(current, Ok(Standing::Good(_)))
    }
}

//! The open channels of a worker. Twice a second it checks for all of them that their users may
//! still use them.
//!
//! A channel itself checks with each frame and before it sends replies. A channel without traffic
//! is woken from here when its user's right has ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use actix_web::{HttpRequest, web};

use super::closing::Closing;
use crate::authenticate::{self, NoSession};
use crate::clock::unix_secs;
use crate::peer::{LastingPeer, Peer};
use crate::refusal::Refusal;
use crate::session::{LastSession, Session};
use crate::state::State;
use crate::users::Standing;

/// How often all channels are checked.
const PERIOD: Duration = Duration::from_millis(500);

/// How old an answer of the user store may be for this check. Together with the period and the time
/// of a query, a change is noticed within a second.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// The open channels of a worker.
#[derive(Default)]
pub(crate) struct Channels {
    members: RefCell<HashMap<u64, Rc<ChannelPeer>>>,
    next: Cell<u64>,
    is_watched: Cell<bool>,
}

/// The peer of a channel, with the session that gives it the right to send.
pub(super) struct ChannelPeer {
    peer: LastingPeer,
    /// Avoids opening the same token twice.
    last_session: LastSession,
    session: RefCell<Option<Rc<Session>>>,
    /// A check has failed, or could not be made.
    is_in_doubt: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

/// A channel's entry in the registry. It is removed when this is dropped.
pub(super) struct Registration {
    channels: Rc<Channels>,
    number: u64,
    pub(super) channel_peer: Rc<ChannelPeer>,
}

impl Channels {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Registers the channel that a request opens.
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

/// Checks all channels periodically. Ends when there are none.
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

    /// The peer name in its certificate.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        self.peer.name()
    }

    pub(super) fn last_session(&self) -> &LastSession {
        &self.last_session
    }

    /// Checks the peer's certificate now.
    ///
    /// # Errors
    /// 403 if the certificate is no longer valid.
    pub(super) fn peer(&self, state: &State, now_secs: u64) -> Result<Peer, Refusal> {
        self.peer.look(&state.trust(), now_secs)
    }

    pub(super) fn session(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone()
    }

    /// Sets the session that a frame brought. Returns whether it differs from the one before.
    ///
    /// # Errors
    /// If it is another user's: pending replies are meant for the first user.
    pub(super) fn set_session(&self, session: Rc<Session>) -> Result<bool, Closing> {
        let before = self.session.replace(Some(Rc::clone(&session)));
        match before {
            Some(before) if before.user != session.user => {
                Err(Closing::policy("a session of another user than the channel's"))
            }
            before => Ok(before.is_none_or(|before| !Rc::ptr_eq(&before, &session))),
        }
    }

    /// Whether a check has failed since the last call. Also stores the waker to be called when one
    /// does.
    pub(super) fn is_in_doubt(&self, context: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        self.is_in_doubt.take()
    }

    /// The user, if all checks pass without a query. `None` if the user store has to be asked.
    ///
    /// # Errors
    /// 403 and 419, as for each request.
    pub(super) fn user(&self, state: &State, now_secs: u64) -> Result<Option<Arc<str>>, Refusal> {
        let peer = self.peer(state, now_secs)?;
        let session = self.session.borrow();
        let session = session
            .as_ref()
            .filter(|_| self.last_session.still_opens(state.trust().session_keys(), now_secs))
            .ok_or_else(|| authenticate::expired(NoSession::Ended))?;
        let with = (session.credential_version, peer.name());
        match state.users.known(&session.user, with, Instant::now()) {
            None => Ok(None),
            Some(standing) => authenticate::standing(standing).map(Some),
        }
    }

    /// Whether all checks pass. Without a session only the certificate is checked.
    async fn is_good(&self, state: &State) -> bool {
        let now_secs = unix_secs(SystemTime::now());
        let Ok(peer) = self.peer(state, now_secs) else { return false };
        let Some(session) = self.session() else { return true };
        if !self.last_session.still_opens(state.trust().session_keys(), now_secs) {
            return false;
        }
        let with = (session.credential_version, peer.name());
        let current =
            state.users.current_within(FRESH_FOR, &session.user, with, Instant::now()).await;
        matches!(current, Ok(Standing::Good(_)))
    }
}

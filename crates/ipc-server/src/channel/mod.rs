//! Channels: a WebSocket on which a client sends entries and gets their answers.
//!
//! `routes` comes here with each request for a channel. The response is 101, and its body is the
//! channel: the HTTP library polls it in the connection's own task. A channel therefore needs no
//! task, no queue and no thread of its own.
//!
//! * `handshake` checks the request, `wire` parses WebSocket frames, `frame` opens envelopes and
//!   stores entries, `parsed` has the frames of long messages
//! * `sequence` has the entries' numbers, `answers` their results, `outgoing` the data on their way
//!   to the peer
//! * `registry` checks the users of all channels, `closing` has the close codes
//! * `driver` has the order of all steps

mod answers;
mod closing;
mod driver;
mod frame;
mod handshake;
mod outgoing;
mod parsed;
pub(crate) mod registry;
mod sequence;
pub(crate) mod settings;
mod wire;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use self::driver::Parts;
use self::outgoing::{Outgoing, Piece};
use self::registry::Channels;
use crate::refusal::{Refusal, internal, shutting_down};
use crate::spans;
use crate::state::State;
use crate::timeouts::ConnectionState;

/// Opens a channel.
///
/// # Errors
/// 426 if the request does not ask for the channel's WebSocket, 400 if the handshake is malformed,
/// 503 while the server stops.
pub(crate) fn open(
    request: &HttpRequest,
    payload: web::Payload,
    state: &web::Data<State>,
) -> Result<HttpResponse, Refusal> {
    if state.is_stopping() {
        return Err(shutting_down());
    }
    let mut response = handshake::accept(request.head(), state.channel.announced)?;
    let (Some(connection), Some(channels)) =
        (request.conn_data::<Rc<ConnectionState>>(), request.app_data::<Rc<Channels>>())
    else {
        return Err(internal(
            "opening a channel",
            "the request has no connection state or no registry of channels",
        ));
    };
    let payload = payload.into_inner();
    if !matches!(payload, Payload::H1 { .. }) {
        return Err(internal("opening a channel", "the body of the request has an end"));
    }
    connection.channel_opens();
    let outgoing = Rc::new(RefCell::new(Outgoing::default()));
    let parts = Parts {
        state: state.clone(),
        registration: channels.join(request, state),
        connection: Rc::clone(connection),
        payload,
        outgoing: Rc::clone(&outgoing),
    };
    let body = ChannelBody {
        driver: Some(Box::pin(spans::channel(request.peer_addr(), driver::drive(parts)))),
        outgoing,
        connection: Rc::clone(connection),
    };
    Ok(response.body(body).map_into_boxed_body().into())
}

/// The body of the response 101: everything that the channel sends.
struct ChannelBody {
    /// The running channel. `None` once it is over.
    driver: Option<Pin<Box<dyn Future<Output = ()>>>>,
    outgoing: Rc<RefCell<Outgoing>>,
    connection: Rc<ConnectionState>,
}

impl MessageBody for ChannelBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        loop {
            let piece = this.outgoing.borrow_mut().take(this.connection.written(), context);
            if let Piece::Some(piece) = piece {
                return Poll::Ready(Some(Ok(piece)));
            }
            let Some(driver) = &mut this.driver else { return Poll::Ready(None) };
            if driver.as_mut().poll(context).is_ready() {
                this.driver = None;
            } else if matches!(piece, Piece::Later) || this.outgoing.borrow().is_empty() {
                return Poll::Pending;
            }
        }
    }
}

//! Carries calls: a queue, one channel or a few POSTs, retries with backoff, and deadlines.
//!
//! `worker` passes calls in and drives the engine. `channel` and `exchange` know how a frame is
//! written or posted. The engine decides which entry goes where, when, and how often: `dispatch`
//! chooses the way, `over_channel` and `posting` are the two ways, `recovery` handles failures,
//! `driver` handles deadlines, `following` handles changed files of the home, and `renewing` asks
//! for a renewal.
//!
//! A lone first message goes by POST, so that a process that sends one message does not pay for an
//! upgrade. All others go over a channel, if the server opens one. Entries that are too large for a
//! channel's frame go by POST beside it. When a channel ends or a POST fails, entries without an
//! answer go back to their places in the queue, and are sent again under the same id.

mod active_call;
mod backoff;
mod dispatch;
mod driver;
mod following;
mod over_channel;
mod post;
mod posting;
mod queue;
mod recovery;
mod renewing;
mod state;

pub(crate) use dispatch::Engine;
pub(crate) use driver::Driver;

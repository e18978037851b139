//! What becomes of calls: a queue, one channel or a few POSTs that carry them, retries with
//! backoff, and deadlines.
//!
//! `worker` hands calls in and drives it. How a frame is written or posted is known below; here is
//! decided which goes where, when, and how often: `dispatch` says by which way, `over_channel` and
//! `posting` are the two ways, `recovery` is what follows a failure, and `driver` sees to time.
//! `following` is what happens when files of the home change, `renewing` asks for a renewal.
//!
//! A lone first message goes by POST, so that a process that sends one pays for no upgrade.
//! Whatever follows goes over a channel, where the server opens one; what a frame of it cannot hold
//! goes by POST beside it. What has no answer when a channel ends or a POST fails goes back to its
//! place in the queue, and out again under the same id.

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

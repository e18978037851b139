//! What the tasks that kill and cut share: random numbers that a seed repeats, a proxy that cuts
//! connections, free ports, and the logs of processes.
//!
//! `crash` and `cluster` come here. Nothing here knows which processes a run has.

mod logs;
mod ports;
mod proxy;
mod random;

pub(crate) use logs::{channels_and_posts, open as open_log, tail};
pub(crate) use ports::free_port;
pub(crate) use proxy::{Cut, Proxy};
pub(crate) use random::{Random, fresh_seed};

//! The first layer of `bench`: what is measured, and against what.
//!
//! Both other layers come here for the list: the rounds to run it, the tables to look for what it
//! names. Nothing is run here.

mod exchange;
mod figures;
mod options;

pub(crate) use exchange::{
    BATCH, CLIENTS, Case, Connection, IN_FLIGHT, IN_FLIGHT_OF_EACH, Inbox, ONE_CORE_SIZES, SIZES,
    Workload, all as exchanges, size,
};
pub(crate) use figures::{
    CHANNELS, COMMANDS, IDLE, ONCE, REMEMBERED, REMEMBERED_IDS, SEALING, WAKE, sealing,
};
pub(crate) use options::Options;

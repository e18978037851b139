//! The first layer of `bench`: what is measured and compared.
//!
//! Both other layers use the list: the rounds run it, and the tables look it up. Nothing is run
//! here.

mod exchange;
mod figures;
mod options;

pub(crate) use exchange::{
    Attack, BATCH, BESIEGED, CLIENTS, Case, Connection, IN_FLIGHT, IN_FLIGHT_OF_EACH, Inbox,
    ONE_CORE_SIZES, SIEGE_CONNECTIONS, SIEGE_LOGINS, SIZES, Workload, all as exchanges, size,
};
pub(crate) use figures::{
    CHANNELS, COMMANDS, IDLE, ONCE, REMEMBERED, REMEMBERED_IDS, SEALING, WAKE, sealing,
};
pub(crate) use options::Options;

//! The client against a server of scripted answers, over real sockets and real TLS.

mod faces;
mod fake;
mod fixture;
mod login;
mod options;
mod retrying;
mod secrets;
mod sending;
mod trust;

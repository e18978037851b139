//! `cargo xtask scaling`: what a message costs with one, two and three web-ipc servers on one
//! inbox, and which process pays for it.
//!
//! Run it for the figures of `docs/scaling.md`. The inbox is on NATS JetStream, on one NATS server
//! and on three; the users are in PostgreSQL. Everything is real: a release build, processes of
//! their own, TLS, files. Each web-ipc server has a client of its own with as many messages in
//! flight, so that more servers have more to do.

mod engines;
mod options;
mod processor_time;
mod rounds;
mod table;

pub(crate) use options::Options;

use crate::driver::build_scaling;

/// Builds, measures and prints the table. Returns true if everything could be measured.
pub(crate) fn run_alone(options: &Options) -> bool {
    if let Some(lacks) = engines::lacks() {
        println!("scaling: skipped: {lacks}");
        return true;
    }
    let measured = build_scaling()
        .and_then(|built| rounds::run(&built, options, &mut |line| eprintln!("scaling: {line}")));
    match measured {
        Ok(samples) => {
            print!("{}", table::markdown(&samples));
            true
        }
        Err(error) => {
            eprintln!("scaling: {error}");
            false
        }
    }
}

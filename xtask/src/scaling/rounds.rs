//! Measures each number of servers once per round, round after round, so that a disturbance of the
//! machine affects all alike.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::engines::{NatsServers, Users};
use super::options::Options;
use super::processor_time;
use crate::driver::{Built, Captured, PATIENCE, Sandbox, finish, number, stop};

/// How many NATS servers keep an inbox.
const NATS_SERVERS: [usize; 2] = [1, 3];

/// How many web-ipc servers share it.
const SERVERS: [usize; 3] = [1, 2, 3];

/// How many messages a client with a rate may have in flight: so many that it never waits.
const PACED: usize = 64;

/// How the client of each server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// So many messages a second.
    Rate(u32),
    /// As fast as answers come, with so many in flight.
    InFlight(usize),
}

/// So many NATS servers and so many web-ipc servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) load: Load,
    pub(super) nats_servers: usize,
    pub(super) servers: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { load, nats_servers, servers } = self;
        write!(f, "{load}, {nats_servers} NATS servers, {servers} web-ipc servers")
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Rate(rate) => write!(f, "{rate} /s for each"),
            Load::InFlight(count) => write!(f, "{count} in flight for each"),
        }
    }
}

/// What one run of a case took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Messages a second, of all servers together.
    pub(super) rate: f64,
    /// Processor time for a message, in microseconds.
    pub(super) servers_us: f64,
    pub(super) nats_us: f64,
    pub(super) postgres_us: f64,
}

/// Everything that was measured, one sample per round.
pub(super) type Samples = BTreeMap<Case, Vec<Sample>>;

/// Runs all rounds. `say` is called before each step. The error says what could not be measured.
pub(super) fn run(
    built: &Built,
    options: &Options,
    say: &mut dyn FnMut(String),
) -> Result<Samples, String> {
    let bed = Bed { sandbox: Sandbox::new(built), users: Users::start(built)?, built };
    let init = bed.sandbox.command(&["--init", "--run", "--usersDb", &bed.users.address()]);
    finish(Captured::start(init, "")?, PATIENCE)?;
    let engines: Vec<NatsServers> =
        NATS_SERVERS.iter().map(|count| NatsServers::start(*count)).collect::<Result<_, _>>()?;
    // The first client logs in, and keeps the session for the others.
    bed.measure(&engines[0], "WARM", 1, 0.1, Load::InFlight(1))?;
    let loads = [Load::Rate(options.rate), Load::InFlight(options.in_flight)];
    let mut samples = Samples::new();
    for round in 1..=options.rounds {
        for (number, load) in loads.into_iter().enumerate() {
            for nats in &engines {
                for servers in SERVERS {
                    let case = Case { load, nats_servers: nats.count(), servers };
                    say(format!("round {round} of {}: {case}", options.rounds));
                    let name = format!("R{round}-{number}-{servers}");
                    let sample = bed.measure(nats, &name, servers, options.secs, load)?;
                    samples.entry(case).or_default().push(sample);
                }
            }
        }
    }
    Ok(samples)
}

/// What all cases share.
struct Bed<'a> {
    sandbox: Sandbox,
    users: Users,
    built: &'a Built,
}

impl Bed<'_> {
    fn program(&self, arguments: &[&str]) -> Result<Captured, String> {
        let mut command = self.sandbox.program(&self.built.folder.join("ipc-bench"));
        command.args(arguments);
        Captured::start(command, "")
    }

    /// Starts servers on a new inbox, and for each a client that sends to it alone.
    fn measure(
        &self,
        nats: &NatsServers,
        name: &str,
        servers: usize,
        secs: f64,
        load: Load,
    ) -> Result<Sample, String> {
        let (home, inbox) = (self.sandbox.home().display().to_string(), nats.inbox(name));
        let users = self.users.address();
        let mut running = Vec::new();
        for _ in 0..servers {
            let mut server = self.program(&[
                "server",
                "--home",
                &home,
                "--inbox",
                &inbox,
                "--users-db",
                &users,
            ])?;
            let address = server.wait_for_line("listening on ")?;
            running.push((server, address));
        }
        let of_servers = || -> Result<Duration, String> {
            running.iter().map(|(server, _)| processor_time::of_process(server.id())).sum()
        };
        let used = || {
            Ok::<_, String>((of_servers()?, nats.processor_time()?, self.users.processor_time()?))
        };
        let before = used()?;
        let secs_text = secs.to_string();
        let load = match load {
            Load::Rate(rate) => {
                ["--in-flight".to_owned(), PACED.to_string(), "--rate".to_owned(), rate.to_string()]
                    .to_vec()
            }
            Load::InFlight(count) => ["--in-flight".to_owned(), count.to_string()].to_vec(),
        };
        let clients: Vec<Captured> = running
            .iter()
            .map(|(server, address)| {
                let pid = server.id().to_string();
                let mut arguments =
                    vec!["client", "--home", &home, "--address", address, "--server-pid", &pid];
                arguments.extend(["--secs", &secs_text]);
                arguments.extend(load.iter().map(String::as_str));
                self.program(&arguments)
            })
            .collect::<Result<_, _>>()?;
        let patience = PATIENCE + Duration::from_secs_f64(secs);
        let mut rate = 0.0;
        for client in clients {
            rate += figure(&finish(client, patience)?, "rate")?;
        }
        let after = used()?;
        let mut taken = 0.0;
        for (server, _) in running {
            taken += figure(&stop(server)?, "taken")?;
        }
        if taken == 0.0 {
            return Err("no message arrived".to_owned());
        }
        let each = |before: Duration, after: Duration| (after - before).as_secs_f64() / taken * 1e6;
        Ok(Sample {
            rate,
            servers_us: each(before.0, after.0),
            nats_us: each(before.1, after.1),
            postgres_us: each(before.2, after.2),
        })
    }
}

/// A figure of the last line that a program printed.
fn figure(said: &[Value], name: &str) -> Result<f64, String> {
    number(said.last().ok_or("a program printed no figures")?, name)
}

//! One run: clients send while each round has a fault. Then everything is taken out, and the run is
//! judged.
//!
//! The task and the end-to-end scenarios come here with a sandbox and options. A fault lasts until
//! every client has had an answer that it asked for meanwhile; a round, until what failed is there
//! again and every client has had an answer after that. Nothing waits for a fixed time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::clients::{self, Answer, KINDS};
use super::event::Event;
use super::fault::{Fault, Faults, Victim};
use super::links::{Link, Links};
use super::nats::{self, Election, NatsCluster};
use super::options::{InboxKind, Options};
use super::servers::{self, Setup};
use super::verdict::{Ledger, Verdict};
use crate::driver::{Built, Captured, Postgres, Process, Sandbox};
use crate::faults;

const SERVERS: usize = 3;
const NATS: usize = 3;

/// How long a run waits for something before it counts as hanging. A call of a client may take that
/// long too.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long the last deliveries may take, if nothing else comes.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// The longest time between two looks at what is not an event.
const LOOK_EVERY: Duration = Duration::from_millis(200);

struct Server {
    setup: Setup,
    process: Option<Process>,
    /// The number of its present start, among those of all.
    run: u32,
    is_listening: bool,
}

struct Client {
    process: Process,
    answers: u64,
    has_ended: bool,
}

struct Run<'a> {
    sandbox: &'a Sandbox,
    options: &'a Options,
    say: &'a mut dyn FnMut(&str),
    events: Receiver<Event>,
    tell: Sender<Event>,
    links: Links,
    nats: NatsCluster,
    postgres: Postgres,
    servers: Vec<Server>,
    runs: u32,
    clients: Vec<Client>,
    ledger: Ledger,
    /// What is told of a long wait: the round and its fault.
    round: String,
    /// The longest wait of the round, and whose it was.
    wait: (Duration, String),
    /// The first thing that went wrong with a process.
    failed: Option<String>,
}

/// Runs all rounds. `say` gets a line for each round. The error says why there is no verdict.
pub(super) fn run(
    built: &Built,
    sandbox: &Sandbox,
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Verdict, String> {
    let mut run = Run::start(built, sandbox, options, say)?;
    run.until_progress()?;
    let mut faults = Faults::new(options.seed, options.faults);
    for number in 1..=options.rounds {
        run.round(number, faults.draw(KINDS.len(), SERVERS, NATS))?;
    }
    run.finish()?;
    Ok(run.ledger.verdict())
}

impl<'a> Run<'a> {
    fn start(
        built: &Built,
        sandbox: &'a Sandbox,
        options: &'a Options,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Self, String> {
        let ports = |count: usize| -> Result<Vec<u16>, String> {
            (0..count).map(|_| faults::free_port()).collect()
        };
        let (server_ports, postgres_port) = (ports(SERVERS)?, faults::free_port()?);
        let nats_ports: Vec<(u16, u16)> = ports(NATS)?.into_iter().zip(ports(NATS)?).collect();
        let links = Links::start(KINDS.len(), &server_ports, &nats_ports, postgres_port)?;
        let postgres = Postgres::start_trusting(built, postgres_port)?;
        let routes = (0..NATS).map(|from| {
            let others = (0..NATS).filter(|to| *to != from);
            others.map(|to| links.route(from, to)).collect()
        });
        let nats_ports: Vec<nats::Ports> = nats_ports
            .iter()
            .map(|(clients, routes)| nats::Ports { clients: *clients, routes: *routes })
            .collect();
        let nats = NatsCluster::start(sandbox, &nats_ports, routes.collect())?;
        let users =
            |address: &str| format!("postgres://postgres@{address}/postgres?sslmode=disable");
        let copied = sandbox.command(&[
            "--users",
            "--copyTo",
            &users(&format!("127.0.0.1:{postgres_port}")),
        ]);
        let copied = Captured::start(copied, "")?.finish()?;
        if !copied.status.success() {
            return Err(copied.report());
        }
        let (tell, events) = channel();
        let mut run = Run {
            sandbox,
            options,
            say,
            events,
            tell,
            links,
            nats,
            postgres,
            servers: Vec::new(),
            runs: 0,
            clients: Vec::new(),
            ledger: Ledger::default(),
            round: "before the first round".to_owned(),
            wait: Default::default(),
            failed: None,
        };
        for (place, port) in server_ports.iter().enumerate() {
            let nats: Vec<String> =
                (0..NATS).map(|nats| run.links.address(Link::ServerNats(place, nats))).collect();
            let home = sandbox.folder().join(format!("home-{place}"));
            servers::copy_home(sandbox, &home)?;
            let setup = Setup {
                home,
                port: *port,
                inbox: match options.inbox {
                    InboxKind::Memory => "memory".to_owned(),
                    InboxKind::JetStream => {
                        format!("nats://{}/{}?replicas=3", nats.join(","), nats::INBOX)
                    }
                },
                users: users(&run.links.address(Link::ServerPostgres(place))),
            };
            run.servers.push(Server { setup, process: None, run: 0, is_listening: false });
            // The first one makes the streams.
            run.start_server(place)?;
        }
        for place in 0..KINDS.len() {
            // Each begins with another server.
            let servers = (0..SERVERS).map(|number| (place + number) % SERVERS);
            let addresses: Vec<String> = servers
                .map(|server| run.links.address(Link::ClientServer(place, server)))
                .collect();
            let (home, tell) = (sandbox.home(), run.tell.clone());
            let process = clients::start(sandbox, place, &home, &addresses, tell)?;
            run.clients.push(Client { process, answers: 0, has_ended: false });
        }
        Ok(run)
    }

    /// Starts a server, and waits until it listens.
    fn start_server(&mut self, place: usize) -> Result<(), String> {
        self.runs += 1;
        let (run, tell) = (self.runs, self.tell.clone());
        let server = &mut self.servers[place];
        let process = servers::start(self.sandbox, &server.setup, place, run, tell)?;
        (server.process, server.run, server.is_listening) = (Some(process), run, false);
        self.until("the server listens", |run| run.servers[place].is_listening)
    }

    /// Handles events until this is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            if !self.next(deadline.saturating_duration_since(Instant::now()))? {
                let answers: Vec<String> = self
                    .clients
                    .iter()
                    .zip(KINDS)
                    .map(|(client, kind)| format!("{} {}", client.answers, kind.name))
                    .collect();
                return Err(format!(
                    "{}: not within {PATIENCE:?}: {what}; answers: {}",
                    self.round,
                    answers.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Handles the next event. Returns `false` if there is none in this time.
    fn next(&mut self, wait: Duration) -> Result<bool, String> {
        let event = match self.events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Err("no process is left".to_owned()),
        };
        match event {
            Event::Listening(place) => self.servers[place].is_listening = true,
            Event::Delivered(run, line) => self.ledger.deliver(run, &line, &self.round)?,
            Event::Stored(sequence, id) => self.ledger.confirm(sequence, id, &self.round),
            Event::ServerEnded(place, run) => {
                let server = &self.servers[place];
                // A killed one has no process any more.
                if server.run == run && server.process.is_some() {
                    self.failed.get_or_insert(format!(
                        "{}: server {place} ended by itself\n{}",
                        self.round,
                        faults::tail(&servers::log(self.sandbox, place))
                    ));
                }
            }
            Event::Answered(place, line) => self.answered(place, &line)?,
            Event::ClientEnded(place) => self.clients[place].has_ended = true,
        }
        let is_ending = clients::end_file(self.sandbox).exists();
        if let Some(place) = self.clients.iter().position(|client| client.has_ended)
            && !is_ending
        {
            return Err(format!(
                "{}: the client {} gave up\n{}",
                self.round,
                KINDS[place].name,
                faults::tail(&clients::log(self.sandbox, KINDS[place]))
            ));
        }
        match self.failed.take() {
            Some(failed) => Err(failed),
            None => Ok(true),
        }
    }

    fn answered(&mut self, place: usize, line: &str) -> Result<(), String> {
        let kind = KINDS[place];
        let Some(answer) = Answer::read(line) else {
            return match line.strip_prefix("acknowledged ") {
                Some(count) if count.parse() == Ok(self.clients[place].answers) => Ok(()),
                _ => Err(format!("the client {} said `{line}`", kind.name)),
            };
        };
        self.clients[place].answers += 1;
        let from = kind.sender(answer.number);
        self.ledger.acknowledge(&from, answer.number, answer.has_reply);
        let (time, round) = (Duration::from_millis(answer.millis), &self.round);
        if self.wait.0 < time {
            self.wait = (time, format!("{from} {}, {round}", answer.number));
        }
        Ok(())
    }

    /// Waits until every task of every client has had an answer for which it asked from now on.
    fn until_progress(&mut self) -> Result<(), String> {
        let goals: Vec<u64> = self
            .clients
            .iter()
            .zip(KINDS)
            .map(|(client, kind)| client.answers + kind.answers_of_progress())
            .collect();
        self.until("every client goes on", |run| {
            run.clients.iter().zip(&goals).all(|(client, goal)| client.answers >= *goal)
        })
    }

    fn round(&mut self, number: u32, fault: Fault) -> Result<(), String> {
        let is_on_nats = self.options.inbox == InboxKind::JetStream;
        let (begun, mut what) = (Instant::now(), fault.to_string());
        let fault = match fault {
            Fault::Kill(Victim::Leader) if is_on_nats => {
                let leader = self.nats.leader()?;
                what += &format!(", n{leader}");
                Fault::Kill(Victim::Nats(leader))
            }
            Fault::Kill(Victim::Leader) => Fault::Kill(Victim::Nats(0)),
            other => other,
        };
        self.round = format!("round {number}: {what}");
        self.ends_wait(None);
        let is_of_nats =
            matches!(fault, Fault::Kill(Victim::Nats(_)) | Fault::Cut(Link::Routes(..), _));
        // What was delivered before the fault is known before.
        while self.next(Duration::ZERO)? {}
        if is_of_nats {
            self.ledger.nats_fails();
        }
        self.fail(fault)?;
        let election = (is_of_nats && is_on_nats).then(|| self.nats.watch_election());
        self.until_progress()?;
        let without = begun.elapsed();
        self.mend(fault)?;
        if is_on_nats {
            self.nats.until_caught_up()?;
        }
        while self.next(Duration::ZERO)? {}
        self.ledger.nats_is_whole();
        let mended = begun.elapsed();
        self.until_progress()?;
        if is_on_nats {
            self.read_stream()?;
        }
        let leaderless = match election.map(Election::time) {
            Some(None) => return Err(format!("{}: NATS has no leader", self.round)),
            leaderless => leaderless.flatten(),
        };
        let [without, mended, all, wait] = [without, mended, begun.elapsed(), self.wait.0]
            .map(|time| format!("{:.1} s", time.as_secs_f64()));
        let without_leader = leaderless
            .map(|time| format!(", NATS had no leader for {:.1} s", time.as_secs_f64()))
            .unwrap_or_default();
        (self.say)(&format!(
            "{}: all went on after {without}, whole again after {mended}, done after {all}; the \
             longest wait was {wait}{without_leader}",
            self.round
        ));
        self.ends_wait(leaderless);
        Ok(())
    }

    /// Passes on the longest wait until now, and for how long NATS had no leader meanwhile.
    fn ends_wait(&mut self, leaderless: Option<Duration>) {
        let (time, whose) = std::mem::take(&mut self.wait);
        self.ledger.wait(time, leaderless, whose);
    }

    fn fail(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(Victim::Server(place)) => {
                // Then the servers have most in hand.
                let many = (0..KINDS.len()).max_by_key(|place| KINDS[*place].each);
                if let Some(client) = many {
                    let answers = self.clients[client].answers;
                    self.until("an answer", |run| run.clients[client].answers > answers)?;
                }
                let Some(mut process) = self.servers[place].process.take() else {
                    return Err(format!("server {place} is not running"));
                };
                process.kill()?;
                process.wait().map(drop)
            }
            Fault::Kill(Victim::Nats(place)) => self.nats.kill(place),
            Fault::Kill(Victim::Leader) => Err("the leader has no number".to_owned()),
            Fault::Kill(Victim::Postgres) => self.postgres.kill(),
            Fault::Cut(link, how) => {
                self.links.cut(link, how);
                Ok(())
            }
        }
    }

    fn mend(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(Victim::Server(place)) => self.start_server(place),
            Fault::Kill(Victim::Nats(place)) => self.nats.restart(self.sandbox, place),
            Fault::Kill(Victim::Leader) => Ok(()),
            Fault::Kill(Victim::Postgres) => self.postgres.run_soon(),
            Fault::Cut(link, _) => {
                self.links.mend(link);
                Ok(())
            }
        }
    }

    fn read_stream(&mut self) -> Result<(), String> {
        for stored in self.nats.stored_after(self.ledger.last_sequence())? {
            self.ledger.store(stored.sequence, &stored.id, &stored.body)?;
        }
        Ok(())
    }

    /// Reads the stream again: a later leader may have other messages under the same sequences.
    fn read_whole_stream(&mut self) -> Result<(), String> {
        self.read_stream()?;
        let stream = self.nats.whole_stream()?;
        let messages = stream.messages.into_iter().map(|stored| (stored.sequence, stored.id));
        self.ledger.has_finally(stream.first_sequence, messages.collect());
        Ok(())
    }

    /// Ends the clients, waits for the last deliveries, and stops the servers.
    fn finish(&mut self) -> Result<(), String> {
        self.round = "after the last round".to_owned();
        let end = clients::end_file(self.sandbox);
        std::fs::write(&end, "").map_err(|error| format!("{}: {error}", end.display()))?;
        self.until("the clients end", |run| run.clients.iter().all(|client| client.has_ended))?;
        for (client, kind) in self.clients.iter_mut().zip(KINDS) {
            let status = client.process.wait()?;
            if !status.success() {
                let log = faults::tail(&clients::log(self.sandbox, kind));
                return Err(format!("the client {} ended with {status}\n{log}", kind.name));
            }
        }
        self.ends_wait(None);
        let mut quiet_since = Instant::now();
        while !self.is_drained()? && quiet_since.elapsed() < DRAINED_WITHIN {
            if self.next(LOOK_EVERY)? {
                quiet_since = Instant::now();
            }
        }
        for server in &mut self.servers {
            // From now on it may end.
            if let Some(mut process) = server.process.take() {
                process.terminate()?;
                let status = process.wait()?;
                if !status.success() {
                    return Err(format!("a server ended with {status} when it was stopped"));
                }
            }
        }
        while self.next(LOOK_EVERY)? {}
        match self.options.inbox {
            InboxKind::JetStream => self.read_whole_stream(),
            InboxKind::Memory => Ok(()),
        }
    }

    /// Whether nothing is left to be delivered.
    fn is_drained(&self) -> Result<bool, String> {
        match self.options.inbox {
            InboxKind::JetStream => Ok(self.nats.outstanding()? == 0),
            // Each server deals with all that it has before it ends.
            InboxKind::Memory => Ok(true),
        }
    }
}

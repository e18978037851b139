//! One run: senders send while each round has a fault. Then all waiting messages are taken out, and
//! the run is judged.
//!
//! The task and the end-to-end scenarios come here with a home and options. The verdict depends
//! only on the output of the processes: the receiver's lines, the senders' files of acknowledged
//! numbers, and exit statuses.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::event::Event;
use super::ledger::{Ledger, Verdict};
use super::options::{Fault, Mode, Options, Reader};
use super::receiver::{self, ReceiverProcess};
use super::sender;
use super::sender::Task;
use crate::driver::{Process, Sandbox};
use crate::faults::{self, Proxy, Random};

/// A run without any event for so long counts as hanging. This is longer than a sender's timeout,
/// whose end is an event.
const SILENCE_MAX: Duration = Duration::from_secs(180);

/// A sender starts again only while fewer acknowledged messages than this wait for delivery.
/// Otherwise the end of a run would take hours.
const BACKLOG_MAX: usize = 1000;

/// The `from` of a run's last message. When it is delivered, `--serve` has printed all messages and
/// may be stopped.
const LAST_FROM: &str = "last";

/// What a sender prints, after the number, for a request that was accepted and got no reply.
const NO_REPLY: &str = ": the server accepted the request, but the application gave no reply";

/// How long a receiver lives, at most, that is to be killed at a line: so many lines may not come.
const LIFE_MAX: Duration = Duration::from_secs(2);
const LIFE_MS_MAX: u64 = 400;
const LINES_BITS: u64 = 9;

/// How long the receiver's output is not read, so that it blocks and its inbox fills. In this time
/// it prints more than a pipe holds.
const STALL_MS: std::ops::Range<u64> = 400..800;

/// When a receiver is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KillPoint {
    /// Its output is not read from this line on. It is killed after this time.
    Stall(u64, Duration),
    /// At this time after its start, perhaps before it listens.
    Time(Duration),
    /// At this line, when it has unacknowledged messages.
    Line(u64),
}

impl KillPoint {
    /// The three kinds alternate, so that a short run has all of them.
    fn draw(round: u32, random: &mut Random) -> Self {
        match round % 3 {
            0 => {
                let time = STALL_MS.start + random.below(STALL_MS.end - STALL_MS.start);
                KillPoint::Stall(random.of_any_size(LINES_BITS), Duration::from_millis(time))
            }
            1 => KillPoint::Time(Duration::from_millis(random.below(LIFE_MS_MAX))),
            _ => KillPoint::Line(random.of_any_size(LINES_BITS)),
        }
    }
}

impl KillPoint {
    /// How long a receiver lives, at most, that is to be killed at this point.
    fn life_max(self) -> Duration {
        match self {
            KillPoint::Time(life) => life,
            KillPoint::Stall(..) | KillPoint::Line(_) => LIFE_MAX,
        }
    }
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Rounds run, each with a fault.
    Faults,
    /// Senders finish the messages that they have begun.
    Finishing,
    /// A last message was sent. Once it is delivered, all messages before it are delivered.
    Draining,
    /// The receiver was told to stop, and prints its remaining messages.
    Stopping,
    Over,
}

/// A sender of one mode. Its processes run one after the other.
struct LoadSender {
    mode: Mode,
    process: Option<Process>,
    /// The number of the next message that no process was told to send.
    next: u64,
    acks: PathBuf,
    acks_read: u64,
}

struct Run<'a> {
    sandbox: &'a Sandbox,
    options: &'a Options,
    say: &'a mut dyn FnMut(&str),
    events: Receiver<Event>,
    tell: Sender<Event>,
    random: Random,
    port: u16,
    proxy: Option<Proxy>,
    receiver: ReceiverProcess,
    log: PathBuf,
    started_at: Instant,
    kill_point: KillPoint,
    /// The latest time of the kill.
    kill_at: Instant,
    lines: u64,
    is_listening: bool,
    is_killed: bool,
    senders: Vec<LoadSender>,
    ledger: Ledger,
    rounds: u32,
    phase: Phase,
}

/// Runs all rounds. `say` gets a line for each round. The error says why there is no verdict.
pub(super) fn run(
    sandbox: &Sandbox,
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Verdict, String> {
    let mut run = Run::start(sandbox, options, say)?;
    while run.phase != Phase::Over {
        run.step()?;
    }
    let (channels, posts) = faults::channels_and_posts(&run.log);
    if channels == 0 {
        return Err(format!("no channel was opened; see {}", run.log.display()));
    }
    (run.say)(&format!("{channels} channels were opened, and {posts} POSTs answered"));
    Ok(run.ledger.verdict())
}

impl<'a> Run<'a> {
    fn start(
        sandbox: &'a Sandbox,
        options: &'a Options,
        say: &'a mut dyn FnMut(&str),
    ) -> Result<Self, String> {
        let (tell, events) = channel();
        let mut random = Random::new(options.seed);
        let port = faults::free_port()?;
        let proxy = match options.fault {
            Fault::Kill | Fault::Failover => None,
            Fault::Cut => Some(cutting_proxy(port, options.seed, tell.clone())?),
        };
        let log = sandbox.folder().join("receiver.log");
        let receiver =
            receiver::start(sandbox, port, (options.reader, options.inbox), &log, tell.clone())?;
        let senders = options.modes.iter().map(|mode| LoadSender {
            mode: *mode,
            process: None,
            next: 1,
            acks: sandbox.folder().join(format!("{}.acks", mode.word())),
            acks_read: 0,
        });
        let started_at = Instant::now();
        let kill_point = KillPoint::draw(0, &mut random);
        let mut run = Run {
            sandbox,
            options,
            say,
            events,
            tell,
            kill_point,
            kill_at: started_at + kill_point.life_max(),
            random,
            port,
            proxy,
            receiver,
            log,
            started_at,
            lines: 0,
            is_listening: false,
            is_killed: false,
            senders: senders.collect(),
            ledger: Ledger::new(options.reader),
            rounds: 0,
            phase: Phase::Faults,
        };
        run.start_senders()?;
        Ok(run)
    }

    /// Waits for the next event, and handles it.
    fn step(&mut self) -> Result<(), String> {
        let kill_at = self.kill_at();
        let wait = kill_at.map_or(SILENCE_MAX, |at| at.saturating_duration_since(Instant::now()));
        match self.events.recv_timeout(wait.min(SILENCE_MAX)) {
            Ok(Event::Listening) => self.is_listening = true,
            Ok(Event::Line(line)) => {
                self.ledger.arrive(&line)?;
                self.lines += 1;
                self.line_came()?;
                self.start_senders()?;
            }
            Ok(Event::ReceiverClosed) => self.receiver_closed()?,
            Ok(Event::SenderClosed(place, said)) => {
                self.sender_closed(place, &said)?;
                self.start_senders()?;
            }
            Ok(Event::Cut(how)) => self.cut(&how),
            Err(RecvTimeoutError::Timeout) if kill_at.is_some() => self.kill()?,
            Err(_) => {
                return Err(format!(
                    "no event for {} s; {}",
                    SILENCE_MAX.as_secs(),
                    self.where_it_stands()
                ));
            }
        }
        self.go_on()
    }

    /// The latest time to kill the receiver, or `None` if it is not to be killed or is dead.
    fn kill_at(&self) -> Option<Instant> {
        let is_doomed =
            self.options.fault == Fault::Kill && self.phase == Phase::Faults && !self.is_killed;
        is_doomed.then_some(self.kill_at)
    }

    /// Kills the receiver if this was the line for it.
    fn line_came(&mut self) -> Result<(), String> {
        if self.kill_at().is_none() {
            return Ok(());
        }
        match self.kill_point {
            KillPoint::Line(line) if line == self.lines => self.kill(),
            KillPoint::Stall(line, time) if line == self.lines => {
                self.receiver.gate.close();
                self.kill_at = Instant::now() + time;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn kill(&mut self) -> Result<(), String> {
        self.receiver.process.kill()?;
        self.receiver.gate.open();
        self.is_killed = true;
        self.rounds += 1;
        let lived = self.started_at.elapsed().as_millis();
        (self.say)(&format!(
            "round {}: killed {lived} ms after its start, after {} lines ({:?})",
            self.rounds, self.lines, self.kill_point
        ));
        Ok(())
    }

    fn cut(&mut self, how: &str) {
        if self.phase == Phase::Faults {
            self.rounds += 1;
            (self.say)(&format!("round {}: cut a connection: {how}", self.rounds));
        }
    }

    /// Handles the end of the receiver, after its last line was recorded.
    fn receiver_closed(&mut self) -> Result<(), String> {
        let status = self.receiver.process.wait()?;
        if self.is_killed {
            self.ledger.receiver_ended();
            self.receiver = receiver::start(
                self.sandbox,
                self.port,
                (self.options.reader, self.options.inbox),
                &self.log,
                self.tell.clone(),
            )?;
            (self.is_killed, self.is_listening) = (false, false);
            self.lines = 0;
            self.started_at = Instant::now();
            self.kill_point = KillPoint::draw(self.rounds, &mut self.random);
            self.kill_at = self.started_at + self.kill_point.life_max();
            return Ok(());
        }
        if self.phase == Phase::Stopping && status.success() {
            self.phase = Phase::Over;
            return Ok(());
        }
        Err(format!("the receiver ended by itself: {status}\n{}", faults::tail(&self.log)))
    }

    /// Starts the senders that have finished, while faults are still to come and the receiver keeps
    /// up.
    fn start_senders(&mut self) -> Result<(), String> {
        if self.phase != Phase::Faults || self.ledger.backlog() >= BACKLOG_MAX {
            return Ok(());
        }
        let direct = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let address = self.proxy.as_ref().map_or(direct, Proxy::address).to_string();
        for (place, sender) in
            self.senders.iter_mut().enumerate().filter(|(_, sender)| sender.process.is_none())
        {
            let (start, count) = (sender.next, sender.mode.messages_each());
            let (mode, in_flight) = (sender.mode, self.options.in_flight);
            let task = Task {
                place,
                mode,
                address: &address,
                in_flight,
                start,
                count,
                acks: &sender.acks,
            };
            let log = sender.acks.with_extension("log");
            sender.process = Some(sender::start(self.sandbox, &task, &log, self.tell.clone())?);
            sender.next += count;
        }
        Ok(())
    }

    /// Checks a sender that has ended: each of its messages must have been acknowledged.
    fn sender_closed(&mut self, place: usize, said: &str) -> Result<(), String> {
        let sender = &mut self.senders[place];
        let mode = sender.mode.word();
        let log = sender.acks.with_extension("log");
        let status = match &mut sender.process {
            Some(process) => process.wait()?,
            None => return Err(format!("a sender of {mode} ended twice")),
        };
        sender.process = None;
        let count = sender.mode.messages_each();
        if !status.success() || said.trim_end() != format!("acknowledged {count}") {
            return Err(format!(
                "the sender of {mode} gave up: {status}\n{said}{}",
                faults::tail(&log)
            ));
        }
        // The sender reports requests without a reply. `receive` replies to each request, `serve`
        // to none.
        let reader = self.options.reader;
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) =
            told.lines().find(|line| reader == Reader::Receive || !line.ends_with(NO_REPLY))
        {
            return Err(format!(
                "the sender of {mode} reported an error: {line}\n{}",
                faults::tail(&log)
            ));
        }
        let numbers = sender::acknowledged(&sender.acks, &mut sender.acks_read)?;
        let (expected, in_flight) = (sender.next - count..sender.next, self.options.in_flight);
        if !sender::are_all_in_order(&numbers, expected.clone(), sender.mode, in_flight) {
            let acks = sender.acks.display();
            return Err(format!(
                "{acks} does not have the numbers {expected:?}, each once and in order"
            ));
        }
        for number in numbers {
            self.ledger.acknowledge(&sender::from_word(sender.mode, in_flight, number), number);
        }
        Ok(())
    }

    /// Moves to the next phase, if the present one is complete.
    fn go_on(&mut self) -> Result<(), String> {
        if self.phase == Phase::Faults && self.rounds >= self.options.rounds && !self.is_killed {
            self.phase = Phase::Finishing;
            if let Some(proxy) = &self.proxy {
                proxy.heal();
            }
        }
        let is_idle = self.senders.iter().all(|sender| sender.process.is_none());
        if self.phase == Phase::Finishing && is_idle && self.is_listening {
            match self.options.reader {
                Reader::Receive => {
                    self.phase = Phase::Stopping;
                    self.receiver.process.terminate()?;
                }
                // If it were told to stop now, it would leave the rest in the inbox.
                Reader::Serve => {
                    self.phase = Phase::Draining;
                    sender::send_one(self.sandbox, self.port, LAST_FROM)?;
                }
            }
        }
        if self.phase == Phase::Draining && self.ledger.has_arrived(LAST_FROM, 1) {
            self.phase = Phase::Stopping;
            self.receiver.process.terminate()?;
        }
        Ok(())
    }

    fn where_it_stands(&self) -> String {
        let at_work = self
            .senders
            .iter()
            .filter(|sender| sender.process.is_some())
            .map(|sender| sender.mode.word());
        format!(
            "{:?} after {} rounds, running senders: {:?}, {}",
            self.phase,
            self.rounds,
            at_work.collect::<Vec<_>>(),
            self.ledger.verdict()
        )
    }
}

fn cutting_proxy(port: u16, seed: u64, tell: Sender<Event>) -> Result<Proxy, String> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The run may have ended when the last connection ends.
    let on_cut = move |how| drop(tell.send(Event::Cut(how)));
    Proxy::start(server, Random::new(seed), on_cut).map_err(|error| format!("the proxy: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_has_every_kind_of_kill_point() {
        let mut random = Random::new(1);
        let points: Vec<KillPoint> =
            (0..3).map(|round| KillPoint::draw(round, &mut random)).collect();
        assert!(
            matches!(points[..], [KillPoint::Stall(..), KillPoint::Time(_), KillPoint::Line(_)]),
            "{points:?}"
        );
        assert_eq!(points[2].life_max(), LIFE_MAX);
    }
}

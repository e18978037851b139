//! The three NATS servers of a run, with a JetStream that each of them may leave.
//!
//! A run comes here to start and kill them, and to learn who leads and whether all have caught up.
//! They reach each other only through the proxies of `links`: each is told of the others, and
//! tells nobody of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::nats_client::{NatsClient, base64};
use crate::driver::{Process, Sandbox, StartingNats, nats_program};
use crate::faults;

/// The inbox's name.
pub(super) const INBOX: &str = "CLUSTER";

/// The inbox's streams, and its consumer.
const STREAMS: [&str; 3] = ["CLUSTER", "CLUSTER-dead", "CLUSTER-replies"];
const CONSUMER: &str = "web-ipc";

/// How long a server may take to start, and all to catch up.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The pause between two looks at the state.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many stored messages are asked for together.
const READ_TOGETHER: u64 = 500;

/// A server finds out within seconds that another one is silent; by default it takes minutes.
const CONFIGURATION: &str = "ping_interval: \"1s\"\nping_max: 2\n";

const CONFIGURATION_FILE: &str = "nats.conf";

/// An address at which nobody listens, and which no server tells another to use: all know each
/// other's proxies.
const NOWHERE: &str = "127.0.0.1:9";

/// The ports of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) clients: u16,
    pub(super) routes: u16,
}

/// How soon a leader answers. If all NATS servers that serve clients pass on no answer for so long,
/// there is no leader.
const LEADER_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How long the server that passed on the last answer is asked alone.
const ASKED_ALONE_FOR: Duration = Duration::from_millis(300);

/// What has its leader for less than this has not found it: a leader that is deposed at once does
/// not end the wait of a client.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// For how long something had no leader, watched in a thread for each that has one.
pub(super) struct Election {
    is_over: Arc<AtomicBool>,
    watching: Vec<JoinHandle<Leader>>,
}

impl Election {
    /// Watches from now on. `ports` are those of the servers that run.
    fn watch(ports: &[u16], subjects: Vec<String>) -> Self {
        let (begun, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let watch = |subject: String| {
            let (mut ports, is_over) = (ports.to_vec(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut leader = Leader::default();
                loop {
                    let (asked_at, seen) = (begun.elapsed(), look_for_leader(&mut ports, &subject));
                    leader.see(seen, asked_at);
                    if is_over.load(Ordering::Acquire) {
                        return leader;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            })
        };
        let watching = subjects.into_iter().map(watch).collect();
        Election { is_over, watching }
    }

    /// Ends the watch. Returns the longest time for which not everything had a leader; `None` if
    /// something has none now, or none was ever seen.
    pub(super) fn time(mut self) -> Option<Duration> {
        longest_without(&self.end()?)
    }

    fn end(&mut self) -> Option<Vec<Leader>> {
        self.is_over.store(true, Ordering::Release);
        self.watching.drain(..).map(|thread| thread.join().ok()).collect()
    }
}

impl Drop for Election {
    /// After a round that failed nobody asks for the time.
    fn drop(&mut self) {
        let _unused = self.end();
    }
}

/// What a look at a leader shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Leader(String),
    /// A server said so, or all that serve their clients were silent.
    NoLeader,
    /// No server could be asked. That is no sign of anything: the machine may be busy.
    Unknown,
}

/// Who leads something, and when it had no leader.
#[derive(Debug, Default)]
struct Leader {
    name: Option<String>,
    /// When it led for certain.
    led_at: Duration,
    /// Since when there is none.
    gone_since: Option<Duration>,
    /// Each time without one, up to when the next one led for certain.
    without: Vec<(Duration, Duration)>,
}

impl Leader {
    /// Takes in what was seen after it was asked for at this time. Who leads at the beginning is no
    /// change.
    fn see(&mut self, seen: Seen, asked_at: Duration) {
        match seen {
            Seen::Leader(name) => {
                // Between two leaders there was none, however short that was.
                let is_other = self.name.as_ref().is_some_and(|before| *before != name);
                let since = self.gone_since.take().or(is_other.then_some(self.led_at));
                self.without.extend(since.map(|since| (since, asked_at)));
                (self.name, self.led_at) = (Some(name), asked_at);
            }
            Seen::NoLeader => drop(self.gone_since.get_or_insert(self.led_at)),
            Seen::Unknown => (),
        }
    }
}

/// The longest time for which not each of these led; `None` unless each does now.
fn longest_without(leaders: &[Leader]) -> Option<Duration> {
    if leaders.iter().any(|leader| leader.name.is_none() || leader.gone_since.is_some()) {
        return None;
    }
    let mut times: Vec<_> = leaders.iter().flat_map(|leader| leader.without.clone()).collect();
    times.sort_unstable();
    let (mut longest, mut last) = (Duration::ZERO, None::<(Duration, Duration)>);
    for (since, until) in times {
        let together = match last {
            Some((first, end)) if since <= end + SETTLED_AFTER => (first, until.max(end)),
            _ => (since, until),
        };
        longest = longest.max(together.1 - together.0);
        last = Some(together);
    }
    Some(longest)
}

/// Asks who leads what this subject asks for: first the server that knew it last, which is the
/// first of `ports` and comes there, then all.
fn look_for_leader(ports: &mut [u16], subject: &str) -> Seen {
    let ask = |port: u16, within: Duration| {
        let Ok(mut client) = NatsClient::connect_for(port, within) else { return Seen::Unknown };
        // What it answers without a leader is an error, or nothing.
        let answer = client.ask(subject, "").unwrap_or_default();
        let leader = answer["cluster"]["leader"].as_str();
        leader.map_or(Seen::NoLeader, |leader| Seen::Leader(leader.to_owned()))
    };
    if let Some(Seen::Leader(leader)) = ports.first().map(|port| ask(*port, ASKED_ALONE_FOR)) {
        return Seen::Leader(leader);
    }
    let all: Vec<Seen> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            ports.iter().map(|port| scope.spawn(|| ask(*port, LEADER_ANSWERS_WITHIN))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap_or(Seen::Unknown)).collect()
    });
    match all.iter().position(|seen| matches!(seen, Seen::Leader(_))) {
        Some(place) => {
            ports.swap(0, place);
            all[place].clone()
        }
        None if all.contains(&Seen::NoLeader) => Seen::NoLeader,
        None => Seen::Unknown,
    }
}

/// The servers.
pub(super) struct NatsCluster {
    program: PathBuf,
    servers: Vec<NatsServer>,
}

struct NatsServer {
    name: String,
    ports: Ports,
    /// Where it reaches the others.
    routes: String,
    process: Option<Process>,
}

/// A message as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    /// The id by which NATS knows it.
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

/// All messages that are in the stream.
pub(super) struct WholeStream {
    /// Everything before it was removed.
    pub(super) first_sequence: u64,
    pub(super) messages: Vec<Stored>,
}

impl NatsCluster {
    /// Starts all servers. `routes[i]` has the addresses of the proxies to the others.
    pub(super) fn start(
        sandbox: &Sandbox,
        ports: &[Ports],
        routes: Vec<Vec<String>>,
    ) -> Result<Self, String> {
        let configuration = sandbox.folder().join(CONFIGURATION_FILE);
        std::fs::write(&configuration, CONFIGURATION)
            .map_err(|error| format!("{}: {error}", configuration.display()))?;
        let servers = ports.iter().zip(routes).enumerate().map(|(place, (ports, routes))| {
            let routes: Vec<String> =
                routes.iter().map(|address| format!("nats-route://{address}")).collect();
            let (name, routes) = (format!("n{place}"), routes.join(","));
            NatsServer { name, ports: *ports, routes, process: None }
        });
        let program = nats_program().ok_or("nats-server is not installed")?;
        let mut cluster = NatsCluster { program, servers: servers.collect() };
        // None is ready before there are enough to agree on something.
        let begun: Result<Vec<_>, String> =
            (0..ports.len()).map(|place| cluster.begin(sandbox, place)).collect();
        for (server, starting) in cluster.servers.iter_mut().zip(begun?) {
            server.process = Some(starting.ready()?.0);
        }
        cluster.until("JetStream has a leader", |cluster| {
            Ok(cluster.ask("$JS.API.INFO", "")?["error"].is_null())
        })?;
        Ok(cluster)
    }

    /// Starts a server that was killed, and waits until it serves.
    pub(super) fn restart(&mut self, sandbox: &Sandbox, place: usize) -> Result<(), String> {
        let (process, _) = self.begin(sandbox, place)?.ready()?;
        self.servers[place].process = Some(process);
        Ok(())
    }

    pub(super) fn kill(&mut self, place: usize) -> Result<(), String> {
        let Some(mut process) = self.servers[place].process.take() else {
            return Err(format!("{} is not running", self.servers[place].name));
        };
        process.kill()?;
        process.wait().map(drop)
    }

    fn begin(&self, sandbox: &Sandbox, place: usize) -> Result<StartingNats, String> {
        let NatsServer { name, ports, routes, .. } = &self.servers[place];
        let configuration = sandbox.folder().join(CONFIGURATION_FILE);
        let cluster = format!("nats://127.0.0.1:{}", ports.routes);
        let more = [
            ["-c", &configuration.to_string_lossy()],
            ["-n", name],
            ["--cluster_name", "C"],
            ["--cluster", &cluster],
            ["--routes", routes],
            ["--cluster_advertise", NOWHERE],
        ];
        let more = more.concat().into_iter().chain(["--no_advertise"]).map(str::to_owned);
        let log = faults::open_log(&sandbox.folder().join(format!("{name}.log")))?;
        let (command, store) = (sandbox.program(&self.program), sandbox.folder().join(name));
        let more: Vec<String> = more.collect();
        StartingNats::begin(command, "127.0.0.1", ports.clients, &store, &more, Some(log))
    }

    /// Asks the first server that answers.
    fn ask(&self, subject: &str, payload: &str) -> Result<Value, String> {
        self.with_client(|client| client.ask(subject, payload))
    }

    fn with_client<T>(
        &self,
        mut ask: impl FnMut(&mut NatsClient) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut failed = "no NATS server runs".to_owned();
        for server in self.servers.iter().filter(|server| server.process.is_some()) {
            match NatsClient::connect(server.ports.clients).and_then(|mut client| ask(&mut client))
            {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Waits until this is so, however often it cannot be asked.
    fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let looked = is_so(self);
            if looked == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("not within {READY_WITHIN:?}: {what} ({looked:?})"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks until there is an answer: a leader may be deposed at any time.
    fn once_there<T>(
        &self,
        what: &str,
        ask: impl Fn(&Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut answer = None;
        self.until(what, |cluster| {
            answer = Some(ask(cluster)?);
            Ok(true)
        })?;
        answer.ok_or_else(|| format!("not so: {what}"))
    }

    /// Which server leads the stream of messages.
    pub(super) fn leader(&self) -> Result<usize, String> {
        self.once_there("the stream has a leader", |cluster| {
            let info = cluster.ask(&format!("$JS.API.STREAM.INFO.{INBOX}"), "")?;
            let name = info["cluster"]["leader"].as_str();
            let mut servers = cluster.servers.iter();
            let place = servers.position(|server| Some(server.name.as_str()) == name);
            place.ok_or_else(|| "the stream has no leader".to_owned())
        })
    }

    /// Waits until every server has every message.
    pub(super) fn until_caught_up(&self) -> Result<(), String> {
        for subject in led_subjects() {
            self.until(&format!("all have caught up ({subject})"), |cluster| {
                Ok(is_current(&cluster.ask(&subject, "")?, cluster.servers.len()))
            })?;
        }
        Ok(())
    }

    /// Watches the election of new leaders, after a server was killed or a link broke.
    pub(super) fn watch_election(&self) -> Election {
        let running = self.servers.iter().filter(|server| server.process.is_some());
        let ports: Vec<u16> = running.map(|server| server.ports.clients).collect();
        Election::watch(&ports, led_subjects())
    }

    /// How many messages are not acknowledged.
    pub(super) fn outstanding(&self) -> Result<u64, String> {
        self.once_there("the consumer counts", |cluster| {
            let info = cluster.ask(&format!("$JS.API.CONSUMER.INFO.{INBOX}.{CONSUMER}"), "")?;
            let count =
                |name: &str| info[name].as_u64().ok_or_else(|| format!("no {name}: {info}"));
            Ok(count("num_pending")? + count("num_ack_pending")?)
        })
    }

    /// The messages that were stored after this sequence. Some may have been removed by now.
    pub(super) fn stored_after(&self, sequence: u64) -> Result<Vec<Stored>, String> {
        self.once_there("the stream can be read", |cluster| {
            let (_, last) = cluster.sequences()?;
            cluster.stored_between(sequence + 1, last)
        })
    }

    /// All messages.
    pub(super) fn whole_stream(&self) -> Result<WholeStream, String> {
        self.once_there("the stream can be read", |cluster| {
            let (first_sequence, last) = cluster.sequences()?;
            let messages = cluster.stored_between(first_sequence, last)?;
            Ok(WholeStream { first_sequence, messages })
        })
    }

    /// The first and the last sequence.
    fn sequences(&self) -> Result<(u64, u64), String> {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{INBOX}"), "")?;
        let number = |name: &str| info["state"][name].as_u64();
        number("first_seq").zip(number("last_seq")).ok_or_else(|| format!("no state: {info}"))
    }

    fn stored_between(&self, mut first: u64, last: u64) -> Result<Vec<Stored>, String> {
        let mut stored = Vec::new();
        while first <= last {
            let end = (first + READ_TOGETHER).min(last + 1);
            let payloads = || (first..end).map(|sequence| format!("{{\"seq\":{sequence}}}"));
            let subject = format!("$JS.API.STREAM.MSG.GET.{INBOX}");
            let answers = self.with_client(|client| client.ask_all(&subject, payloads()))?;
            for answer in answers {
                stored.extend(read_stored(&answer)?);
            }
            first = end;
        }
        Ok(stored)
    }
}

/// Where everything that has a leader is asked for its state: the streams and the consumer.
fn led_subjects() -> Vec<String> {
    let streams = STREAMS.iter().map(|stream| format!("$JS.API.STREAM.INFO.{stream}"));
    streams.chain([format!("$JS.API.CONSUMER.INFO.{INBOX}.{CONSUMER}")]).collect()
}

/// Whether each of so many servers is there and has what the leader has.
fn is_current(info: &Value, servers: usize) -> bool {
    let replicas = info["cluster"]["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let is_good = |replica: &Value| {
        replica["current"] == Value::Bool(true)
            && replica["offline"] != Value::Bool(true)
            && replica["lag"].as_u64().unwrap_or_default() == 0
    };
    info["cluster"]["leader"].is_string()
        && replicas.len() + 1 == servers
        && replicas.iter().all(is_good)
}

/// Reads the answer with a stored message. `None` if there is none under that sequence.
fn read_stored(answer: &Value) -> Result<Option<Stored>, String> {
    if answer["error"]["code"].as_u64() == Some(404) {
        return Ok(None);
    }
    let message = &answer["message"];
    let sequence = message["seq"].as_u64();
    let body = message["data"].as_str().and_then(base64);
    let id = message["hdrs"].as_str().and_then(base64).as_deref().and_then(message_id);
    match (sequence, id, body) {
        (Some(sequence), Some(id), Some(body)) => Ok(Some(Stored { sequence, id, body })),
        _ => Err(format!("JetStream does not give a message: {answer}")),
    }
}

/// The id by which NATS knows a message, of its headers.
fn message_id(headers: &[u8]) -> Option<String> {
    let headers = std::str::from_utf8(headers).ok()?;
    let mut lines = headers.split("\r\n");
    lines.find_map(|line| line.strip_prefix("Nats-Msg-Id:")).map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_are_current_only_if_each_is_there_and_has_caught_up() {
        let info = |leader: Value, replicas: &[(bool, bool)]| {
            let replicas: Vec<Value> = replicas
                .iter()
                .map(|(current, offline)| json!({"current": current, "offline": offline}))
                .collect();
            json!({"cluster": {"leader": leader, "replicas": replicas}})
        };
        assert!(is_current(&info("n0".into(), &[(true, false), (true, false)]), 3));
        for wrong in [
            info(Value::Null, &[(true, false), (true, false)]),
            info("n0".into(), &[(true, false), (false, false)]),
            info("n0".into(), &[(true, false), (true, true)]),
            info("n0".into(), &[(true, false)]),
            json!({"cluster": {"leader": "n0", "replicas": [
                {"current": true}, {"current": true, "lag": 1}
            ]}}),
            json!({"error": {"code": 503}}),
        ] {
            assert!(!is_current(&wrong, 3), "{wrong}");
        }
    }

    /// What was seen of a leader at these seconds.
    fn leader(looks: &[(u64, Option<&str>)]) -> Leader {
        let mut leader = Leader::default();
        for (at, name) in looks {
            let seen = name.map_or(Seen::NoLeader, |name| Seen::Leader(name.to_owned()));
            leader.see(seen, Duration::from_secs(*at));
        }
        leader
    }

    #[test]
    fn the_longest_time_without_a_leader_is_found() {
        let secs = |leaders: &[Leader]| longest_without(leaders).map(|time| time.as_secs());
        let (n0, n1) = (Some("n0"), Some("n1"));
        let steady = || leader(&[(1, n1), (30, n1)]);
        assert_eq!(secs(&[steady(), steady()]), Some(0), "they lead from the beginning");
        let back = || leader(&[(1, n0), (2, None), (5, None), (6, n0)]);
        assert_eq!(secs(&[back(), steady()]), Some(5), "it led for certain at 1 and at 6");
        let gone = leader(&[(0, None), (4, n0)]);
        assert_eq!(secs(&[gone, steady()]), Some(4), "it was gone from the beginning");
        let other = leader(&[(7, n0), (8, n1)]);
        assert_eq!(secs(&[back(), other]), Some(7), "one after the other, from 1 to 8");
        let later = leader(&[(20, n0), (22, n1)]);
        assert_eq!(secs(&[back(), later]), Some(5), "much later, and shorter");
        assert_eq!(secs(&[steady(), leader(&[(1, n0), (2, None)])]), None, "it has none");
        assert_eq!(secs(&[steady(), leader(&[])]), None, "of it nothing is known");
    }

    #[test]
    fn a_look_that_could_not_ask_says_nothing() {
        let mut leader = leader(&[(1, Some("n0"))]);
        leader.see(Seen::Unknown, Duration::from_secs(50));
        assert_eq!(longest_without(&[leader]), Some(Duration::ZERO));
        let nobody = faults::free_port().unwrap();
        assert_eq!(look_for_leader(&mut [nobody], "s"), Seen::Unknown);
    }

    #[test]
    fn a_watch_that_nobody_asks_ends() {
        let election = Election::watch(&[faults::free_port().unwrap()], vec!["s".to_owned()]);
        let is_over = Arc::clone(&election.is_over);
        drop(election);
        // Its thread had the other one.
        assert_eq!(Arc::strong_count(&is_over), 1);
    }

    #[test]
    fn a_stored_message_is_read_and_a_removed_one_is_none() {
        // NATS/1.0, Web-Ipc: {}, Nats-Msg-Id: 01a2 "u"
        let headers = "TkFUUy8xLjANCldlYi1JcGM6IHt9DQpOYXRzLU1zZy1JZDogMDFhMiAidSINCg0K";
        let message = |headers: &str| json!({"seq": 7, "data": "Zm9v", "hdrs": headers});
        let stored = read_stored(&json!({"message": message(headers)})).unwrap().unwrap();
        let id = "01a2 \"u\"".to_owned();
        assert_eq!(stored, Stored { sequence: 7, id, body: b"foo".to_vec() });
        assert!(read_stored(&json!({"message": message("")})).is_err(), "it has no id");
        assert_eq!(read_stored(&json!({"error": {"code": 404}})).unwrap(), None);
        assert!(read_stored(&json!({"error": {"code": 503}})).is_err());
    }
}

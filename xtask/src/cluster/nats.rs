//! The three NATS servers of a run, with a JetStream that each of them may leave.
//!
//! A run comes here to start and kill them, and to learn who leads and whether all have caught up.
//! They reach each other only through the proxies of `links`: each is told of the others, and
//! tells nobody of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How soon an answer of a leader comes, if there is one, when it is asked again and again.
const LEADER_ANSWERS_WITHIN: Duration = Duration::from_millis(250);

/// When everything had the leader that it has now, watched in a thread of its own.
pub(super) struct Election {
    is_over: Arc<AtomicBool>,
    watching: std::thread::JoinHandle<Option<Duration>>,
}

impl Election {
    /// Watches from now on. `ports` are those of the servers that run.
    fn watch(ports: Vec<u16>, subjects: Vec<String>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (begun, stop) = (Instant::now(), Arc::clone(&is_over));
        let watching = std::thread::spawn(move || {
            let mut leaders = Leaders::default();
            loop {
                for subject in &subjects {
                    let leader = ports.iter().find_map(|port| leader_of(*port, subject));
                    leaders.see(subject, leader, begun.elapsed());
                }
                if stop.load(Ordering::Acquire) {
                    return leaders.since(subjects.len());
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Election { is_over, watching }
    }

    /// Ends the watch. Returns how long after its beginning something had no leader or another one
    /// for the last time; `None` if something has none.
    pub(super) fn time(self) -> Option<Duration> {
        self.is_over.store(true, Ordering::Release);
        self.watching.join().ok().flatten()
    }
}

/// Who leads what, and when that was otherwise for the last time.
#[derive(Default)]
struct Leaders {
    of: HashMap<String, String>,
    changed_at: Duration,
}

impl Leaders {
    /// Takes in who leads something at this time. Who leads at the beginning is no change.
    fn see(&mut self, what: &str, leader: Option<String>, at: Duration) {
        let before = match &leader {
            Some(leader) => self.of.insert(what.to_owned(), leader.clone()),
            None => self.of.remove(what),
        };
        if leader.is_none() || before.is_some_and(|before| Some(before) != leader) {
            self.changed_at = at;
        }
    }

    fn since(&self, count: usize) -> Option<Duration> {
        (self.of.len() == count).then_some(self.changed_at)
    }
}

/// Which server leads what this subject asks for, if it answers at this server. Others answer with
/// an error, if at all.
fn leader_of(port: u16, subject: &str) -> Option<String> {
    let mut client = NatsClient::connect_for(port, LEADER_ANSWERS_WITHIN).ok()?;
    let info = client.ask(subject, "").ok()?;
    info["cluster"]["leader"].as_str().map(str::to_owned)
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
        Election::watch(running.map(|server| server.ports.clients).collect(), led_subjects())
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

    #[test]
    fn an_election_is_over_when_the_last_leader_is_there() {
        let at = Duration::from_secs;
        let mut leaders = Leaders::default();
        let mut see = |what: &str, leader: Option<&str>, secs| {
            leaders.see(what, leader.map(str::to_owned), at(secs));
            leaders.since(2)
        };
        assert_eq!(see("a", Some("n0"), 1), None, "of the other one nothing is known");
        assert_eq!(see("b", Some("n1"), 1), Some(at(0)), "they lead from the beginning");
        assert_eq!(see("a", None, 2), None);
        assert_eq!(see("a", Some("n2"), 5), Some(at(2)), "it was there at some time until then");
        assert_eq!(see("b", Some("n2"), 7), Some(at(7)));
        assert_eq!(see("b", Some("n2"), 9), Some(at(7)));
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

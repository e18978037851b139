//! A monitor beside a real server, asked over plain HTTP.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use ipc_client::Client;
use ipc_home::Home;
use ipc_monitor::{Monitor, MonitorError, MonitoredCertificate};
use ipc_server::{Inbox, Server};
use ipc_setup::{InitOptions, init};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server with a monitor.
struct Watched {
    home: Home,
    server: Server,
    monitor: Monitor,
    _directory: TempDir,
}

fn certificate(name: &str, days: u64, is_revoked: bool) -> MonitoredCertificate {
    MonitoredCertificate {
        name: name.into(),
        kind: "server".into(),
        serial: "0A".into(),
        expires_at: SystemTime::now() + Duration::from_secs(days * 86_400 + 60),
        is_revoked,
    }
}

/// The inbox has room for two messages.
async fn watched() -> Watched {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let made = tokio::task::spawn_blocking(move || init(&path, &InitOptions::now()));
    let home = made.await.unwrap().unwrap().home;
    let server = Server::builder(&home)
        .bind("127.0.0.1:0")
        .inbox(Inbox::memory().messages_max(2))
        .inbox_wait(Duration::ZERO)
        .start()
        .await
        .unwrap();
    let monitor = Monitor::builder()
        .bind("127.0.0.1:0")
        .certificates(|| vec![certificate("localhost", 90, false), certificate("gone", 9, true)])
        .start(server.observer())
        .unwrap();
    Watched { home, server, monitor, _directory: directory }
}

impl Watched {
    fn client(&self) -> Client {
        let address = self.server.address();
        Client::builder(&self.home).server("localhost", address).build().unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        get(self.monitor.address(), path, "127.0.0.1")
    }

    /// The value of a sample of `/metrics`.
    fn sample(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{metrics}")).parse().unwrap()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(address: SocketAddr, path: &str, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn get(address: SocketAddr, path: &str, host: &str) -> Answer {
    let mut text = String::new();
    ask(address, path, host).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
}

/// The events of `/events`, as they come.
fn events(address: SocketAddr) -> impl Iterator<Item = Value> {
    BufReader::new(ask(address, "/events", "localhost"))
        .lines()
        .filter_map(|line| serde_json::from_str(line.unwrap().strip_prefix("data: ")?).ok())
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let watched = watched().await;
    let client = watched.client();
    for number in 0..2 {
        client.send(&json!({"number": number})).await.unwrap();
    }
    // There is no room: it is refused again and again, until it is given up.
    let third = json!({"number": 3});
    let refusal = r#"web_ipc_refusals_total{code="inbox_full"}"#;
    let mut sending = Box::pin(client.send(&third).timeout(Duration::from_secs(600)).into_future());
    while watched.sample(refusal) < 1.0 {
        let step = tokio::time::timeout(Duration::from_millis(5), &mut sending).await;
        assert!(step.is_err(), "there is no room for it");
    }
    drop(sending);
    assert_eq!(watched.sample("web_ipc_messages_accepted_total"), 2.0);
    assert_eq!(watched.sample("web_ipc_inbox_messages"), 2.0);
    assert_eq!(watched.sample(r#"web_ipc_logins_total{result="granted"}"#), 1.0);
    assert_eq!(watched.sample("web_ipc_channels"), 1.0);
    assert!(watched.sample("web_ipc_put_seconds_count") >= 2.0);
    assert!(
        watched.sample(r#"web_ipc_peer_last_message_timestamp_seconds{peer="localhost"}"#) > 1.7e9
    );
    let left = r#"web_ipc_certificate_expiry_seconds{name="localhost",kind="server",serial="0A"}"#;
    assert_eq!((watched.sample(left) / 86_400.0).floor(), 90.0);
    assert_eq!(watched.sample("web_ipc_ready"), 1.0);

    let delivery = watched.server.inbox().recv().await.unwrap();
    assert_eq!(watched.sample("web_ipc_deliveries_in_hand"), 1.0);
    delivery.reject("no").await.unwrap();
    assert_eq!(watched.sample("web_ipc_dead_letters"), 1.0);
    assert_eq!(watched.sample(r#"web_ipc_deliveries_ended_total{how="rejected"}"#), 1.0);
    assert_eq!(watched.sample("web_ipc_delivery_seconds_count"), 1.0);

    let answer = watched.get("/metrics");
    assert!(answer.head.contains("application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"));
    assert!(!answer.body.contains("gone"), "a revoked certificate does not expire");
}

#[tokio::test]
async fn a_server_that_drains_is_alive_and_not_ready() {
    let watched = watched().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(watched.get(path).status, 200, "{path}");
    }
    watched.server.begin_drain();
    assert_eq!(watched.get("/healthz").status, 200);
    let ready = watched.get("/readyz");
    assert_eq!((ready.status, &*ready.body), (503, "the server is stopping, or soon will\n"));
    assert_eq!(watched.sample("web_ipc_ready"), 0.0);
}

#[tokio::test]
async fn the_page_gets_numbers_and_the_names_of_peers_but_no_body() {
    let watched = watched().await;
    let client = watched.client();
    client.send(&json!({"secret": "hunter2"})).await.unwrap();
    let address = watched.monitor.address();
    let event = tokio::task::spawn_blocking(move || events(address).nth(1).unwrap()).await.unwrap();
    assert_eq!(event["accepted"], 1);
    assert_eq!(event["waiting"], 1);
    assert_eq!(
        (&event["peers"][0]["name"], &event["peers"][0]["user"]),
        (&json!("localhost"), &json!("ipc-admin"))
    );
    assert_eq!(event["certificates"][1]["is_revoked"], true);
    assert_eq!(event["not_ready"], json!([]));
    assert!(!event.to_string().contains("hunter2"));

    watched.server.inbox().recv().await.unwrap().reject("bad <b>form</b>").await.unwrap();
    // Dead letters are read again after a few seconds.
    let has_dead = |event: &Value| event["dead"].as_array().is_some_and(|dead| !dead.is_empty());
    let event = tokio::task::spawn_blocking(move || events(address).find(has_dead).unwrap());
    let event = event.await.unwrap();
    assert!(event["dead"][0]["reason"].as_str().unwrap().contains("bad <b>form</b>"));
    assert!(!event.to_string().contains("hunter2"));
}

#[tokio::test]
async fn the_page_may_run_its_own_script_alone() {
    let watched = watched().await;
    let page = watched.get("/");
    assert_eq!(page.status, 200);
    let nonce = page.head.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(page.head.contains("default-src 'none'") && page.head.contains("no-store"));
    let again = watched.get("/");
    assert!(!again.head.contains(nonce), "each page has its own");
}

#[tokio::test]
async fn a_web_site_that_points_its_name_at_loopback_reads_nothing() {
    let watched = watched().await;
    for path in ["/", "/events", "/metrics", "/healthz", "/readyz"] {
        let answer = get(watched.monitor.address(), path, "evil.example");
        assert_eq!(answer.status, 421, "{path}");
        assert!(!answer.body.contains("web_ipc"));
    }
    assert_eq!(watched.get("/nothing").status, 404);
}

#[tokio::test]
async fn pages_beyond_the_limit_are_refused_until_one_is_closed() {
    let watched = watched().await;
    let address = watched.monitor.address();
    let open = || {
        let mut stream = BufReader::new(ask(address, "/events", "localhost"));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (line.contains(" 200 "), stream)
    };
    let mut pages: Vec<_> = (0..16).map(|_| open()).collect();
    assert!(pages.iter().all(|(is_good, _)| *is_good));
    assert!(!open().0);
    pages.pop();
    // The place is free once the monitor has noticed, with the next number that it writes.
    while !open().0 {}
}

#[tokio::test]
async fn other_hosts_are_let_in_on_purpose_only() {
    let watched = watched().await;
    let builder = || Monitor::builder().bind("0.0.0.0:0");
    let error = builder().listen().unwrap_err();
    assert!(matches!(error, MonitorError::Remote { .. }), "{error:?}");
    let monitor = builder().allow_remote().start(watched.server.observer()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], monitor.address().port()));
    for (host, status) in [("evil.example", 421), (&address.to_string(), 200)] {
        assert_eq!(get(address, "/healthz", host).status, status, "{host}");
    }
    drop(monitor);
    let named = builder().allow_remote().host_name("server.example");
    let monitor = named.start(watched.server.observer()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], monitor.address().port()));
    for (host, status) in [
        ("server.example", 200),
        ("Server.Example:9464", 200),
        ("localhost", 200),
        ("192.0.2.7:9464", 200),
        ("other.example", 421),
        ("a.server.example", 421),
        ("server.example.evil.example", 421),
    ] {
        assert_eq!(get(address, "/healthz", host).status, status, "{host}");
    }
    drop(monitor);
    assert!(TcpStream::connect(address).is_err(), "it has stopped");
}

#[tokio::test]
async fn an_address_that_is_taken_or_none_is_said() {
    let watched = watched().await;
    let start = |address: &str| Monitor::builder().bind(address).listen().unwrap_err();
    let taken = start(&watched.monitor.address().to_string());
    assert!(matches!(taken, MonitorError::Listen { .. }), "{taken:?}");
    for bad in ["", "127.0.0.1", "127.0.0.1:http", "no.such.host.invalid:1"] {
        let error = start(bad);
        assert!(matches!(error, MonitorError::Address { .. }), "{bad}: {error:?}");
    }
}

#[tokio::test]
async fn after_the_servers_end_its_monitor_says_so() {
    let watched = watched().await;
    watched.server.stop().await;
    assert_eq!(watched.get("/healthz").status, 200);
    assert_eq!(watched.get("/readyz").status, 503);
}

/// The names of metrics in a text, without what Prometheus adds to those of histograms.
fn metric_names(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    let names = words.filter(|word| word.starts_with("web_ipc_"));
    let mut names: Vec<String> = names
        .map(|name| {
            ["_bucket", "_count", "_sum"]
                .iter()
                .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name))
        })
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test]
async fn the_manual_the_alerts_and_the_dashboard_name_the_metrics_that_there_are() {
    let watched = watched().await;
    watched.client().send(&json!({})).await.unwrap();
    let shown = watched.get("/metrics").body;
    let samples: Vec<_> = shown.lines().filter(|line| !line.starts_with('#')).collect();
    let shown = metric_names(&samples.join("\n"));
    assert!(shown.len() >= 20, "{shown:?}");
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let read = |file: &str| std::fs::read_to_string(docs.join(file)).unwrap();
    assert_eq!(metric_names(&read("operations.md")), shown);
    for file in ["operations/alerts.yml", "operations/grafana.json"] {
        let text = read(file);
        for name in metric_names(&text) {
            assert!(shown.contains(&name), "{file}: {name}");
        }
        let page = read("operations.md");
        for alert in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
            assert!(page.contains(&format!("`{alert}`")), "{alert} is not on the page");
        }
    }
    serde_json::from_str::<Value>(&read("operations/grafana.json")).unwrap();
}

//! NATS JetStream and PostgreSQL for the scenarios of docs/scaling.md and of the pages about both
//! engines, and what their commands become with them.

use std::net::TcpListener;
use std::path::PathBuf;

use super::expect;
use crate::driver::{Built, Nats, Postgres, Sandbox};

/// The hosts of the page, without their last number, and what is in their place on loopback.
pub(super) const HOSTS_SHOWN: &str = "10.0.0.";
pub(super) const HOSTS: &str = "127.0.1.";

/// The host of both engines, on loopback.
const ENGINES: &str = "127.0.1.9";

/// The file with the database's authority, on the page.
pub(super) const AUTHORITY_SHOWN: &str = "/etc/ssl/db.crt";

/// Why the engines cannot run here; `None` if they can.
pub(super) fn lacks() -> Option<String> {
    let hosts = || match TcpListener::bind((ENGINES, 0)) {
        Ok(_) => None,
        Err(error) => Some(format!("this host has no address {ENGINES}: {error}")),
    };
    Nats::lacks().or_else(Postgres::lacks).or_else(hosts)
}

/// The engines of a page, and what its texts become with them.
pub(super) struct Engines {
    nats: Nats,
    postgres: Postgres,
    /// What stands on the page, and what stands in its place here, in this order.
    places: Vec<(String, String)>,
}

impl Engines {
    /// Starts both on an address of loopback. What the page shows is translated.
    #[track_caller]
    pub(super) fn on_loopback(built: &Built, sandbox: &Sandbox) -> Self {
        let [certificate, key, authority] = certify(sandbox, ENGINES);
        let nats = Nats::start(ENGINES, &[]).unwrap_or_else(|error| panic!("{error}"));
        let postgres = Postgres::start_on(built, ENGINES, &certificate, &key);
        let postgres = with_database(postgres);
        let database = postgres.address().unwrap_or_default();
        let places = [
            (format!("@{HOSTS_SHOWN}9/"), format!("@{database}/")),
            (format!("nats://{HOSTS_SHOWN}9/"), format!("nats://{}/", nats.address())),
            (AUTHORITY_SHOWN.to_owned(), authority.display().to_string()),
            (HOSTS_SHOWN.to_owned(), HOSTS.to_owned()),
        ];
        Self { nats, postgres, places: places.into() }
    }

    /// Starts both where the page has them, on a host of their own that `runner` enters.
    #[track_caller]
    pub(super) fn on_their_host(built: &Built, sandbox: &Sandbox, runner: &[&str]) -> Self {
        let host = format!("{HOSTS_SHOWN}9");
        let [certificate, key, authority] = certify(sandbox, &host);
        let nats = Nats::start_by(runner, &host, &["-p", "4222"]);
        let nats = nats.unwrap_or_else(|error| panic!("{error}"));
        let postgres = Postgres::start_by(built, runner, &host, &certificate, &key);
        let places = vec![(AUTHORITY_SHOWN.to_owned(), authority.display().to_string())];
        Self { nats, postgres: with_database(postgres), places }
    }

    /// Kills both, and starts them again.
    #[track_caller]
    pub(super) fn die_and_come_back(&mut self) {
        self.nats.kill();
        self.postgres.kill().unwrap_or_else(|error| panic!("{error}"));
        self.nats.run().unwrap_or_else(|error| panic!("{error}"));
        self.postgres.run_soon().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The command of the page as it runs here.
    pub(super) fn command(&self, shown: &str) -> String {
        self.places.iter().fold(shown.to_owned(), |text, (page, here)| text.replace(page, here))
    }
}

/// A certificate for the database, its key, and the certificate of its authority, which a home of
/// no other use has made.
#[track_caller]
fn certify(sandbox: &Sandbox, host: &str) -> [PathBuf; 3] {
    let home = sandbox.folder().join("authority");
    let shown = home.to_string_lossy();
    let run = |arguments: &[&str]| {
        expect::finish(sandbox.command(&[&["--home", &shown], arguments].concat())).succeeded()
    };
    run(&["--init", "--run"]);
    run(&["--certs", "--name", "db", "--altNames", host]);
    ["db.crt", "db.key", "web-ipc-ca.crt"].map(|name| home.join(name))
}

/// PostgreSQL with the user and the database of the page.
#[track_caller]
fn with_database(postgres: Result<Postgres, String>) -> Postgres {
    let postgres = postgres.unwrap_or_else(|error| panic!("{error}"));
    for sql in ["CREATE ROLE ipc LOGIN PASSWORD 'pass321'", "CREATE DATABASE ipc OWNER ipc"] {
        postgres.sql("postgres", sql).unwrap_or_else(|error| panic!("{error}"));
    }
    postgres
}

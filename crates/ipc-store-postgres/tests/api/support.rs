//! What the tests share: a PostgreSQL, and a database for each test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use ipc_store_postgres::{PostgresOptions, PostgresUrl, PostgresUserStore};
use sqlx::{Connection as _, SqlSafeStr as _};

use crate::suite::place::Place;

/// A PostgreSQL that ends, and is removed, with this process.
pub(crate) struct Cluster {
    pub(crate) socket: String,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _script: Child,
}

impl Cluster {
    /// A cluster that was not started; `None`, which is said, where PostgreSQL is not installed.
    pub(crate) fn new(more: &[&str]) -> Option<Self> {
        let Some(bin) = programs() else {
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster.sh");
        let mut script = Command::new("sh")
            .arg(script)
            .arg(bin)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = script.stdin.take().unwrap();
        let mut stdout = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let socket = line.trim().strip_prefix("socket ").expect("initdb works").to_owned();
        Some(Self { socket, pipes: Mutex::new((stdin, stdout)), _script: script })
    }

    /// Does a command of the script. Returns whether it worked.
    pub(crate) fn does(&self, command: &str) -> bool {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.0, "{command}").unwrap();
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        line.trim() == "done"
    }

    pub(crate) fn started() -> Option<Self> {
        let cluster = Self::new(&[])?;
        assert!(cluster.does("start"));
        Some(cluster)
    }

    /// The address of a database, over the socket.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}/{database}", self.socket.replace('/', "%2F"))
    }

    /// Runs SQL as the superuser, as another program would.
    pub(crate) async fn sql(&self, database: &str, sql: &'static str) {
        let url = self.url("postgres", database);
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql.into_sql_str()).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A new database.
    pub(crate) async fn database(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let url = self.url("postgres", "postgres");
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        name
    }
}

/// Where Debian and others put PostgreSQL's programs: those of the latest version.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    found.sort();
    found.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    let has_all = |bin: &PathBuf| ["initdb", "pg_ctl"].iter().all(|name| bin.join(name).is_file());
    let (versions, others): (Vec<_>, Vec<_>) =
        found.into_iter().filter(has_all).partition(|bin| bin.starts_with("/usr/lib"));
    versions.into_iter().next_back().or_else(|| others.into_iter().next())
}

/// The cluster of all tests that leave it running.
static SHARED: LazyLock<Option<Cluster>> = LazyLock::new(Cluster::started);

pub(crate) fn shared() -> Option<&'static Cluster> {
    SHARED.as_ref()
}

pub(crate) fn options() -> PostgresOptions {
    PostgresOptions::new()
        .hashing(ipc_store::Options::new().bcrypt_cost_for_tests())
        .fresh_for(Duration::ZERO)
}

pub(crate) async fn open(url: &str) -> Result<PostgresUserStore, ipc_store::StoreError> {
    options().open(PostgresUrl::parse(url).unwrap()).await
}

/// A database of one test.
pub(crate) struct DatabasePlace {
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: String,
}

impl DatabasePlace {
    pub(crate) async fn new() -> Option<Self> {
        let cluster = shared()?;
        Some(Self { cluster, name: cluster.database().await })
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url("postgres", &self.name)
    }
}

impl Place for DatabasePlace {
    type Store = PostgresUserStore;

    async fn open(&self) -> PostgresUserStore {
        open(&self.url()).await.unwrap()
    }

    async fn bind_all_to(&self, peer: &'static str) {
        assert_eq!(peer, "no peer");
        let update = "UPDATE web_ipc_users SET bound_peer = 'no peer'";
        self.cluster.sql(&self.name, update).await;
    }
}

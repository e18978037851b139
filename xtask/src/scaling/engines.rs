//! The engines of the measurement: NATS servers, and a PostgreSQL database.

use std::time::Duration;

use super::processor_time;
use crate::driver::{Built, Nats, Postgres};
use crate::faults::free_port;

/// Why nothing can be measured here; `None` if it can.
pub(super) fn lacks() -> Option<String> {
    Nats::lacks().or_else(Postgres::lacks)
}

/// The NATS servers of one inbox: one, or a cluster of three.
pub(super) struct NatsServers(Vec<Nats>);

impl NatsServers {
    /// Starts so many. A cluster has no leader yet.
    pub(super) fn start(count: usize) -> Result<Self, String> {
        if count == 1 {
            return Ok(Self(vec![Nats::start("127.0.0.1", &[])?]));
        }
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect::<Result<_, _>>()?;
        let routes: Vec<String> =
            ports.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let routes = routes.join(",");
        let start = |(number, port): (usize, &u16)| {
            let (name, cluster) = (format!("n{number}"), format!("nats://127.0.0.1:{port}"));
            let more =
                ["-n", &name, "--cluster_name", "C", "--cluster", &cluster, "--routes", &routes];
            Nats::start("127.0.0.1", &more)
        };
        Ok(Self(ports.iter().enumerate().map(start).collect::<Result<_, _>>()?))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The address of an inbox of this name.
    pub(super) fn inbox(&self, name: &str) -> String {
        let servers: Vec<String> = self.0.iter().map(Nats::address).collect();
        format!("nats://{}/{name}?replicas={}", servers.join(","), self.count())
    }

    /// The processor time of all so far.
    pub(super) fn processor_time(&self) -> Result<Duration, String> {
        let ids = self.0.iter().map(|nats| nats.id().ok_or("a NATS server is not running"));
        ids.map(|id| processor_time::of_process(id?)).sum()
    }
}

/// The database of the users.
pub(super) struct Users {
    postgres: Postgres,
    /// The process that has started all others of the database.
    postmaster: u32,
}

impl Users {
    /// Starts it, empty.
    pub(super) fn start(built: &Built) -> Result<Self, String> {
        let postgres = Postgres::start(built)?;
        let worker = postgres.sql(
            "postgres",
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
        )?;
        let worker = worker.trim().parse().map_err(|_| format!("no process id: {worker:?}"))?;
        Ok(Self { postgres, postmaster: processor_time::parent(worker)? })
    }

    /// The address of the database.
    pub(super) fn address(&self) -> String {
        self.postgres.socket_url("postgres")
    }

    /// The processor time of all its processes so far.
    pub(super) fn processor_time(&self) -> Result<Duration, String> {
        processor_time::of_family(self.postmaster)
    }
}

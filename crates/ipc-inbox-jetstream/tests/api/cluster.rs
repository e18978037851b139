//! A cluster of three nats-server processes, whose leader is killed.

use std::time::Duration;

use ipc_inbox_jetstream::JetStreamOptions;

use crate::nats::{self, Nats};
use crate::outages::{ROUND, half_a_round, take_each_once};
use crate::support::Both;

struct Cluster {
    servers: Vec<Nats>,
}

impl Cluster {
    fn start() -> Self {
        let routes: Vec<u16> = (0..3).map(|_| nats::free_port()).collect();
        let all: Vec<String> =
            routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let all = all.join(",");
        let servers = (0..3).map(|number| {
            let (name, cluster) =
                (format!("n{number}"), format!("nats://127.0.0.1:{}", routes[number]));
            let arguments = ["-n", &name, "--cluster_name", "C", "--cluster", &cluster];
            Nats::prepared(&[arguments.as_slice(), &["--routes", &all]].concat())
        });
        let mut servers: Vec<Nats> = servers.collect();
        // None is ready before there are enough to agree on something.
        std::thread::scope(|scope| {
            for server in &mut servers {
                scope.spawn(|| server.run());
            }
        });
        Cluster { servers }
    }

    fn options(&self, name: &str) -> JetStreamOptions {
        let addresses = self.servers.iter().map(|nats| format!("127.0.0.1:{}", nats.port()));
        let options = JetStreamOptions::new(addresses, name).unwrap();
        options.replicas(3).takeover_after(Duration::from_secs(2))
    }

    /// Opens an inbox as soon as the cluster has agreed on who leads it.
    async fn open(&self, name: &str) -> Both {
        loop {
            match self.options(name).open().await {
                Ok(both) => return both.into(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Which server leads a stream.
    async fn leader(&self, name: &str) -> Option<usize> {
        for nats in &self.servers {
            let Ok(client) = async_nats::connect(format!("127.0.0.1:{}", nats.port())).await else {
                continue;
            };
            let stream = async_nats::jetstream::new(client).get_stream(name).await;
            if let Ok(stream) = stream {
                let cluster = stream.cached_info().cluster.clone();
                let leader = cluster.and_then(|cluster| cluster.leader);
                return leader.and_then(|name| name.strip_prefix('n')?.parse().ok());
            }
        }
        None
    }
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn nothing_is_lost_or_stored_twice_while_the_leader_of_three_is_killed() {
    let mut cluster = Cluster::start();
    let name = nats::name();
    let inbox = cluster.open(&name).await;
    const ROUNDS: u32 = 2;
    let taking = take_each_once(&inbox, ROUNDS * ROUND);
    for round in 0..ROUNDS {
        let leader = loop {
            match cluster.leader(&name).await {
                Some(leader) => break leader,
                None => tokio::task::yield_now().await,
            }
        };
        let putting = half_a_round(&inbox, round).await;
        // The other two go on.
        cluster.servers[leader].kill();
        putting.await.unwrap();
        cluster = tokio::task::spawn_blocking(move || {
            cluster.servers[leader].run();
            cluster
        })
        .await
        .unwrap();
    }
    taking.await.unwrap();
}

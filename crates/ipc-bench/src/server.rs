//! A web-ipc server with an application that takes every message and acknowledges it.
//!
//! Requests get an empty object as reply. The application runs on one thread beside the server's
//! own, as in a real program.

use futures_util::future::join_all;
use ipc_home::Home;
use ipc_server::{Delivery, DurableOptions, Inbox, InboxChoice, Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::options::Options;
use crate::process_stats::{Memory, cpu_time};

/// A directory whose files are in memory.
const MEMORY_FILES: &str = "/dev/shm";

/// How many messages the application takes at a time.
const TAKEN_MAX: usize = 256;

/// Serves until it is told to stop.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let workers = options.get("workers")?.unwrap_or(1);
    let inbox = options.get::<String>("inbox")?.unwrap_or_else(|| "memory".to_owned());
    let users: Option<String> = options.get("users-db")?;
    options.refuse_unused()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Removed with its files at the end.
        let mut in_memory = None;
        let inbox: InboxChoice = match &*inbox {
            "memory" => Inbox::memory().into(),
            "durable" => Inbox::durable().into(),
            "diskless" => {
                let directory = in_memory.insert(tempfile::tempdir_in(MEMORY_FILES)?);
                DurableOptions::default().open(directory.path().join("inbox.db")).await?.into()
            }
            address => on_nats(address).await?,
        };
        let mut builder = Server::builder(&home)
            .name("localhost")
            .bind("127.0.0.1:0")
            .workers(workers)
            .inbox(inbox);
        if let Some(address) = users {
            builder = with_users(builder, &address).await?;
        }
        let server = builder.start().await?;
        println!("listening on {}", server.address());
        let mut taken = 0_u64;
        loop {
            let deliveries = tokio::select! {
                deliveries = server.inbox().recv_many(TAKEN_MAX) => deliveries,
                _ = terminate.recv() => break,
            };
            if deliveries.is_empty() {
                break;
            }
            taken += deliveries.len() as u64;
            settle(deliveries).await?;
        }
        server.stop().await;
        report(&json!(taken))
    })
}

/// The inbox on the NATS servers of an address.
#[cfg(feature = "engines")]
async fn on_nats(address: &str) -> Result<InboxChoice, Failure> {
    let options = ipc_inbox_jetstream::JetStreamOptions::of_address(address)?;
    Ok(options.open().await?.into())
}

#[cfg(not(feature = "engines"))]
async fn on_nats(other: &str) -> Result<InboxChoice, Failure> {
    Err(format!("--inbox must be memory, durable or diskless, not {other}").into())
}

/// A server with its users in a PostgreSQL database.
#[cfg(feature = "engines")]
async fn with_users(builder: ServerBuilder, address: &str) -> Result<ServerBuilder, Failure> {
    use ipc_store_postgres::{PostgresUrl, PostgresUserStore};
    let users = PostgresUserStore::open(PostgresUrl::parse(address)?).await?;
    Ok(builder.users(std::sync::Arc::new(users)))
}

#[cfg(not(feature = "engines"))]
async fn with_users(_: ServerBuilder, _: &str) -> Result<ServerBuilder, Failure> {
    Err("--users-db needs a build with the feature `engines`".into())
}

/// Acknowledges, or replies to, all deliveries together.
async fn settle(deliveries: Vec<Delivery>) -> Result<(), Failure> {
    let settled = deliveries.into_iter().map(|delivery| async move {
        if delivery.wants_reply() {
            delivery.reply(&json!({})).await.map_err(Failure::from)
        } else {
            delivery.ack().await.map_err(Failure::from)
        }
    });
    join_all(settled).await.into_iter().collect()
}

/// Prints what the server used in its lifetime, and how many messages its application took.
pub(crate) fn report(taken: &Value) -> Result<(), Failure> {
    let memory = Memory::now()?;
    let used = json!({
        "cpu_secs": cpu_time("self")?.as_secs_f64(),
        "rss_bytes": memory.resident,
        "rss_peak_bytes": memory.peak,
        "taken": taken,
    });
    println!("{used}");
    Ok(())
}

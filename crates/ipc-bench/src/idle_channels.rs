//! Open, idle channels: the cost of each while nobody sends.
//!
//! Each channel is of a client of its own, like so many programs that send a message now and then.

use futures_util::future::try_join;
use ipc_client::LocalClient;
use ipc_home::Home;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::options::Options;
use crate::process_stats::Memory;

/// Opens them, prints `holding` and the bytes for each in this process, and waits for SIGTERM.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let address: String = options.required("address")?;
    let channels: usize = options.get("channels")?.unwrap_or(500);
    options.refuse_unused()?;
    actix_rt::Runtime::new()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // The first may have to log in, and allocates what all share.
        let _first = open(&home, &address).await?;
        let before = Memory::now()?.resident;
        let mut held = Vec::with_capacity(channels);
        for _ in 0..channels {
            held.push(open(&home, &address).await?);
        }
        let grown = Memory::now()?.resident.saturating_sub(before);
        println!("holding {}", grown / (channels.max(1) as u64));
        terminate.recv().await;
        drop(held);
        Ok(())
    })
}

/// A client with an open channel. A lone first message is sent by POST; the second of two opens a
/// channel.
async fn open(home: &Home, address: &str) -> Result<LocalClient, Failure> {
    let client = LocalClient::builder(home).server("localhost", address).build_local()?;
    let message = json!({"n": 1});
    try_join(client.send(&message), client.send(&message)).await?;
    Ok(client)
}

//! Prints what arrives, a JSON line for each message, until it is told to stop.
//!
//! ```text
//! fixture-receive --home DIR [--name localhost] [--bind 127.0.0.1:0] [--protocol https]
//!                 [--inbox memory] [--count N]
//! ```
//!
//! The first line is `listening on ADDRESS`, each further one
//! `{"body":…,"id":…,"redeliveries":…,"user":…}`. A message is acknowledged once its line is
//! written, one at a time, so that with `--inbox durable` no message goes unprinted whatever
//! becomes of the process. A request is answered with the member `n` of its body. SIGTERM or SIGINT
//! stops it: what was accepted is printed first. With `--count` it stops by itself after as many
//! messages.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::Write as _;

use ipc_home::Home;
use ipc_server::{Delivery, Inbox, Server};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let mut arguments = std::env::args().skip(1);
    let (mut home, mut name, mut address) =
        (None, "localhost".to_owned(), "127.0.0.1:0".to_owned());
    let (mut protocol, mut is_durable, mut count) = (ipc_server::Protocol::Https, false, u64::MAX);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or("each option takes a value")?;
        match option.as_str() {
            "--home" => home = Some(Home::open(value)?),
            "--name" => name = value,
            "--bind" => address = value,
            "--protocol" => protocol = value.parse()?,
            "--inbox" => is_durable = is_durable_kind(&value)?,
            "--count" => count = value.parse()?,
            other => return Err(format!("there is no option {other}").into()),
        }
    }
    let home = home.ok_or("--home DIR is missing")?;
    // Before anybody can know that it is there.
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut server = Server::builder(&home).name(name).bind(address).protocol(protocol);
    if is_durable {
        server = server.inbox(Inbox::durable());
    }
    let server = server.start().await?;
    println!("listening on {}", server.address());
    for _ in 0..count {
        let delivery = tokio::select! {
            delivery = server.inbox().recv() => delivery,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let Some(delivery) = delivery else { break };
        print(delivery).await?;
    }
    // Whoever waits for a reply gets it meanwhile; the inbox is closed when nothing more can come.
    server.begin_stop();
    while let Some(delivery) = server.inbox().recv().await {
        print(delivery).await?;
    }
    server.stop().await;
    server.finish_inbox().await;
    Ok(())
}

fn is_durable_kind(word: &str) -> Result<bool, String> {
    match word {
        "memory" => Ok(false),
        "durable" => Ok(true),
        other => Err(format!("--inbox is memory or durable, not {other}")),
    }
}

async fn print(delivery: Delivery) -> Result<(), Box<dyn Error>> {
    let body: Value = delivery.parse()?;
    let line = json!({
        "id": delivery.id().to_string(),
        "user": delivery.user(),
        "redeliveries": delivery.redeliveries(),
        "body": body,
    });
    println!("{line}");
    std::io::stdout().flush()?;
    if delivery.wants_reply() {
        delivery.reply(&json!({"n": body["n"]})).await?;
    } else {
        delivery.ack().await?;
    }
    Ok(())
}

//! Prints a JSON line for each message that arrives, until it is stopped.
//!
//! ```text
//! fixture-receive --home DIR [--name localhost] [--bind 127.0.0.1:0] [--protocol https]
//!                 [--inbox memory] [--count N]
//! ```
//!
//! The first line is `listening on ADDRESS`, each further one
//! `{"body":…,"id":…,"redeliveries":…,"user":…}`. Messages are handled one at a time, and
//! acknowledged after their line is written. So with `--inbox durable` every message is printed,
//! even if the process is killed. The reply to a request is the member `n` of its body. SIGTERM or
//! SIGINT stops the program after it has printed all accepted messages. With `--count` it stops by
//! itself after that number of messages.
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
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let home = home.ok_or("--home DIR is missing")?;
    // Signals are handled before a test can know that the program runs.
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
    // Requests that wait for a reply get it now. The inbox closes when nothing more can arrive.
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
        other => Err(format!("--inbox must be memory or durable, not {other}")),
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

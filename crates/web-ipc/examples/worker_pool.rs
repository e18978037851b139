//! Four workers take messages from one inbox. Each message goes to one of them.
#![allow(clippy::print_stdout, clippy::print_stderr)]
use serde_json::json;
use tokio::task::JoinSet;
use web_ipc::{Client, Home, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let server = Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await?;
    let mut workers = JoinSet::new();
    for worker in 1..=4 {
        let inbox = server.inbox().clone();
        workers.spawn(async move {
            while let Some(delivery) = inbox.recv().await {
                println!("worker {worker}: {}", delivery.body());
                // A durable inbox delivers a message without an acknowledgement again.
                if let Err(error) = delivery.ack().await {
                    eprintln!("worker {worker}: {error}");
                }
            }
        });
    }
    let client = Client::builder(&home).server("localhost", server.address()).build()?;
    client.send_all((1..=20).map(|job| json!({ "job": job }))).await?;
    // A stopped server accepts nothing more. The workers end when the inbox is empty.
    server.stop().await;
    workers.join_all().await;
    Ok(())
}

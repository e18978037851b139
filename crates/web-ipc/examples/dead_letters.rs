//! Rejects a message that it cannot read, lists the dead letters, and discards them.
#![allow(clippy::print_stdout)]
use serde_json::json;
use web_ipc::server::Inbox;
use web_ipc::{Client, Home, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let builder = Server::builder(&home).name("localhost").bind("127.0.0.1:0");
    let server = builder.inbox(Inbox::durable()).start().await?;
    let client = Client::builder(&home).server("localhost", server.address()).build()?;
    client.send(&json!({"celsius": "warm"})).await?;

    let delivery = server.inbox().recv().await.ok_or("the inbox is closed")?;
    delivery.reject("`celsius` is no number").await?;

    for letter in server.inbox().dead_letters(None, 100).await? {
        println!("{}: {}", letter.message.body, letter.reason);
        server.inbox().discard(&[letter.id]).await?;
    }
    server.stop().await;
    Ok(())
}

//! Ten clients send to one server.
#![allow(clippy::print_stdout)]
use serde_json::json;
use web_ipc::{Client, Home, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let server = Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await?;
    for number in 1..=10 {
        let client = Client::builder(&home).server("localhost", server.address()).build()?;
        tokio::spawn(async move { client.send(&json!({ "client": number })).await });
    }
    for _ in 1..=10 {
        let delivery = server.inbox().recv().await.ok_or("the inbox is closed")?;
        println!("{}", delivery.body());
        delivery.ack().await?;
    }
    server.stop().await;
    Ok(())
}

//! Asks a server for something and waits for the reply of its application.
#![allow(clippy::print_stdout)]
use serde_json::{Value, json};
use web_ipc::{Client, Home, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let server = Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await?;
    let client = Client::builder(&home).server("localhost", server.address()).build()?;

    let application = async {
        let delivery = server.inbox().recv().await.ok_or("the inbox is closed")?;
        delivery.reply(&json!({"time": "noon"})).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let caller = async { Ok(client.request(&json!({"what": "time"})).await?) };
    let ((), reply) = tokio::try_join!(application, caller)?;
    println!("the reply is {}", reply.parse::<Value>()?["time"]);
    Ok(())
}

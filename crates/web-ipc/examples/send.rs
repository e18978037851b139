//! Sends one message to the server that `receive` runs.
#![allow(clippy::print_stdout)]
use serde_json::json;
use web_ipc::{Client, Home};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let client = Client::builder(&Home::open_default()?).server("localhost", address).build()?;
    let sent = client.send(&json!({"job": "nightly", "ok": true})).await?;
    println!("the server has message {}", sent.id);
    Ok(())
}

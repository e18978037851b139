//! Receives: prints each message, then acknowledges it.
#![allow(clippy::print_stdout)]
use web_ipc::{Home, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let home = Home::open_default()?;
    let server = Server::builder(&home).name("localhost").bind(&address).start().await?;
    println!("listening on {}", server.address());
    while let Some(delivery) = server.inbox().recv().await {
        println!("{} from {}", delivery.body(), delivery.user());
        delivery.ack().await?;
    }
    Ok(())
}

//! Two services in one process: each has an address and an inbox of its own, and both have the
//! users, keys and certificates of one home.
#![allow(clippy::print_stdout)]
use serde_json::json;
use web_ipc::{Client, Home, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let start = || Server::builder(&home).name("localhost").bind("127.0.0.1:0").start();
    let (clock, log) = (start().await?, start().await?);

    let clock_service = async {
        while let Some(delivery) = clock.inbox().recv().await {
            delivery.reply(&json!({"time": "noon"})).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let log_service = async {
        while let Some(delivery) = log.inbox().recv().await {
            println!("log: {}", delivery.body());
            delivery.ack().await?;
        }
        Ok(())
    };
    let caller = async {
        let client = |address| Client::builder(&home).server("localhost", address).build();
        let time = client(clock.address())?.request(&json!({"what": "time"})).await?;
        println!("clock: {}", time.body());
        client(log.address())?.send(&json!({"level": "info", "text": "it is noon"})).await?;
        // Each inbox ends once its service has taken what was in it.
        clock.begin_stop();
        log.begin_stop();
        Ok(())
    };
    tokio::try_join!(clock_service, log_service, caller)?;
    Ok(())
}

//! Collects readings: they are sent many at a time, and taken many at a time.
#![allow(clippy::print_stdout)]
use serde_json::{Value, json};
use web_ipc::server::{Delivery, Inbox};
use web_ipc::{Client, Home, Server};

const READINGS: u32 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open_default()?;
    let builder = Server::builder(&home).name("localhost").bind("127.0.0.1:0");
    let server = builder.inbox(Inbox::durable()).start().await?;
    let client = Client::builder(&home).server("localhost", server.address()).build()?;

    let sensor = async {
        // One commit of the inbox takes as many readings as a batch has.
        let sent = client.send_all((1..=READINGS).map(|n| json!({ "celsius": n % 40 }))).await?;
        println!("{} readings sent, {} refused", sent.sent, sent.refused);
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let collector = async {
        let (mut count, mut sum) = (0, 0);
        while count < READINGS {
            let deliveries = server.inbox().recv_many(1000).await;
            for delivery in &deliveries {
                let reading: Value = delivery.parse()?;
                sum += reading["celsius"].as_u64().ok_or("no temperature")?;
                count += 1;
            }
            // Now that they are counted. One commit ends all of them.
            for acknowledged in Delivery::ack_all(deliveries).await {
                acknowledged?;
            }
        }
        println!("{count} readings, {:.1} °C on average", sum as f64 / f64::from(count));
        Ok(())
    };
    tokio::try_join!(sensor, collector)?;
    server.stop().await;
    Ok(())
}

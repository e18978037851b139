//! A process that sends one message and ends, with channels allowed or with POST only, to compare
//! the cost of the two.

use ipc_client::Client;
use ipc_home::Home;
use serde_json::json;

use crate::failure::Failure;
use crate::options::Options;

/// Sends the message.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let address: String = options.required("address")?;
    let transport: String = options.get("transport")?.unwrap_or_else(|| "any".to_owned());
    options.refuse_unused()?;
    let channel = match &*transport {
        "any" => true,
        "post" => false,
        other => return Err(format!("--transport must be any or post, not {other}").into()),
    };
    let client = Client::builder(&home).server("localhost", address).channel(channel).build()?;
    client.send(&json!({"a": 1})).wait()?;
    Ok(())
}

//! Sends `{"from":TAG,"n":i}` for i = 1 to COUNT, one after another:
//!
//! ```text
//! fixture-send --home DIR --server NAME --address HOST:PORT --count N --from TAG
//!              [--identity NAME]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod client;

use std::error::Error;
use std::process::ExitCode;

use ipc_client::Client;
use ipc_home::Home;
use serde_json::json;

use client::Options;

fn main() -> ExitCode {
    env_logger::init();
    client::end("sent", send(&Options::given()))
}

fn send(options: &Options) -> Result<u64, Box<dyn Error>> {
    let home = Home::open(options.required("--home")?)?;
    let mut builder = Client::builder(&home)
        .server(options.required("--server")?, options.required("--address")?);
    if let Some(identity) = options.get("--identity") {
        builder = builder.identity(identity);
    }
    let client = builder.build()?.blocking();
    let (count, tag) = (options.required("--count")?.parse()?, options.required("--from")?);
    for n in 1..=count {
        client.send(&json!({"from": tag, "n": n})).wait()?;
    }
    Ok(count)
}

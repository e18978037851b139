//! Sends `{"from":TAG,"n":i}` for i = 1 to COUNT, one after the other:
//!
//! ```text
//! fixture-send --home DIR --server NAME --address HOST:PORT --count N --from TAG
//!              [--identity NAME]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::process::ExitCode;

use ipc_client::{BuildError, Client, SendError};
use ipc_home::{Home, HomeError};
use serde_json::json;

fn main() -> ExitCode {
    env_logger::init();
    match send() {
        Ok(count) => {
            println!("sent {count}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut line = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                line += &format!(": {error}");
                cause = error.source();
            }
            eprintln!("{line}");
            let remedy = None
                .or_else(|| error.downcast_ref::<SendError>().and_then(SendError::remedy))
                .or_else(|| error.downcast_ref::<BuildError>().and_then(BuildError::remedy))
                .or_else(|| error.downcast_ref::<HomeError>().and_then(HomeError::remedy));
            if let Some(remedy) = remedy {
                eprintln!("{remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn send() -> Result<u64, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let mut pairs = arguments.chunks_exact(2);
        pairs.find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    };
    let required = |name: &str| option(name).ok_or_else(|| format!("{name} is missing"));

    let home = Home::open(required("--home")?)?;
    let mut builder = Client::builder(&home).server(required("--server")?, required("--address")?);
    if let Some(identity) = option("--identity") {
        builder = builder.identity(identity);
    }
    let client = builder.build()?.blocking();
    let (count, tag) = (required("--count")?.parse()?, required("--from")?);
    for n in 1..=count {
        client.send(&json!({"from": tag, "n": n})).wait()?;
    }
    Ok(count)
}

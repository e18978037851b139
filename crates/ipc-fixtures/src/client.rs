//! The code that both senders share: options of the form `--name value`, and how a result is shown.

use std::error::Error;
use std::process::ExitCode;

use ipc_base::{Remedy, chain};
use ipc_client::{BuildError, SendAllError, SendError};
use ipc_home::HomeError;

/// The options of the command line.
pub(crate) struct Options(Vec<String>);

impl Options {
    pub(crate) fn given() -> Self {
        Options(std::env::args().skip(1).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.chunks_exact(2);
        pairs.find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("{name} is missing"))
    }
}

/// Prints the number of messages, or the error and its remedy.
pub(crate) fn end(done: &str, result: Result<u64, Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(count) => {
            println!("{done} {count}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            if let Some(remedy) = remedy(&*error) {
                eprintln!("{remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn remedy(error: &(dyn Error + 'static)) -> Option<Remedy> {
    None.or_else(|| error.downcast_ref::<SendError>().and_then(SendError::remedy))
        .or_else(|| error.downcast_ref::<SendAllError>().and_then(SendAllError::remedy))
        .or_else(|| error.downcast_ref::<BuildError>().and_then(BuildError::remedy))
        .or_else(|| error.downcast_ref::<HomeError>().and_then(HomeError::remedy))
}

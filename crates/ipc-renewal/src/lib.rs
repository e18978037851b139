//! Keeps the certificates of a home renewed: those of a server's home from its own authority, that
//! of an enrolled client over the line.
//!
//! The command line comes here, and so may any program that runs for long. It joins `ipc-setup`,
//! which changes files, with `ipc-client`, which asks the server; neither knows the other. Clients
//! and servers that run on the home take new files up by themselves.
//!
//! | you want | take |
//! |---|---|
//! | a home renewed for as long as a program runs | [`Renewing`] |
//! | what is due renewed once | [`renew_due`] |
//! | an enrolled client's certificate renewed, due or not | [`renew_enrolled`] |
//! | what has changed at the first server taken up by a further one | [`follow_enrolled`] |
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use ipc_renewal::Renewing;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let home = ipc_home::Home::open_client("/var/lib/sensor1")?;
//! let client = ipc_client::Client::builder(&home).build()?;
//! let renewing = Renewing::begin(&home, Duration::ZERO, |looked| {
//!     if let Err(error) = looked {
//!         eprintln!("not renewed: {error}");
//!     }
//! })?;
//! client.blocking().send(&serde_json::json!({"celsius": 21.5})).wait()?;
//! renewing.finish();
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `vendored` (default): builds OpenSSL from source; see `ipc-pki`.

mod due;
mod enrolled;
mod error;
mod news;
mod renewing;

pub use due::{DueRenewals, renew_due};
pub use enrolled::{EnrolledRenewal, follow_enrolled, renew_enrolled};
pub use error::RenewError;
pub use ipc_setup::ListedCertificate;
pub use renewing::Renewing;

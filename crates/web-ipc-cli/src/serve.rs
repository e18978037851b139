//! `web-ipc --serve`: a server that prints each message as a line of JSON, or runs a command for
//! it.
//!
//! It uses the public libraries alone. A message is acknowledged when its line is written, or when
//! its command has exited with 0. This file starts the server, `serve/lines.rs` and `serve/jobs.rs`
//! process the messages, and `serve/ending.rs` stops it.

mod command;
mod ending;
mod jobs;
mod lines;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipc_home::{PeerName, locate};
use ipc_server::{Inbox, InboxChoice, Server};
use ipc_setup::{HomeIssuer, SetupError};

use crate::args::{InboxKind, Serve};
use crate::error::{Failure, Verdict};
use crate::home::{self, peer_name};
use crate::signals::{self, EndSignals};
use ending::{CONNECTIONS_WAIT, Serving};

/// The visibility timeout of a message whose line is being printed. It is a year, since the reader
/// may be slow. After the end of this process, the inbox delivers such messages again at once.
const LINES_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The default of `--tries`.
const TRIES: u16 = 10;

/// Serves until a signal stops it, or the reader of its lines goes away.
pub(crate) fn run(explicit_home: Option<&Path>, serve: &Serve) -> Result<Verdict, Failure> {
    let name = peer_name(&serve.name)?;
    let home = home::open_or_make(&locate(explicit_home)?)?;
    let certified =
        PeerName::parse(&name).map_err(|source| SetupError::Name { name: name.clone(), source })?;
    let issuer = HomeIssuer::new(home.clone(), certified);
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let tries = serve.tries.unwrap_or(TRIES);
    let result = runtime.block_on(async {
        let signals = EndSignals::watch().map_err(unready)?;
        let inbox = inbox(serve, u32::from(tries)).await?;
        let stop_within = Duration::from_secs(u64::from(serve.stop_within_secs));
        let server = Server::builder(&home)
            .name(name)
            .certificate_issuer(Arc::new(issuer))
            .bind(serve.address)
            .protocol(serve.protocol)
            .inbox(inbox)
            .raise_open_files_limit()
            // `Serving` ends the stop in time. The server's own limit must not come before.
            .stop_timeout(stop_within + CONNECTIONS_WAIT)
            .start()
            .await?;
        let serving =
            Serving { server, signals, is_durable: serve.inbox != InboxKind::Memory, stop_within };
        match &serve.exec {
            None => lines::print_all(serving).await,
            Some(command) => {
                let job = jobs::Job::new(command, home.root(), tries, serving.is_durable);
                jobs::run_all(serving, job, serve.jobs).await
            }
        }
    });
    // Not waiting: a write to a reader that does not read would block for ever.
    runtime.shutdown_background();
    result
}

/// The inbox that `--inbox` names.
async fn inbox(serve: &Serve, tries: u32) -> Result<InboxChoice, Failure> {
    let visibility_timeout = match serve.exec {
        Some(_) => jobs::VISIBILITY_TIMEOUT,
        None => LINES_VISIBILITY_TIMEOUT,
    };
    Ok(match &serve.inbox {
        InboxKind::Memory => Inbox::memory().max_deliveries(tries).into(),
        InboxKind::Durable => {
            let options = Inbox::durable().visibility_timeout(visibility_timeout);
            options.nack_delay(jobs::RETRY_DELAY).max_deliveries(tries).into()
        }
        #[cfg(feature = "jetstream")]
        InboxKind::JetStream(options) => {
            let mut options = options.clone().visibility_timeout(visibility_timeout);
            if serve.exec.is_some() {
                // What waits behind a long command is for the other servers.
                options = options.prefetch(0);
            }
            options.nack_delay(jobs::RETRY_DELAY).max_deliveries(tries).open().await?.into()
        }
    })
}

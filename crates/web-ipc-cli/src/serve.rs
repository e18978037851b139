//! `web-ipc --serve`: a server whose messages go to stdout, a JSON line each, or to a command, one
//! each.
//!
//! It uses the public libraries alone. A message is acknowledged when its line has been written, or
//! its command has ended well. How it starts is here and how it ends in `serve/ending.rs`; what
//! becomes of messages in between is in `serve/lines.rs` and `serve/jobs.rs`.

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

/// How long a durable inbox lends a message whose line is being printed: for as long as its reader
/// may be slow. What was left by a process that ended comes again at once.
const LINES_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How often an inbox delivers a message, unless the user says otherwise.
const TRIES: u16 = 10;

/// Serves until it is told to stop, or nobody reads its lines any more.
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
        let inbox: InboxChoice = match serve.inbox {
            InboxKind::Memory => Inbox::memory().max_deliveries(u32::from(tries)).into(),
            InboxKind::Durable => {
                let visibility_timeout = match serve.exec {
                    Some(_) => jobs::VISIBILITY_TIMEOUT,
                    None => LINES_VISIBILITY_TIMEOUT,
                };
                let options = Inbox::durable().visibility_timeout(visibility_timeout);
                options.nack_delay(jobs::RETRY_DELAY).max_deliveries(u32::from(tries)).into()
            }
        };
        let stop_within = Duration::from_secs(u64::from(serve.stop_within_secs));
        let server = Server::builder(&home)
            .name(name)
            .certificate_issuer(Arc::new(issuer))
            .bind(serve.address)
            .protocol(serve.protocol)
            .inbox(inbox)
            .raise_open_files_limit()
            // The end of that time is seen to here: nobody is cut off before.
            .stop_timeout(stop_within + CONNECTIONS_WAIT)
            .start()
            .await?;
        let serving =
            Serving { server, signals, is_durable: serve.inbox == InboxKind::Durable, stop_within };
        match &serve.exec {
            None => lines::print_all(serving).await,
            Some(command) => {
                let job = jobs::Job::new(command, home.root(), tries, serving.is_durable);
                jobs::run_all(serving, job, serve.jobs).await
            }
        }
    });
    // A write that nobody reads would be waited for for ever.
    runtime.shutdown_background();
    result
}

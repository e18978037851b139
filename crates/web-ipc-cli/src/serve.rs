//! `web-ipc --serve`: a server that prints each message as a line of JSON, or runs a command for
//! it.
//!
//! It uses the public libraries alone. A message is acknowledged when its line is written, or when
//! its command has exited with 0. This file starts the server, `serve/lines.rs` and `serve/jobs.rs`
//! process the messages, and `serve/ending.rs` stops it.

mod command;
mod ending;
mod jobs;
mod limits;
mod lines;
mod manager;
mod monitoring;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipc_home::{Home, PeerName, locate};
use ipc_server::{Inbox, InboxChoice, Server, ServerBuilder};
use ipc_setup::{HomeIssuer, SetupError, user_store};

use crate::args::{InboxKind, Serve};
use crate::error::{Failure, Verdict};
use crate::home::{self, peer_name};
use crate::renewal;
use crate::signals::{self, EndSignals};
use ending::{CONNECTIONS_WAIT, Drain, Serving};
use limits::Limits;
use manager::ServiceManager;

/// The visibility timeout of a message whose line is being printed. It is a year, since the reader
/// may be slow. After the end of this process, the inbox delivers such messages again at once.
const LINES_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The default of `--tries`.
const TRIES: u16 = 10;

/// How often a further server asks the first one what has changed: so long a certificate that was
/// revoked there may still be taken here.
const FOLLOW_EVERY: Duration = Duration::from_secs(30);

/// Follows the first server, in the home of a further one, until the runtime ends. What fails is
/// told once.
async fn follow_first(home: Home) {
    let mut told = None;
    loop {
        let home = home.clone();
        let followed = tokio::task::spawn_blocking(move || {
            renewal::follow(&home).map_err(|error| error.into_failure().to_string())
        });
        match followed.await {
            Ok(Ok(())) if told.take().is_some() => log::info!("following the first server again"),
            Ok(Err(why)) if told.as_ref() != Some(&why) => {
                log::warn!("this server keeps what it has, and cannot follow the first one: {why}");
                told = Some(why);
            }
            _ => {}
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Serves until a signal stops it, or the reader of its lines goes away.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    serve: &Serve,
) -> Result<Verdict, Failure> {
    let name = peer_name(&serve.name)?;
    let home = home::open_or_make(&locate(explicit_home)?, users_db)?;
    let name = home::pair_name(&home, name)?;
    let certified =
        PeerName::parse(&name).map_err(|source| SetupError::Name { name: name.clone(), source })?;
    let issuer = HomeIssuer::new(home.clone(), certified);
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let tries = serve.tries.unwrap_or(TRIES);
    // Before it starts, since nobody takes an expired certificate; and until it ends.
    let _renewing = renewal::while_serving(&home, explicit_home);
    let result = runtime.block_on(async {
        let signals = EndSignals::watch().map_err(unready)?;
        let inbox = inbox(serve, u32::from(tries)).await?;
        let stop_within = Duration::from_secs(u64::from(serve.stop_within_secs));
        let mut server = Server::builder(&home)
            .name(name)
            .certificate_issuer(Arc::new(issuer))
            .bind(serve.address)
            .protocol(serve.protocol)
            .inbox(inbox)
            .raise_open_files_limit()
            // `Serving` ends the stop in time. The server's own limit must not come before.
            .stop_timeout(stop_within + CONNECTIONS_WAIT);
        if serve.python_compat {
            server = accept_python(server);
        }
        if home.users_url()?.is_some() {
            server = server.users(user_store(&home).await?);
        }
        let monitor = serve.metrics.as_ref();
        let monitor = monitor.map(|metrics| monitoring::listen(metrics, &home)).transpose()?;
        let server = server.start().await?;
        let monitor = monitor.map(|listener| listener.start(server.observer())).transpose();
        let monitor = monitor.map_err(|error| Failure::of(&error, Some(error.remedy())))?;
        if home.node_settings()?.is_some() {
            tokio::spawn(follow_first(home.clone()));
        }
        let manager = ServiceManager::from_environment();
        let address = server.address();
        manager.ready(&format!("Listening on {}://{address} as {}", serve.protocol, server.name()));
        let serving = Serving {
            server,
            manager,
            signals,
            is_durable: serve.inbox != InboxKind::Memory,
            drain: Drain::new(Duration::from_secs(u64::from(serve.drain_secs))),
            stop_within,
        };
        let wait = serve.timeout_secs.map(|secs| Duration::from_secs(u64::from(secs)));
        let limits = Limits::new(serve.count.map(u64::from), wait);
        let result = match &serve.exec {
            None => lines::print_all(serving, limits, serve.body_only).await,
            Some(command) => {
                let job = jobs::Job::new(command, home.root(), tries, serving.is_durable);
                jobs::run_all(serving, job, serve.jobs, limits).await
            }
        };
        // It shows how the stop goes on, to its end.
        drop(monitor);
        result
    });
    // Not waiting: a write to a reader that does not read would block for ever.
    runtime.shutdown_background();
    result
}

/// Lets the server take messages of the Python tool.
#[cfg(feature = "python-compat")]
fn accept_python(server: ServerBuilder) -> ServerBuilder {
    server.python_compat()
}

/// Does nothing: without the feature `args` refuses the option.
#[cfg(not(feature = "python-compat"))]
fn accept_python(server: ServerBuilder) -> ServerBuilder {
    server
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

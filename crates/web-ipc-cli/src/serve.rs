//! `web-ipc --serve`: a server whose messages go to stdout, a JSON line each, or to a command, one each.
//!
//! It uses the public libraries alone. A message is acknowledged when its line has been written and flushed, or its command
//! has ended well. What was not acknowledged when it stops is kept by a durable inbox and handed out again; an inbox in
//! memory is emptied first.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, join_all, select};
use ipc_home::locate;
use ipc_server::{Delivery, Inbox, InboxChoice, ReplyError, Server};
use serde_json::json;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::args::{InboxKind, Serve};
use crate::error::{Failure, Verdict};
use crate::escape::{self, JsonName};
use crate::home::{self, peer_name};
use crate::signals::{self, EndSignals};

/// How long the lines under way when a signal comes may still take.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// How long a durable inbox leaves a message with this process. What prints or runs here is never handed out a second time
/// while it is at work, however long that takes; what was let go, or left by a process that ended, comes again at once.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Lines that are written, and acknowledged, together.
const LINES_MAX: usize = 256;

/// Serves until it is told to stop, or nobody reads its lines any more.
pub(crate) fn run(explicit_home: Option<&Path>, serve: &Serve) -> Result<Verdict, Failure> {
    let name = peer_name(&serve.name)?;
    let home = home::open_or_make(&locate(explicit_home)?)?;
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let result = runtime.block_on(async {
        let signals = EndSignals::watch().map_err(unready)?;
        let inbox: InboxChoice = match serve.inbox {
            InboxKind::Memory => Inbox::memory().into(),
            InboxKind::Durable => {
                let options = Inbox::durable().visibility_timeout(VISIBILITY_TIMEOUT);
                match serve.tries {
                    Some(tries) => options.tries_max(u32::from(tries)).into(),
                    None => options.into(),
                }
            }
        };
        let server = Server::builder(&home)
            .name(name)
            .bind(SocketAddr::new(serve.ip, serve.port))
            .protocol(serve.protocol)
            .inbox(inbox)
            .start()
            .await?;
        let is_durable = serve.inbox == InboxKind::Durable;
        match &serve.exec {
            None => print_all(&server, signals, is_durable).await,
            Some(command) => run_all(&server, signals, serve, command).await,
        }
    });
    // A write that nobody reads would be waited for for ever.
    runtime.shutdown_background();
    result
}

/// Prints each message as a line.
async fn print_all(server: &Server, mut signals: EndSignals, is_durable: bool) -> Result<Verdict, Failure> {
    let inbox = server.inbox();
    let ended = loop {
        let deliveries = match select(pin!(signals.next()), pin!(inbox.recv_many(LINES_MAX))).await {
            Either::Left(_) => break Ok(()),
            Either::Right((deliveries, _)) => deliveries,
        };
        if deliveries.is_empty() {
            break Ok(());
        }
        let mut printing = pin!(print(deliveries));
        match select(pin!(signals.next()), printing.as_mut()).await {
            // What is being written is finished and acknowledged, if its reader lets it.
            Either::Left(_) => break tokio::time::timeout(LAST_LINES_WAIT, printing).await.unwrap_or(Ok(())),
            Either::Right((Ok(()), _)) => (),
            Either::Right((Err(error), _)) => break Err(error),
        }
    };
    server.stop().await;
    if let Err(error) = ended {
        return reader_gone(error, inbox, is_durable).await;
    }
    if is_durable {
        // It keeps what is left.
        return Ok(Verdict::Done);
    }
    // From memory it goes out now or never; a second signal means never.
    loop {
        let deliveries = inbox.recv_many(LINES_MAX).await;
        if deliveries.is_empty() {
            return Ok(Verdict::Done);
        }
        match select(pin!(signals.next()), pin!(print(deliveries))).await {
            Either::Left(_) => {
                log::warn!("ended by a second signal; what was not read from memory is lost");
                return Ok(Verdict::Done);
            }
            Either::Right((Ok(()), _)) => (),
            Either::Right((Err(error), _)) => return reader_gone(error, inbox, is_durable).await,
        }
    }
}

/// Prints messages, and acknowledges them when they are flushed.
async fn print(deliveries: Vec<Delivery>) -> io::Result<()> {
    let mut lines: String = deliveries.iter().map(line).collect();
    if io::stdout().is_terminal() {
        lines = escape::json_line(&lines).into_owned();
    }
    // Not on this thread: a reader that is slow must not keep a signal from being heard.
    let write = move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush())
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    for result in join_all(deliveries.into_iter().map(Delivery::ack)).await {
        if let Err(error) = result {
            log::warn!("a message that was printed may be printed again: {error}");
        }
    }
    Ok(())
}

/// `{"id", "user", "at", "body"}`, the body as it was sent; with `redelivered` where it may have been printed before.
fn line(delivery: &Delivery) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: String,
        user: JsonName<'a>,
        at: String,
        /// How often it was printed before, where it may have been.
        #[serde(skip_serializing_if = "is_first")]
        redelivered: u32,
        body: &'a RawValue,
    }
    let body: Result<&RawValue, _> = serde_json::from_str(delivery.body());
    let line = body.and_then(|body| {
        let (id, at) = (delivery.id().to_string(), rfc_3339(delivery.received_at()));
        let redelivered = delivery.redeliveries();
        let user = JsonName(delivery.user());
        serde_json::to_string(&Line { id, user, at, redelivered, body })
    });
    // A body was checked before it was accepted; one with line breaks between its members is still one line.
    let line = line.unwrap_or_else(|_| json!({"id": delivery.id().to_string()}).to_string());
    line.replace(['\n', '\r'], " ") + "\n"
}

fn is_first(redelivered: &u32) -> bool {
    *redelivered == 0
}

/// RFC 3339 in UTC, with always three digits of the second's fraction, so that text sorts as time does.
pub(crate) fn rfc_3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// Nobody reads the lines any more: no failure, but what is left is told.
async fn reader_gone(error: io::Error, inbox: &Inbox, is_durable: bool) -> Result<Verdict, Failure> {
    if error.kind() != io::ErrorKind::BrokenPipe {
        return Err(Failure::of(&error, None).while_doing("cannot write to stdout"));
    }
    if is_durable {
        log::info!("the reader of the messages has gone away; what it has not read is kept");
        return Ok(Verdict::Done);
    }
    let mut lost = 0_u64;
    while inbox.recv().await.is_some() {
        lost += 1;
    }
    if lost > 0 {
        log::warn!(
            "the reader of the messages has gone away; {lost} are lost with it; --inbox durable keeps them"
        );
    }
    Ok(Verdict::Done)
}

/// Runs a command for each message, so many at once.
async fn run_all(
    server: &Server,
    mut signals: EndSignals,
    serve: &Serve,
    command: &str,
) -> Result<Verdict, Failure> {
    let inbox = server.inbox();
    let command: Arc<str> = command.into();
    let what_comes_next = match serve.inbox {
        InboxKind::Memory => "the message is lost; --inbox durable would have kept it",
        InboxKind::Durable => "the message comes again, until it is a dead letter",
    };
    let places = Arc::new(Semaphore::new(usize::from(serve.jobs.max(1))));
    let mut jobs = JoinSet::new();
    let mut is_stopping = false;
    loop {
        // A place first: a message is taken only when there is somebody to deal with it.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            inbox.recv().await.map(|delivery| (place, delivery))
        };
        let next = tokio::select! {
            biased;
            _ = signals.next(), if !is_stopping => {
                is_stopping = true;
                server.stop().await;
                if serve.inbox == InboxKind::Durable { break } else { continue }
            }
            Some(ended) = jobs.join_next() => {
                if let Err(error) = ended {
                    log::error!("a job failed: {error}");
                }
                continue;
            }
            next = next => next,
        };
        let Some((place, delivery)) = next else { break };
        let command = Arc::clone(&command);
        jobs.spawn(async move {
            let _place = place;
            job(delivery, &command, what_comes_next).await;
        });
    }
    loop {
        tokio::select! {
            ended = jobs.join_next() => match ended {
                None => break,
                Some(Err(error)) => log::error!("a job failed: {error}"),
                Some(Ok(())) => (),
            },
            _ = signals.next() => {
                log::warn!("ended by a second signal with {} commands still running", jobs.len());
                break;
            }
        }
    }
    Ok(Verdict::Done)
}

/// One message's command: the message on its stdin, who sent it in its environment. If it ends well the message is
/// acknowledged, and the sender of a request gets what it wrote to stdout.
async fn job(delivery: Delivery, command: &str, what_comes_next: &str) {
    let id = delivery.id();
    // A request is done with in any case: its sender is told that there is no reply.
    let (kind, next) = match delivery.wants_reply() {
        true => ("request", "there is no reply"),
        false => ("message", what_comes_next),
    };
    let output = match output(&delivery, command).await {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => return log::error!("the command for {kind} {id} ended with {}; {next}", output.status),
        Err(error) => return log::error!("the command for {kind} {id} cannot be run: {error}; {next}"),
    };
    if !delivery.wants_reply() {
        if let Err(error) = delivery.ack().await {
            log::error!("message {id} was dealt with and may come again: {error}");
        }
        return;
    }
    let Some(reply) = String::from_utf8(output).ok().and_then(|text| RawValue::from_string(text).ok()) else {
        return log::error!("the command for request {id} wrote no JSON object to stdout; there is no reply");
    };
    match delivery.reply(&reply).await {
        Ok(()) => (),
        Err(ReplyError::Body(_)) => {
            log::error!("the command for request {id} wrote no JSON object to stdout; there is no reply");
        }
        Err(error) => log::error!("the reply to request {id} was not given: {error}"),
    }
}

async fn output(delivery: &Delivery, command: &str) -> io::Result<std::process::Output> {
    let mut child = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("WEB_IPC_USER", delivery.user())
        .env("WEB_IPC_ID", delivery.id().to_string())
        .stdin(Stdio::piped())
        .stdout(if delivery.wants_reply() { Stdio::piped() } else { Stdio::inherit() })
        .spawn()?;
    let stdin = child.stdin.take();
    let body = format!("{}\n", delivery.body());
    let feed = async {
        if let Some(mut stdin) = stdin
            && let Err(error) = stdin.write_all(body.as_bytes()).await
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            log::warn!("the message {} could not be written to its command: {error}", delivery.id());
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(
            rfc_3339(UNIX_EPOCH + Duration::from_millis(1_742_413_130_608)),
            "2025-03-19T19:38:50.608Z"
        );
        assert_eq!(rfc_3339(UNIX_EPOCH + Duration::from_micros(1_500)), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc_3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}

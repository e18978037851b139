//! `web-ipc --send` and `--request`: one message given as an argument, or one a line from stdin.
//!
//! It uses the public client alone. A million lines take no more memory than a few batches: a thread reads ahead by a
//! bounded number of lines, and what became of them is counted, not kept.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::stream;
use ipc_client::{Answered, Client, Outcome, Report, SendAllError};
use ipc_home::locate;
use ipc_protocol::{JsonError, JsonErrorKind, check_json};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::args::{Asking, Sending, Target};
use crate::error::{Failure, Verdict};
use crate::home::{self, peer_name};
use crate::out::{counted, printable, say};
use crate::password::{self, Prompt};
use crate::progress::Progress;
use crate::signals::{self, EndSignals};

/// Lines that are read ahead of the sending.
const LINES_AHEAD: usize = 1024;

/// Sends, and says what became of it.
pub(crate) fn run(explicit_home: Option<&Path>, send: &Sending) -> Result<Verdict, Failure> {
    let client = client(explicit_home, &send.target, send.timeout_secs)?;
    match &send.message {
        Some(message) => {
            let message =
                object(message.as_bytes()).map_err(|reason| not_an_object("the message", reason))?;
            let begun = Instant::now();
            let sent = client.blocking().send(&message)?;
            let report = Tally { sent: 1, duplicates: u64::from(sent.duplicate), ..Tally::default() };
            report.tell(begun)
        }
        None if io::stdin().is_terminal() => Err(Failure::new(
            "there is nothing to send",
            Some("give a JSON object as an argument, or lines of JSON on stdin".to_owned()),
        )),
        None => lines(&client, send),
    }
}

/// Sends a request, and prints the reply.
pub(crate) fn request(explicit_home: Option<&Path>, request: &Asking) -> Result<Verdict, Failure> {
    let client = client(explicit_home, &request.target, request.timeout_secs)?;
    let message =
        object(request.message.as_bytes()).map_err(|reason| not_an_object("the request", reason))?;
    let wait = Duration::from_secs(u64::from(request.timeout_secs));
    let reply = client.blocking().request_within(&message, wait)?;
    say(format_args!("{}", reply.body())).map(|()| Verdict::Done)
}

fn client(explicit_home: Option<&Path>, target: &Target, timeout_secs: u16) -> Result<Client, Failure> {
    let name = peer_name(&target.name)?;
    let home = home::open_for_client(&locate(explicit_home)?, target.user.is_some())?;
    let mut builder = Client::builder(&home)
        .server(name, SocketAddr::new(target.ip, target.port))
        .identity(peer_name(&target.identity)?)
        .protocol(target.protocol)
        .deadline(Duration::from_secs(u64::from(timeout_secs)));
    if let Some(user) = &target.user {
        let given = target.password.clone();
        let Some(password) = password::find(given, user, Prompt::Once)? else {
            return Err(Failure::new(
                format!("a password for {} is required", printable(user)),
                Some("give --password, or `--password -` for the first line of stdin".to_owned()),
            ));
        };
        builder = builder.credentials(user.as_str(), password.as_str());
    }
    Ok(builder.build()?)
}

/// A JSON object as the text that it is.
fn object(text: &[u8]) -> Result<Box<RawValue>, String> {
    let length = text.trim_ascii_end().len();
    let wrong = |error: JsonError| match (error.kind, error.offset) {
        (JsonErrorKind::Syntax, 0) => "it is no JSON".to_owned(),
        (JsonErrorKind::Syntax, offset) if offset >= length => "it ends too early".to_owned(),
        (JsonErrorKind::Syntax, offset) => format!("it is no JSON from byte {} on", offset + 1),
        (JsonErrorKind::DuplicateName, _) => "it has a member name that its object has already".to_owned(),
        (kind, offset) => format!("it has {kind}, at byte {}", offset + 1),
    };
    let text = check_json(text).map_err(wrong)?.trim_ascii();
    if !text.starts_with('{') {
        return Err("it is JSON of another kind".to_owned());
    }
    RawValue::from_string(text.to_owned()).map_err(|error| error.to_string())
}

fn not_an_object(what: &str, reason: String) -> Failure {
    Failure::new(
        format!("{what} is not a JSON object: {reason}"),
        Some(r#"write it like {"key": "value"}"#.to_owned()),
    )
}

/// Lines from stdin, with their numbers, until the end or the first that is no object.
fn lines(client: &Client, send: &Sending) -> Result<Verdict, Failure> {
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let begun = Instant::now();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let (lines, mut arriving) = mpsc::channel(LINES_AHEAD);
    let reader = thread::spawn({
        let (tally, keep_going) = (Arc::clone(&tally), send.keep_going);
        move || read(&lines, &tally, keep_going)
    });
    let messages = stream::poll_fn(move |context| arriving.poll_recv(context));
    let sending = client
        .send_all_stream(messages)
        .batch_messages(usize::from(send.batch))
        .on_answer(|answered| lock(&tally).note(answered));
    let result = runtime.block_on(async {
        let mut signals = EndSignals::watch().map_err(unready)?;
        let sending = std::pin::pin!(std::future::IntoFuture::into_future(sending));
        let signal = std::pin::pin!(signals.next());
        Ok::<_, Failure>(match select(signal, sending).await {
            Either::Left((signal, _)) => Either::Left(signal),
            Either::Right((result, _)) => Either::Right(result),
        })
    })?;
    let tally = std::mem::take(&mut *lock(&tally));
    tally.progress.end();
    match result {
        Either::Left(signal) => {
            log::error!(target: crate::error::TARGET, "interrupted after {}", counted_u64(tally.sent, "message"));
            return Ok(Verdict::Interrupted(signal));
        }
        Either::Right(Err(error)) => {
            tally.say(begun)?;
            return Err(tally.ended_early(&error));
        }
        Either::Right(Ok(Report { .. })) => (),
    }
    // All lines were read, or reading ended early and said why.
    match reader.join().map_err(|_| Failure::new("the reader of stdin ended early", None))? {
        Ok(()) => tally.tell(begun),
        Err(failure) => {
            tally.say(begun)?;
            Err(failure)
        }
    }
}

/// Reads lines until the end, a bad one, or nobody wants any more.
fn read(lines: &mpsc::Sender<Box<RawValue>>, tally: &Mutex<Tally>, keep_going: bool) -> Result<(), Failure> {
    let mut stdin = io::stdin().lock();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = stdin.read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::of(&error, None).while_doing("cannot read stdin"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match object(&line) {
            Ok(message) => {
                lock(tally).numbers.push_back(number);
                if lines.blocking_send(message).is_err() {
                    break;
                }
            }
            Err(reason) if keep_going => {
                log::error!("line {number} is not a JSON object: {reason}");
                lock(tally).bad_lines += 1;
            }
            Err(reason) => return Err(not_an_object(&format!("line {number}"), reason)),
        }
    }
    Ok(())
}

/// What became of the messages so far.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    duplicates: u64,
    refused: u64,
    bad_lines: u64,
    /// The numbers of the lines whose messages are on their way, in order.
    numbers: VecDeque<u64>,
    progress: Progress,
}

impl Tally {
    fn note(&mut self, answered: &Answered<'_>) {
        let mut refusals = answered.refusals.iter().peekable();
        for index in answered.first..answered.end {
            let number = self.numbers.pop_front().unwrap_or(index + 1);
            match refusals.next_if(|refusal| refusal.index == index) {
                None => self.sent += 1,
                Some(refusal) => {
                    self.refused += 1;
                    log::error!("line {number} was refused: {}", refusal.error);
                }
            }
        }
        self.duplicates += answered.duplicates;
        self.progress.show(|| format!("{} sent", self.sent));
    }

    fn say(&self, begun: Instant) -> Result<(), Failure> {
        let elapsed_secs = begun.elapsed().as_secs_f64();
        let rate = self.sent as f64 / elapsed_secs.max(0.001);
        let bad = match self.bad_lines {
            0 => String::new(),
            lines => format!(", {}", counted_u64(lines, "bad line")),
        };
        say(format_args!(
            "{} sent, {} duplicates, {} refused{bad} in {elapsed_secs:.2} s ({rate:.0}/s)",
            self.sent, self.duplicates, self.refused
        ))
    }

    /// Why no more was sent, in numbers of lines.
    fn ended_early(&self, error: &SendAllError) -> Failure {
        let on_their_way = usize::try_from(error.until.saturating_sub(error.from)).unwrap_or(usize::MAX);
        let first = self.numbers.front().copied().unwrap_or(error.from + 1);
        let last = self.numbers.iter().take(on_their_way).next_back().copied().unwrap_or(first);
        let attempt = match (error.outcome(), first == last) {
            (Outcome::NotKnown, true) => {
                format!("it is not known whether line {first} was sent, and none after it was")
            }
            (Outcome::NotKnown, false) => {
                format!("it is not known whether lines {first} to {last} were sent, and none after them was")
            }
            _ => format!("line {first} and all after it were not sent"),
        };
        Failure::of(&*error.source, error.remedy()).while_doing(&attempt)
    }

    fn tell(&self, begun: Instant) -> Result<Verdict, Failure> {
        self.say(begun)?;
        Ok(if self.refused + self.bad_lines == 0 { Verdict::Done } else { Verdict::Refused })
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counted_u64(count: u64, what: &str) -> String {
    counted(u32::try_from(count).unwrap_or(u32::MAX), what)
}

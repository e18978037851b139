//! Sends numbered messages `{"from":TAG,"n":i}`, i = K … K+N-1 in order, and writes each number to
//! a file as soon as the server has acknowledged it. Tests that kill the server or cut its
//! connections use it.
//!
//! ```text
//! fixture-load --home DIR [--server NAME --address HOST:PORT[,…]] --from TAG
//!              --mode send|send_all|request --count N --start K --acks FILE [--in-flight N]
//!              [--deadline SECS] [--batch N] [--identity NAME] [--transport any|post]
//!              [--pause MILLISECONDS] [--each N] [--until FILE] [--times yes]
//! ```
//!
//! Without `--server` the home is that of an enrolled client, which knows its server. With
//! `--transport post` no channel is opened. `--pause` is the time from an answer to the next
//! message. For `send_all` it is the time between calls, each of which has `--each` messages; by
//! default one call has all. With `--until` nothing more is begun once that file exists.
//!
//! The file has each number once, as a line, in the order of acknowledgement. `--in-flight N`
//! (default 1, for `send` and `request`) starts N threads that share one client. Thread T sends the
//! numbers i with i mod N = T, one after another, and tags them `TAG.T`, so the messages of one
//! thread keep their order. A request counts when the server has accepted it, with or without a
//! reply. stderr shows which ones had no reply. A reply other than `{"n":i}` belongs to another
//! request and is an error. With `--times yes` a line is `N MS`: the whole milliseconds from the
//! beginning of the call to this answer; and `N MS none` for a request without a reply.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod client;

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ipc_base::chain;
use ipc_client::{Client, Outcome, SendError, blocking};
use ipc_home::Home;
use serde_json::{Value, json};

use client::Options;

fn main() -> ExitCode {
    env_logger::init();
    client::end("acknowledged", load(&Options::given()))
}

/// The file of acknowledged numbers.
struct Acks {
    file: File,
    count: u64,
    has_times: bool,
}

impl Acks {
    /// Writes down numbers of a call that began at this time.
    fn note(
        &mut self,
        numbers: impl Iterator<Item = u64>,
        begun: Instant,
        has_reply: bool,
    ) -> io::Result<()> {
        let time = match (self.has_times, has_reply) {
            (false, _) => String::new(),
            (true, true) => format!(" {}", begun.elapsed().as_millis()),
            (true, false) => format!(" {} none", begun.elapsed().as_millis()),
        };
        let mut lines = String::new();
        for n in numbers {
            self.count += 1;
            lines += &format!("{n}{time}\n");
        }
        self.file.write_all(lines.as_bytes())?;
        self.file.flush()
    }
}

fn load(options: &Options) -> Result<u64, Box<dyn Error>> {
    let home = options.required("--home")?;
    let home = match options.get("--server") {
        Some(_) => Home::open(home)?,
        None => Home::open_client(home)?,
    };
    let mut builder = Client::builder(&home);
    if let Some(server) = options.get("--server") {
        let addresses: Vec<&str> = options.required("--address")?.split(',').collect();
        builder = builder.server(server, addresses);
    }
    match options.get("--transport") {
        None | Some("any") => {}
        Some("post") => builder = builder.channel(false),
        Some(other) => return Err(format!("unknown transport {other}: use any or post").into()),
    }
    if let Some(identity) = options.get("--identity") {
        builder = builder.identity(identity);
    }
    if let Some(secs) = options.get("--deadline") {
        builder = builder.timeout(Duration::from_secs(secs.parse()?));
    }
    let (count, start): (u64, u64) =
        (options.required("--count")?.parse()?, options.required("--start")?.parse()?);
    let (tag, mode) = (options.required("--from")?, options.required("--mode")?);
    let file = OpenOptions::new().create(true).append(true).open(options.required("--acks")?)?;
    let has_times = options.get("--times").is_some();
    let mut acks = Acks { file, count: 0, has_times };
    let client = builder.build()?.blocking();
    let message = |n: u64| json!({"from": tag, "n": n});
    let pause = Duration::from_millis(options.get("--pause").map_or(Ok(0), str::parse)?);
    let until = options.get("--until").map(PathBuf::from);
    let is_over = || until.as_ref().is_some_and(|file| file.exists());
    match mode {
        "send" | "request" => {
            let in_flight: u64 = options.get("--in-flight").map_or(Ok(1), str::parse)?;
            let shared = Mutex::new(acks);
            let is_request = mode == "request";
            thread::scope(|scope| {
                let threads: Vec<_> = (0..in_flight.max(1))
                    .map(|thread| {
                        let (client, shared) = (&client, &shared);
                        let from =
                            if in_flight > 1 { format!("{tag}.{thread}") } else { tag.to_owned() };
                        let is_over = &is_over;
                        let numbers = (start..start + count)
                            .filter(move |n| n % in_flight.max(1) == thread)
                            .take_while(move |_| !is_over());
                        scope.spawn(move || {
                            one_by_one(client, is_request, &from, numbers, pause, shared)
                        })
                    })
                    .collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
                })
            })?;
            acks = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        "send_all" => {
            let each = options.get("--each").map_or(Ok(count), str::parse)?.max(1);
            let (mut first, end) = (start, start + count);
            while first < end && !is_over() {
                let numbers = first..end.min(first.saturating_add(each));
                in_one_call(&client, numbers, message, options.get("--batch"), &mut acks)?;
                first = first.saturating_add(each);
                thread::sleep(pause);
            }
        }
        other => return Err(format!("unknown mode {other}: use send, send_all or request").into()),
    }
    Ok(acks.count)
}

/// Sends these numbers with one call of `send_all`.
fn in_one_call(
    client: &blocking::Client,
    numbers: Range<u64>,
    message: impl Fn(u64) -> Value,
    batch: Option<&str>,
    acks: &mut Acks,
) -> Result<(), Box<dyn Error>> {
    let (first, begun) = (numbers.start, Instant::now());
    let mut failed = None;
    let all = client.send_all(numbers.map(message));
    let all = match batch {
        Some(messages) => all.batch_messages(messages.parse()?),
        None => all,
    };
    let result = all
        .on_progress(|answered| {
            let refused = |index| answered.refusals.iter().any(|refusal| refusal.index == index);
            let taken = (answered.first..answered.end).filter(|index| !refused(*index));
            if let Err(error) = acks.note(taken.map(|index| first + index), begun, true) {
                failed.get_or_insert(error);
            }
        })
        .wait();
    if let Some(error) = failed {
        return Err(error.into());
    }
    match result?.refusals.into_iter().next() {
        Some(refusal) => Err(refusal.error.into()),
        None => Ok(()),
    }
}

/// Sends these numbers, each a pause after the previous one was acknowledged.
fn one_by_one(
    client: &blocking::Client,
    is_request: bool,
    from: &str,
    numbers: impl Iterator<Item = u64>,
    pause: Duration,
    acks: &Mutex<Acks>,
) -> Result<(), String> {
    let said = |error: SendError| {
        let remedy = error.remedy().map(|remedy| format!("\n{remedy}")).unwrap_or_default();
        format!("{}{remedy}", chain(&error))
    };
    for n in numbers {
        let message = json!({"from": from, "n": n});
        let (begun, mut has_reply) = (Instant::now(), true);
        if is_request {
            match client.request(&message).wait() {
                Ok(reply) => {
                    let answer: Value = reply.parse().map_err(|error| chain(&error).to_string())?;
                    if answer != json!({"n": n}) {
                        return Err(format!("{n}: the reply belongs to another request: {answer}"));
                    }
                }
                Err(error) if error.outcome() == Outcome::Accepted => {
                    has_reply = false;
                    eprintln!("{n}: {}", chain(&error));
                }
                Err(error) => return Err(said(error)),
            }
        } else {
            client.send(&message).wait().map_err(said)?;
        }
        {
            let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
            acks.note(std::iter::once(n), begun, has_reply)
                .map_err(|error| chain(&error).to_string())?;
        }
        thread::sleep(pause);
    }
    Ok(())
}

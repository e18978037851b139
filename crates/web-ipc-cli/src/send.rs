//! `web-ipc --send` and `--request`: one message given as an argument, or one a line from files or
//! stdin.
//!
//! It uses the public client alone. A million lines take no more memory than a few batches: a
//! thread reads ahead by a limited number of lines and bytes, and the results are counted, not
//! kept.

mod ids;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::stream;
use ipc_base::PeerName;
use ipc_client::{BuildError, Client, Outcome, Progress, Report, SendAllError, SendError};
use ipc_home::{Home, HomeError, locate};
use ipc_protocol::MessageId;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use crate::args::{Input, RequestArgs, SendArgs, Target, ToSend};
use crate::error::{Failure, Verdict, choose, remedy_of_send};
use crate::home::{self, peer_name};
use crate::input::{self, InputLine, OBJECT_BYTES_MAX, Place};
use crate::out::{counted, is_quiet, print_json_line, print_line, printable};
use crate::password;
use crate::progress_line::ProgressLine;
use crate::renewal;
use crate::signals::{self, EndSignals};
use crate::status::Status;
use ids::Ids;

/// The most lines that are read before they are sent.
const LINES_AHEAD: usize = 1024;

/// The most bytes of lines that are read before they are sent: two lines of the greatest length.
const BYTES_AHEAD: usize = 2 * OBJECT_BYTES_MAX;

/// Sends one message or many, and prints how many the server has accepted, or their ids.
pub(crate) fn run(explicit_home: Option<&Path>, send: &SendArgs) -> Result<Verdict, Failure> {
    let (client, home) =
        client(explicit_home, &send.target, send.timeout_secs, send.python_compat)?;
    let mut answered = false;
    match &send.what {
        ToSend::Lines(inputs) => {
            inputs.iter().try_for_each(check)?;
            let renewing = renewal::while_sending(&home, explicit_home);
            let sent = lines(&client, send, inputs, &mut answered);
            renewal::finish(renewing, answered);
            sent
        }
        ToSend::Object(message) => {
            let message = input::from_argument(message, "the message")?;
            let id = Ids::new(send.ids.clone()).of(&message, "the message")?;
            if send.prints_ids {
                print_line(format_args!("{id}"))?;
            }
            let renewing = renewal::while_sending(&home, explicit_home);
            let begun = Instant::now();
            let sent = client.blocking().send(&message).id(id).wait();
            answered = sent.as_ref().map_or_else(renewal::has_answered, |_| true);
            let id = (!send.python_compat).then_some(id);
            let told = sent.map_err(|error| not_sent(error, id)).and_then(|sent| {
                let duplicates = u64::from(sent.duplicate);
                let prints_ids = send.prints_ids;
                Tally { sent: 1, duplicates, prints_ids, ..Tally::default() }.tell(begun)
            });
            renewal::finish(renewing, answered);
            told
        }
    }
}

/// The failure for a single message. One that may be there can be sent again under its id, if it
/// has one there.
fn not_sent(error: SendError, id: Option<MessageId>) -> Failure {
    let outcome = error.outcome();
    let failure = Failure::from(error);
    match (outcome, id) {
        (Outcome::NotKnown, None) => failure.while_doing(
            "it is not known whether the message was sent; the Python tool would take it twice",
        ),
        (Outcome::NotKnown, Some(id)) => failure.while_doing(&format!(
            "it is not known whether the message was sent; with --id {id} it can be sent again within 10 minutes and is delivered once"
        )),
        _ => failure,
    }
}

/// Checks that an input can be read, before anything is sent.
fn check(input: &Input) -> Result<(), Failure> {
    match input {
        Input::Stdin if io::stdin().is_terminal() => Err(nothing_to_send("lines of JSON on stdin")),
        Input::Stdin => Ok(()),
        Input::File(path) => {
            let unreadable = |error: &io::Error| {
                let advice = "give files with one JSON object a line, or one object in quotes: '{\"key\": \"value\"}'";
                Failure::new(
                    format!("cannot read {}: {error}", printable(&path.display().to_string())),
                    Some(advice.to_owned()),
                )
            };
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    Err(unreadable(&io::ErrorKind::IsADirectory.into()))
                }
                // Opened and closed, a pipe would end whoever writes to it.
                Ok(metadata) if !metadata.is_file() => Ok(()),
                Ok(_) => File::open(path).map(drop).map_err(|error| unreadable(&error)),
                Err(error) => Err(unreadable(&error)),
            }
        }
    }
}

/// Sends a request, and prints the reply.
pub(crate) fn request(
    explicit_home: Option<&Path>,
    request: &RequestArgs,
) -> Result<Verdict, Failure> {
    let (client, home) = client(explicit_home, &request.target, request.timeout_secs, false)?;
    let name = "the request";
    let message = match request.message.as_deref() {
        None if io::stdin().is_terminal() => return Err(nothing_to_send("one on stdin")),
        None | Some("-") => input::from_all(io::stdin().lock(), name)?,
        Some(message) => input::from_argument(message, name)?,
    };
    let wait = Duration::from_secs(u64::from(request.timeout_secs));
    let renewing = renewal::while_sending(&home, explicit_home);
    let reply = client.blocking().request(&message).timeout(wait).wait();
    let answered = reply.as_ref().map_or_else(renewal::has_answered, |_| true);
    let told = reply.map_err(Failure::from).and_then(|reply| print_json_line(reply.body()));
    renewal::finish(renewing, answered);
    told.map(|()| Verdict::Done)
}

fn nothing_to_send(otherwise: &str) -> Failure {
    Failure::new(
        "there is nothing to send",
        Some(format!("give a JSON object as an argument, or {otherwise}")),
    )
}

fn client(
    explicit_home: Option<&Path>,
    target: &Target,
    timeout_secs: u16,
    python_compat: bool,
) -> Result<(Client, Home), Failure> {
    let (name, identity) = (peer_name(&target.name)?, peer_name(&target.identity)?);
    let home = home::open_for_client(&locate(explicit_home)?, target.user.is_some())?;
    let mut builder = Client::builder(&home);
    let identity = home::pair_name(&home, identity)?;
    let name = if target.given.name { name } else { home::pair_name(&home, name)? };
    // What an enrolled client's home says holds where nothing else was given.
    let enrolled = home.client_settings()?;
    let given = target.given;
    if enrolled.is_none() || given.name || given.addresses {
        let (own_name, own_addresses) = match &enrolled {
            Some(own) => (own.server.to_string(), own.addresses.clone()),
            None => (name.to_string(), target.addresses.clone()),
        };
        builder = builder.server(
            if given.name { name.to_string() } else { own_name },
            if given.addresses { target.addresses.clone() } else { own_addresses },
        );
    }
    if enrolled.is_none() || given.identity {
        builder = builder.identity(identity);
    }
    builder =
        builder.protocol(target.protocol).timeout(Duration::from_secs(u64::from(timeout_secs)));
    if let Some(login) = password::login(target.user.clone(), target.password.clone())? {
        builder = builder.credentials(login.user, login.password.as_str());
    }
    #[cfg(feature = "python-compat")]
    if python_compat {
        builder = builder.python_compat();
    }
    #[cfg(not(feature = "python-compat"))]
    debug_assert!(!python_compat, "the arguments refuse it");
    let client = builder.build().map_err(|error| not_built(&error, &home))?;
    Ok((client, home))
}

/// A missing pair mostly means that `--identity` was forgotten, so the pairs that are there come
/// first.
fn not_built(error: &BuildError, home: &Home) -> Failure {
    let remedy = error.remedy();
    let choice = match error {
        BuildError::Home(HomeError::CertificateMissing { .. }) => {
            choose("--identity", "pair", &pairs_in(home.root()))
        }
        _ => None,
    };
    let remedy = match (choice, remedy) {
        (Some(choice), Some(remedy)) => Some(choice.or(remedy)),
        (choice, remedy) => choice.or(remedy),
    };
    Failure::of(error, remedy).with_status(error)
}

/// The names of the pairs in a home, sorted. Empty if the home cannot be listed: this is only for a
/// hint.
fn pairs_in(home: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| Some(file.strip_suffix(".key")?.to_owned()))
        // `session.key` and `web-ipc-ca.key` are of no peer.
        .filter(|name| PeerName::parse(name).is_ok())
        .filter(|name| home.join(format!("{name}.crt")).is_file())
        .collect();
    names.sort();
    names
}

/// Sends the lines of the inputs, until the end or the first line that is not an object. Sets
/// `answered` if the server can be asked for more at the end.
fn lines(
    client: &Client,
    send: &SendArgs,
    inputs: &[Input],
    answered: &mut bool,
) -> Result<Verdict, Failure> {
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let begun = Instant::now();
    let prints_ids = send.prints_ids;
    let tally = Arc::new(Mutex::new(Tally { prints_ids, ..Tally::default() }));
    let (lines, mut arriving) = mpsc::channel(LINES_AHEAD);
    let reader = thread::spawn({
        let mut reader = Reader {
            ahead: Ahead {
                lines,
                bytes: Arc::new(Semaphore::new(BYTES_AHEAD)),
                runtime: runtime.handle().clone(),
            },
            tally: Arc::clone(&tally),
            keep_going: send.keep_going,
            ids: Ids::new(send.ids.clone()),
            prints_ids,
        };
        let inputs = inputs.to_owned();
        move || reader.read_all(&inputs)
    });
    // Dropping the permit of a line that is taken makes room for another.
    let messages = stream::poll_fn(move |context| {
        arriving.poll_recv(context).map(|next| next.map(|(message, _)| message))
    });
    let sending = client
        .send_all_stream(messages)
        .batch_messages(usize::from(send.batch))
        .ids(|_| lock(&tally).ids.pop_front())
        .on_progress(|answered| lock(&tally).note(answered));
    let result = runtime.block_on(async {
        let mut signals = EndSignals::watch().map_err(unready)?;
        let sending = std::pin::pin!(std::future::IntoFuture::into_future(sending));
        let signal = std::pin::pin!(signals.next());
        Ok::<_, Failure>(match select(signal, sending).await {
            Either::Left((signal, _)) => Either::Left(signal),
            Either::Right((result, _)) => Either::Right(result),
        })
    })?;
    let mut tally = std::mem::take(&mut *lock(&tally));
    tally.progress.end();
    match result {
        Either::Left(signal) => {
            log::error!(target: crate::error::TARGET, "interrupted after {}", counted_u64(tally.sent, "message"));
            return Ok(Verdict::Interrupted(signal));
        }
        Either::Right(Err(error)) => {
            *answered = renewal::has_answered(&error.source);
            tally.note_end(&error);
            tally.print(begun)?;
            return Err(tally.ended_early(&error));
        }
        Either::Right(Ok(Report { .. })) => *answered = true,
    }
    // All that was read was sent. The reader returns why it ended early, if it did.
    match reader.join().map_err(|_| Failure::new("the reader of the lines ended early", None))? {
        Ok(()) => {
            if tally.is_empty() {
                let behind = match send.target.password.as_ref().map(|given| given.as_str()) {
                    Some("-") => " behind the password",
                    _ => "",
                };
                let empty = match inputs {
                    [Input::Stdin] => "stdin has no message",
                    [_] => "the file has no message",
                    _ => "no file has a message",
                };
                log::warn!("nothing was sent: {empty}{behind}");
            }
            tally.tell(begun)
        }
        Err(failure) => {
            tally.print(begun)?;
            Err(failure)
        }
    }
}

/// A queue of lines that were read and not yet sent.
struct Ahead {
    lines: mpsc::Sender<(Box<RawValue>, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
    runtime: Handle,
}

impl Ahead {
    /// Waits for room, and puts a message in. Returns `false` if the sending has ended.
    fn put(&self, message: Box<RawValue>) -> bool {
        // A line is never longer than `BYTES_AHEAD`, so it fits sooner or later.
        let bytes = u32::try_from(message.get().len()).unwrap_or(u32::MAX);
        let bytes = match Arc::clone(&self.bytes).try_acquire_many_owned(bytes) {
            Err(TryAcquireError::NoPermits) => {
                self.runtime.block_on(Arc::clone(&self.bytes).acquire_many_owned(bytes)).ok()
            }
            room => room.ok(),
        };
        bytes.is_some_and(|bytes| self.lines.blocking_send((message, bytes)).is_ok())
    }
}

/// Reads the lines of inputs, and gives each message its id.
struct Reader {
    ahead: Ahead,
    tally: Arc<Mutex<Tally>>,
    keep_going: bool,
    ids: Ids,
    prints_ids: bool,
}

impl Reader {
    /// Reads until the end of the last input, a bad line, or the end of the sending.
    fn read_all(&mut self, inputs: &[Input]) -> Result<(), Failure> {
        for input in inputs {
            let goes_on = match input {
                Input::Stdin => self.read(io::stdin().lock(), None)?,
                Input::File(path) => {
                    let shown = printable(&path.display().to_string());
                    let file = File::open(path).map_err(|error| {
                        Failure::of(&error, None).while_doing(&format!("cannot read {shown}"))
                    })?;
                    self.read(BufReader::new(file), Some(shown.into()))?
                }
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Reads the lines of an input. Returns `false` if the sending has ended.
    fn read(&mut self, mut input: impl BufRead, file: Option<Arc<str>>) -> Result<bool, Failure> {
        let cannot_read = |error| {
            let attempt = format!("cannot read {}", file.as_deref().unwrap_or("stdin"));
            Failure::of(&error, None).while_doing(&attempt)
        };
        let mut line = Vec::new();
        for number in 1_u64.. {
            let place = Place::new(file.clone(), number);
            let message = match input::next_line(&mut input, &mut line).map_err(cannot_read)? {
                InputLine::End => break,
                InputLine::Whole => input::from_line(&line, &place),
                InputLine::TooLong => {
                    if self.keep_going {
                        input.skip_until(b'\n').map_err(cannot_read)?;
                    }
                    Err(input::line_too_long(&place))
                }
            };
            let message = message.and_then(|message| {
                let Some(message) = message else { return Ok(None) };
                Ok(Some((self.ids.of(&message, &place.to_string())?, message)))
            });
            match message {
                Ok(None) => (),
                Ok(Some((id, message))) => {
                    if self.prints_ids {
                        print_line(format_args!("{id}"))?;
                    }
                    let mut tally = lock(&self.tally);
                    tally.places.push_back(place);
                    tally.ids.push_back(id);
                    drop(tally);
                    if !self.ahead.put(message) {
                        return Ok(false);
                    }
                }
                Err(bad_line) if self.keep_going && bad_line.status() == Status::BadData => {
                    log::error!("{bad_line}");
                    lock(&self.tally).bad_lines += 1;
                }
                Err(bad_line) => return Err(bad_line),
            }
        }
        Ok(true)
    }
}

/// The results so far.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    duplicates: u64,
    refused: u64,
    bad_lines: u64,
    /// Whether a message that was refused may be in the inbox, or may be accepted later.
    may_be_there: bool,
    /// The lines of the messages that have no result yet, in order.
    places: VecDeque<Place>,
    /// The ids of the messages that the client has not taken yet, in order.
    ids: VecDeque<MessageId>,
    /// Whether the ids are printed, and so no summary.
    prints_ids: bool,
    progress: ProgressLine,
}

impl Tally {
    fn note(&mut self, answered: &Progress<'_>) {
        let mut refusals = answered.refusals.iter().peekable();
        for index in answered.first..answered.end {
            let place = self.places.pop_front().unwrap_or_else(|| Place::new(None, index + 1));
            match refusals.next_if(|refusal| refusal.index == index) {
                None => self.sent += 1,
                Some(refusal) => {
                    self.refused += 1;
                    log::error!("{place} was refused: {}", refusal.error);
                    self.may_be_there |= Status::from(&refusal.error) == Status::TryLater;
                }
            }
        }
        self.duplicates += answered.duplicates;
        self.progress.show(|| format!("{} sent", self.sent));
    }

    /// Counts the messages that were refused by the error that ended the run. Messages that were
    /// not sent, or may be in the inbox, do not count.
    fn note_end(&mut self, error: &SendAllError) {
        if error.outcome() == Outcome::Refused {
            self.refused += error.until.saturating_sub(error.from);
        }
    }

    /// Prints the counts, unless the ids were printed instead.
    fn print(&self, begun: Instant) -> Result<(), Failure> {
        if self.prints_ids {
            return Ok(());
        }
        let elapsed_secs = begun.elapsed().as_secs_f64();
        let rate = self.sent as f64 / elapsed_secs.max(0.001);
        let bad = match self.bad_lines {
            0 => String::new(),
            lines => format!(", {}", counted_u64(lines, "bad line")),
        };
        print_line(format_args!(
            "{} sent, {} duplicates, {} refused{bad} in {elapsed_secs:.2} s ({rate:.0}/s)",
            self.sent, self.duplicates, self.refused
        ))
    }

    /// Whether there was no message, good or bad.
    fn is_empty(&self) -> bool {
        self.sent + self.refused + self.bad_lines == 0
    }

    /// Why no more was sent, in numbers of lines.
    fn ended_early(&self, error: &SendAllError) -> Failure {
        let on_their_way =
            usize::try_from(error.until.saturating_sub(error.from)).unwrap_or(usize::MAX);
        let first = self.places.front().cloned();
        let first = first.unwrap_or_else(|| Place::new(None, error.from + 1));
        let last = self.places.iter().take(on_their_way).next_back().unwrap_or(&first);
        let attempt = match (error.outcome(), first == *last) {
            (Outcome::NotKnown, true) => {
                format!("it is not known whether {first} was sent, and none after it was")
            }
            (Outcome::NotKnown, false) => {
                format!(
                    "it is not known whether {} were sent, and none after them was",
                    first.to(last)
                )
            }
            _ => format!("{first} and all after it were not sent"),
        };
        Failure::of(&*error.source, remedy_of_send(&error.source))
            .with_status(&*error.source)
            .while_doing(&attempt)
    }

    fn tell(&self, begun: Instant) -> Result<Verdict, Failure> {
        if self.refused + self.bad_lines > 0 || !is_quiet() {
            self.print(begun)?;
        }
        Ok(match self.refused + self.bad_lines {
            0 => Verdict::Done,
            _ if self.may_be_there => Verdict::Partly(Status::TryLater),
            _ => Verdict::Partly(Status::BadData),
        })
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counted_u64(count: u64, what: &str) -> String {
    counted(u32::try_from(count).unwrap_or(u32::MAX), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::error::TryRecvError;

    #[test]
    fn a_pipe_is_not_opened_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // An open for reading would wait here for a writer, for ever.
        check(&Input::File(path)).unwrap();
        assert!(check(&Input::File(folder.path().to_owned())).is_err());
        assert!(check(&Input::File(folder.path().join("none"))).is_err());
    }

    #[test]
    fn long_lines_wait_for_the_ones_before_them_to_be_taken() {
        let runtime = signals::runtime().unwrap();
        let (lines, mut arriving) = mpsc::channel(LINES_AHEAD);
        let bytes = Arc::new(Semaphore::new(25));
        let ahead = Ahead { lines, bytes, runtime: runtime.handle().clone() };
        let message = || RawValue::from_string("{\"a\":123}".to_owned()).unwrap();
        assert!(ahead.put(message()) && ahead.put(message()));
        // There is room for two and a half messages.
        let third = thread::spawn(move || ahead.put(message()));
        let (_, first) = arriving.try_recv().unwrap();
        let (_, second) = arriving.try_recv().unwrap();
        assert!(matches!(arriving.try_recv(), Err(TryRecvError::Empty)));
        drop(first);
        assert!(third.join().unwrap());
        assert!(arriving.try_recv().is_ok());
        drop(second);
    }

    #[test]
    fn nobody_reads_on_once_nobody_wants_any_more() {
        let runtime = signals::runtime().unwrap();
        let (lines, arriving) = mpsc::channel(LINES_AHEAD);
        let bytes = Arc::new(Semaphore::new(BYTES_AHEAD));
        let ahead = Ahead { lines, bytes, runtime: runtime.handle().clone() };
        drop(arriving);
        assert!(!ahead.put(RawValue::from_string("{}".to_owned()).unwrap()));
    }
}

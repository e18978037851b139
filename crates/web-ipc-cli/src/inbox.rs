//! `web-ipc --inbox --list`: the messages of a durable inbox that are not acknowledged yet.
//!
//! It reads the file beside the server that has it, and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use ipc_home::{Home, locate};
use ipc_inbox::{InboxReader, OpenError};
use ipc_protocol::MessageId;
use ipc_store::DatabaseError;

use crate::dead::find;
use crate::error::{Failure, Verdict};
use crate::follow::{FAILURES_MAX, Watch, pause};
use crate::message_line::line;
use crate::out::print_json_line;
use crate::signals;

/// The most messages that are read at once.
const MESSAGES_AT_ONCE: usize = 64;

/// How many ids of messages that have gone are kept, beside one for each that is there.
const IDS_MORE_MAX: usize = 1024;

/// Lists the messages, and goes on with those that come if it is to `follow`.
pub(crate) fn run(explicit_home: Option<&Path>, follow: bool) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let runtime = signals::runtime().map_err(|error| {
        Failure::of(&error, None).while_doing("cannot start the program's runtime")
    })?;
    runtime.block_on(async {
        let path = find(&home)?;
        let mut watch = Watch::new(&path);
        let (mut shown, mut failures) = (Shown::default(), 0);
        loop {
            match list(&path, &mut shown).await {
                Ok(()) if !follow => return Ok(Verdict::Done),
                Ok(()) => failures = 0,
                Err(Unlisted::Unread(_)) if follow && failures < FAILURES_MAX => {
                    failures += 1;
                    pause().await;
                    continue;
                }
                Err(Unlisted::Unread(error)) => return Err(error.into()),
                Err(Unlisted::Unwritten(failure)) => return Err(failure),
            }
            watch.changed().await;
        }
    })
}

/// Why the messages were not listed.
enum Unlisted {
    Unread(OpenError),
    Unwritten(Failure),
}

/// The messages that were shown.
#[derive(Default)]
struct Shown {
    /// The number of the last one.
    last: Option<u64>,
    /// Their ids by number: a server that starts may give a number again.
    ids: BTreeMap<u64, MessageId>,
    /// How many ids may be kept until the messages are read from the start again, which forgets
    /// those that have gone.
    ids_max: usize,
}

impl Shown {
    /// Whether the messages must be read from the start: the last one that was shown has gone, or
    /// another one has its number.
    async fn is_stale(&self, reader: &InboxReader) -> Result<bool, DatabaseError> {
        let Some(last) = self.last else { return Ok(true) };
        let page = reader.waiting(last.checked_sub(1), 1).await?;
        let is_there = page
            .first()
            .is_some_and(|one| one.number == last && self.ids.get(&last) == Some(&one.message.id));
        Ok(!is_there || self.ids.len() > self.ids_max)
    }
}

/// Prints the messages that were not shown yet.
async fn list(path: &Path, shown: &mut Shown) -> Result<(), Unlisted> {
    let unread = |error| Unlisted::Unread(OpenError::from(error));
    // Opened anew each time: a server that has started meanwhile has made a log beside the file.
    let reader = InboxReader::open(path).await.map_err(unread)?;
    let from_start = shown.is_stale(&reader).await.map_err(unread)?;
    if from_start {
        shown.last = None;
    }
    let mut there = BTreeMap::new();
    loop {
        let page = reader.waiting(shown.last, MESSAGES_AT_ONCE).await.map_err(unread)?;
        if page.is_empty() {
            break;
        }
        for one in page {
            if from_start {
                there.insert(one.number, one.message.id);
            }
            if shown.ids.insert(one.number, one.message.id) != Some(one.message.id) {
                print_json_line(&line(one.number, &one.message, one.deliveries, None))
                    .map_err(Unlisted::Unwritten)?;
            }
            shown.last = Some(one.number);
        }
    }
    if from_start {
        shown.ids_max = 2 * there.len() + IDS_MORE_MAX;
        shown.ids = there;
    }
    Ok(())
}

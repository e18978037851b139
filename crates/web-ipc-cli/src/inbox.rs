//! `web-ipc --inbox --list`: the messages of a durable inbox that are not acknowledged yet.
//!
//! It reads the file beside the server that has it, and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use ipc_home::{Home, locate};
use ipc_inbox::{InboxReader, OpenError};
use ipc_protocol::MessageId;

use crate::dead::find;
use crate::error::{Failure, Verdict};
use crate::follow::{FAILURES_MAX, Watch, pause};
use crate::message_line::line;
use crate::out::print_json_line;
use crate::signals;

/// The most messages that are read at once.
const MESSAGES_AT_ONCE: usize = 64;

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
}

/// Prints the messages that were not shown yet.
async fn list(path: &Path, shown: &mut Shown) -> Result<(), Unlisted> {
    let unread = |error| Unlisted::Unread(OpenError::from(error));
    // Opened anew each time: a server that has started meanwhile has made a log beside the file.
    let reader = InboxReader::open(path).await.map_err(unread)?;
    if reader.newest().await.map_err(unread)? < shown.last {
        shown.last = None;
    }
    loop {
        let page = reader.waiting(shown.last, MESSAGES_AT_ONCE).await.map_err(unread)?;
        if page.is_empty() {
            break;
        }
        for one in page {
            if shown.ids.insert(one.number, one.message.id) != Some(one.message.id) {
                print_json_line(&line(one.number, &one.message, one.deliveries, None))
                    .map_err(Unlisted::Unwritten)?;
            }
            shown.last = Some(one.number);
        }
    }
    // Numbers behind the last one will be given anew.
    let last = shown.last;
    shown.ids.retain(|number, _| Some(*number) <= last);
    Ok(())
}

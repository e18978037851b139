//! `web-ipc --dead`: the messages of a durable inbox that were handed out too often, or rejected.
//!
//! They are listed beside a running server too. To change something it opens the inbox's file
//! itself, which one process at a time may have open: a server must be stopped first. It never
//! makes one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{Home, Timestamp, locate};
use ipc_inbox::{DeadLetter, DeadLetterId, DeadReason, Inbox, InboxReader, InboxSender, OpenError};
use ipc_store::DatabaseError;
use serde_json::value::RawValue;

use crate::args::{Dead, DeadAction, Letters};
use crate::error::{Failure, Verdict};
use crate::escape::JsonName;
use crate::out::{counted, print_json_line, print_line};
use crate::signals;

/// Dead letters that are read at once.
const LETTERS_AT_ONCE: usize = 64;

/// Lists, puts back or discards dead letters.
pub(crate) fn run(explicit_home: Option<&Path>, dead: &Dead) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let runtime = signals::runtime().map_err(|error| {
        Failure::of(&error, None).while_doing("cannot start the program's runtime")
    })?;
    runtime.block_on(async {
        let path = find(&home)?;
        let letters = match Inbox::durable().max_deliveries(u32::MAX).open(&path).await {
            Ok((sender, inbox)) => Source::Own(sender, inbox),
            Err(error) if dead.action == DeadAction::List && leaves_reading(&error) => {
                Source::Beside(InboxReader::open(&path).await.map_err(OpenError::from)?)
            }
            Err(OpenError::InUse { .. }) => return Err(in_use(&path, &dead.action)),
            Err(error) => return Err(error.into()),
        };
        let result = act(&letters, &dead.action).await;
        if let Source::Own(sender, _) = letters {
            // Its file is written and closed before the process ends.
            sender.finish().await;
        }
        result.map(|()| Verdict::Done)
    })
}

/// Where dead letters are read from.
enum Source {
    /// The inbox, which nobody else has. Its limit of tries is whatever the last server's was:
    /// nothing becomes a dead letter by being looked at.
    Own(InboxSender, Inbox),
    /// Its file, which a server has, or which cannot be written.
    Beside(InboxReader),
}

async fn act(letters: &Source, action: &DeadAction) -> Result<(), Failure> {
    let failed = |error: ipc_inbox::StorageError| Failure::of(&error, None);
    match (action, letters) {
        (DeadAction::PutBack(which), Source::Own(_, inbox)) => {
            let count = inbox.requeue(&picked(letters, which).await?).await.map_err(failed)?;
            print_line(format_args!("{} put back", told(count)))
        }
        (DeadAction::Discard(which), Source::Own(_, inbox)) => {
            let count = inbox.discard(&picked(letters, which).await?).await.map_err(failed)?;
            print_line(format_args!("{} discarded", told(count)))
        }
        // What changes something is refused beside a server before.
        _ => each(letters, |letter| print_json_line(&line(letter))).await,
    }
}

/// The file of the home's inbox, where there is one.
fn find(home: &Home) -> Result<PathBuf, Failure> {
    let path = home.inbox_db_checked()?;
    let missing = || {
        Failure::with_command(
            format!("there is no durable inbox in this home yet: {} is missing", path.display()),
            "--serve --inbox durable",
            ", which makes it",
        )
    };
    // Looked for first, since to open is to make.
    match path.try_exists() {
        Ok(true) => Ok(path),
        Ok(false) => Err(missing()),
        Err(error) => {
            let attempt = format!("cannot look for {}", path.display());
            Err(Failure::of(&error, None).while_doing(&attempt))
        }
    }
}

/// Whether the file can still be read: a server has it, or nothing can be written.
fn leaves_reading(error: &OpenError) -> bool {
    match error {
        OpenError::InUse { .. } => true,
        OpenError::Lock { source, .. } => {
            matches!(
                source.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            )
        }
        OpenError::Database(error) => matches!(
            error,
            DatabaseError::ReadOnly { .. }
                | DatabaseError::PermissionDenied { .. }
                | DatabaseError::DiskFull { .. }
        ),
        _ => false,
    }
}

fn in_use(path: &Path, action: &DeadAction) -> Failure {
    let command = match action {
        DeadAction::Discard(_) => "discard them",
        _ => "put them back",
    };
    Failure::new(
        format!("the inbox {} is in use by a running server; nothing was changed", path.display()),
        Some(format!("stop the server, {command}, and start it again; --list works beside it")),
    )
}

/// Goes through all dead letters, some at a time: their bodies may be long.
async fn each(
    letters: &Source,
    mut act: impl FnMut(&DeadLetter) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let page = match letters {
            Source::Own(_, inbox) => inbox
                .dead_letters(last, LETTERS_AT_ONCE)
                .await
                .map_err(|error| Failure::of(&error, None))?,
            Source::Beside(reader) => {
                reader.dead_letters(last, LETTERS_AT_ONCE).await.map_err(OpenError::from)?
            }
        };
        let Some(letter) = page.last() else { return Ok(()) };
        last = Some(letter.id);
        page.iter().try_for_each(&mut act)?;
    }
}

/// The numbers of those that are meant. Each that is named must be there, or nothing is done.
async fn picked(letters: &Source, which: &Letters) -> Result<Vec<DeadLetterId>, Failure> {
    let mut there = BTreeSet::new();
    each(letters, |letter| {
        there.insert(letter.id);
        Ok(())
    })
    .await?;
    match which {
        Letters::All => Ok(there.into_iter().collect()),
        Letters::Numbers(numbers) => {
            let ids: BTreeSet<_> = numbers.iter().copied().map(DeadLetterId::new).collect();
            match ids.difference(&there).next() {
                None => Ok(ids.into_iter().collect()),
                Some(id) => Err(Failure::with_command(
                    format!("there is no dead letter {id}; nothing was changed"),
                    "--dead --list",
                    " to see their numbers",
                )),
            }
        }
    }
}

fn told(count: usize) -> String {
    counted(u32::try_from(count).unwrap_or(u32::MAX), "dead letter")
}

/// `{"number", "id", "user", "peer", "at", "deliveries", "reason", "body"}`, the body as it was
/// sent; without `peer` where the sender showed no certificate.
fn line(letter: &DeadLetter) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        number: u64,
        id: String,
        user: JsonName<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<JsonName<'a>>,
        at: String,
        deliveries: u32,
        reason: Cow<'a, str>,
        body: &'a RawValue,
    }
    let message = &letter.message;
    let line = serde_json::from_str(&message.body).and_then(|body| {
        serde_json::to_string(&Line {
            number: letter.id.get(),
            id: message.id.to_string(),
            user: JsonName(&message.user),
            peer: message.peer.as_deref().map(JsonName),
            at: format!("{:.3}", Timestamp::from(message.received_at)),
            deliveries: letter.deliveries,
            reason: match &letter.reason {
                DeadReason::Rejected(reason) => Cow::Borrowed(reason),
                other => Cow::Owned(other.to_string()),
            },
            body,
        })
    });
    // A body was checked before it was accepted; one with line breaks between its members is still
    // one line.
    let line = line.unwrap_or_else(|_| format!("{{\"number\":{}}}", letter.id));
    line.replace(['\n', '\r'], " ")
}

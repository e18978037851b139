//! `web-ipc --dead`: the messages of a durable inbox that were delivered too often, or rejected.
//!
//! `--list` also works beside a running server. The other actions open the inbox of the home
//! itself, which one process at a time may do, so the server must be stopped first. None of them
//! makes that inbox. One on JetStream is open to any number of processes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{Home, locate};
use ipc_inbox::{DeadLetter, DeadLetterId, DeadReason, Inbox, InboxReader, InboxSender, OpenError};
use ipc_store::DatabaseError;

use crate::args::{Dead, DeadAction, InboxKind, Letters};
use crate::error::{Failure, Verdict};
use crate::follow::{FAILURES_MAX, Watch, pause};
use crate::message_line::line;
use crate::out::{counted, print_json_line, report_line};
use crate::signals;
use crate::status::Status;

/// The most dead letters that are read at once.
const LETTERS_AT_ONCE: usize = 64;

/// Lists, puts back or discards dead letters.
pub(crate) fn run(explicit_home: Option<&Path>, dead: &Dead) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let runtime = signals::runtime().map_err(|error| {
        Failure::of(&error, None).while_doing("cannot start the program's runtime")
    })?;
    runtime.block_on(async {
        let letters = match open_shared(&dead.inbox).await? {
            Some(letters) if dead.follow => {
                return follow_shared(&letters).await.map(|()| Verdict::Done);
            }
            Some(letters) => letters,
            None if dead.follow => {
                return follow_file(&find(&home)?).await.map(|()| Verdict::Done);
            }
            None => open_file(&home, &dead.action).await?,
        };
        let result = act(&letters, &dead.action).await;
        if let Source::Own(sender, _) = letters {
            // Its file must be written and closed before the process ends.
            sender.finish().await;
        }
        result.map(|()| Verdict::Done)
    })
}

/// Opens the inbox if it is one that servers share.
#[cfg(feature = "jetstream")]
async fn open_shared(inbox: &InboxKind) -> Result<Option<Source>, Failure> {
    let InboxKind::JetStream(options) = inbox else { return Ok(None) };
    let (sender, inbox) = options.clone().max_deliveries(u32::MAX).open().await?;
    Ok(Some(Source::Own(sender, inbox)))
}

#[cfg(not(feature = "jetstream"))]
async fn open_shared(_inbox: &InboxKind) -> Result<Option<Source>, Failure> {
    Ok(None)
}

/// Opens the home's inbox, or its file where a server has it or nothing can be written.
async fn open_file(home: &Home, action: &DeadAction) -> Result<Source, Failure> {
    let path = find(home)?;
    match Inbox::durable().max_deliveries(u32::MAX).open(&path).await {
        Ok((sender, inbox)) => Ok(Source::Own(sender, inbox)),
        Err(error) if *action == DeadAction::List && leaves_reading(&error) => {
            Ok(Source::Beside(InboxReader::open(&path).await.map_err(OpenError::from)?))
        }
        Err(OpenError::InUse { .. }) => Err(in_use(&path, action)),
        Err(error) => Err(error.into()),
    }
}

/// The source of the dead letters.
enum Source {
    /// The inbox, opened by this process. It has no limit of deliveries, so that looking at
    /// it makes no message a dead letter.
    Own(InboxSender, Inbox),
    /// The file of the inbox, which a server has open, or which cannot be written.
    Beside(InboxReader),
}

async fn act(letters: &Source, action: &DeadAction) -> Result<(), Failure> {
    let failed = |error: ipc_inbox::StorageError| Failure::of(&error, None);
    match (action, letters) {
        (DeadAction::PutBack(which), Source::Own(_, inbox)) => {
            let count = inbox.requeue(&picked(letters, which).await?).await.map_err(failed)?;
            report_line(format_args!("{} put back", told(count)))
        }
        (DeadAction::Discard(which), Source::Own(_, inbox)) => {
            let count = inbox.discard(&picked(letters, which).await?).await.map_err(failed)?;
            report_line(format_args!("{} discarded", told(count)))
        }
        // `run` has refused the other actions beside a server.
        _ => each(letters, |letter| print_json_line(&shown(letter))).await,
    }
}

/// Lists the dead letters in a file, and then those that are new, until that fails.
async fn follow_file(path: &Path) -> Result<(), Failure> {
    let mut watch = Watch::new(path);
    let (mut known, mut failures) = (BTreeSet::new(), 0);
    loop {
        // Opened anew each time: a server that has started meanwhile has made a log beside it.
        let listed = match InboxReader::open(path).await {
            Ok(reader) => list_new(&Source::Beside(reader), &mut known).await,
            Err(error) => Err(OpenError::from(error).into()),
        };
        match listed {
            Ok(()) => {
                failures = 0;
                watch.changed().await;
            }
            Err(failure) if failures == FAILURES_MAX => return Err(failure),
            Err(_) => {
                failures += 1;
                pause().await;
            }
        }
    }
}

/// Lists the dead letters of an inbox that servers share, and then those that are new, until that
/// fails.
async fn follow_shared(letters: &Source) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    loop {
        list_new(letters, &mut known).await?;
        pause().await;
    }
}

/// Prints the dead letters that are not known, and makes all known that are there.
async fn list_new(letters: &Source, known: &mut BTreeSet<DeadLetterId>) -> Result<(), Failure> {
    let mut there = BTreeSet::new();
    each(letters, |letter| {
        there.insert(letter.id);
        // Noted at once, so that it is not printed again if the next page cannot be read.
        if known.insert(letter.id) {
            print_json_line(&shown(letter))?;
        }
        Ok(())
    })
    .await?;
    // One that was put back and dies again is new.
    *known = there;
    Ok(())
}

/// The line of a dead letter.
fn shown(letter: &DeadLetter) -> String {
    let reason = match &letter.reason {
        DeadReason::Rejected(reason) => Cow::Borrowed(&**reason),
        other => Cow::Owned(other.to_string()),
    };
    line(letter.id.get(), &letter.message, letter.deliveries, Some(reason))
}

/// The path of the home's inbox, which must exist.
pub(crate) fn find(home: &Home) -> Result<PathBuf, Failure> {
    let path = home.inbox_db_checked()?;
    let missing = || {
        Failure::with_command(
            format!("there is no durable inbox in this home yet: {} is missing", path.display()),
            "--serve --inbox durable",
            ", which makes it",
        )
    };
    // Checked first, since opening would make one.
    match path.try_exists() {
        Ok(true) => Ok(path),
        Ok(false) => Err(missing()),
        Err(error) => {
            let attempt = format!("cannot look for {}", path.display());
            Err(Failure::of(&error, None).while_doing(&attempt))
        }
    }
}

/// Whether the file can still be read after this error: a server has it open, or it cannot be
/// written.
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
    .with_status(Status::TryLater)
}

/// Goes through all dead letters, a page at a time, since their bodies may be long.
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

/// The dead letters to act on. If one of the numbers does not exist, nothing is changed.
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

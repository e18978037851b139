//! `web-ipc --dead`: the messages of a durable inbox that were handed out too often.
//!
//! It opens the inbox's file itself, which one process at a time may have open: a server must be stopped first. It never
//! makes one.

use std::collections::BTreeSet;
use std::path::Path;

use ipc_home::{Home, locate};
use ipc_inbox::{DeadLetter, DurableInbox, Inbox, OpenError};
use serde_json::value::RawValue;

use crate::args::{Dead, DeadAction, Letters};
use crate::error::{Failure, Verdict};
use crate::out::{counted, say};
use crate::serve::rfc_3339;
use crate::signals;

/// Dead letters that are read at once.
const LETTERS_AT_ONCE: u32 = 64;

/// Lists, puts back or discards dead letters.
pub(crate) fn run(explicit_home: Option<&Path>, dead: &Dead) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let runtime = signals::runtime()
        .map_err(|error| Failure::of(&error, None).while_doing("cannot start the program's runtime"))?;
    runtime.block_on(async {
        let inbox = open(&home).await?;
        let result = act(&inbox, &dead.action).await;
        // Its file is written up and closed before the process ends.
        inbox.inbox().finish().await;
        result.map(|()| Verdict::Done)
    })
}

async fn act(inbox: &DurableInbox, action: &DeadAction) -> Result<(), Failure> {
    let failed = |error: ipc_inbox::StorageError| Failure::of(&error, None);
    match action {
        DeadAction::List => each(inbox, |letter| say(format_args!("{}", line(letter)))).await,
        DeadAction::PutBack(which) => {
            let count = inbox.put_back(picked(inbox, which).await?).await.map_err(failed)?;
            say(format_args!("{} put back", told(count)))
        }
        DeadAction::Discard(which) => {
            let count = inbox.discard(picked(inbox, which).await?).await.map_err(failed)?;
            say(format_args!("{} discarded", told(count)))
        }
    }
}

/// The inbox of the home, where there is one.
async fn open(home: &Home) -> Result<DurableInbox, Failure> {
    let path = home.inbox_db_checked()?;
    let missing = || {
        Failure::new(
            format!("there is no durable inbox in this home yet: {} is missing", path.display()),
            Some("run web-ipc --serve --inbox durable, which makes it".to_owned()),
        )
    };
    // Looked for first, since to open is to make.
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(missing()),
        Err(error) => {
            let attempt = format!("cannot look for {}", path.display());
            return Err(Failure::of(&error, None).while_doing(&attempt));
        }
    }
    Inbox::durable().open(&path).await.map_err(|error| match error {
        OpenError::InUse { .. } => Failure::new(
            format!("the inbox {} is in use by a running server", path.display()),
            Some("stop it first".to_owned()),
        ),
        error => error.into(),
    })
}

/// Goes through all dead letters, some at a time: their bodies may be long.
async fn each(
    inbox: &DurableInbox,
    mut act: impl FnMut(&DeadLetter) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last = 0;
    loop {
        let letters = inbox.dead_letters_after(last, LETTERS_AT_ONCE).await;
        let letters = letters.map_err(|error| Failure::of(&error, None))?;
        let Some(letter) = letters.last() else { return Ok(()) };
        last = letter.number;
        letters.iter().try_for_each(&mut act)?;
    }
}

/// The numbers of those that are meant. Each that is named must be there, or nothing is done.
async fn picked(inbox: &DurableInbox, which: &Letters) -> Result<Vec<u64>, Failure> {
    let mut there = BTreeSet::new();
    each(inbox, |letter| {
        there.insert(letter.number);
        Ok(())
    })
    .await?;
    match which {
        Letters::All => Ok(there.into_iter().collect()),
        Letters::Numbers(numbers) => match numbers.iter().find(|number| !there.contains(number)) {
            None => Ok(numbers.iter().copied().collect::<BTreeSet<u64>>().into_iter().collect()),
            Some(number) => Err(Failure::new(
                format!("there is no dead letter {number}; nothing was changed"),
                Some("run web-ipc --dead --list to see their numbers".to_owned()),
            )),
        },
    }
}

fn told(count: usize) -> String {
    counted(u32::try_from(count).unwrap_or(u32::MAX), "dead letter")
}

/// `{"number", "id", "user", "at", "deliveries", "body"}`, the body as it was sent.
fn line(letter: &DeadLetter) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        number: u64,
        id: String,
        user: &'a str,
        at: String,
        deliveries: u32,
        body: &'a RawValue,
    }
    let message = &letter.message;
    let line = serde_json::from_str(&message.body).and_then(|body| {
        serde_json::to_string(&Line {
            number: letter.number,
            id: message.id.to_string(),
            user: &message.user,
            at: rfc_3339(message.received_at),
            deliveries: letter.deliveries,
            body,
        })
    });
    // A body was checked before it was accepted; one with line breaks between its members is still one line.
    let line = line.unwrap_or_else(|_| format!("{{\"number\":{}}}", letter.number));
    line.replace(['\n', '\r'], " ")
}

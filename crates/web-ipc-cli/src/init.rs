//! `web-ipc --init --run`: makes a home and prints where it is.

use std::path::Path;

use ipc_home::{Home, locate};
use ipc_inbox::Inbox;
use ipc_setup::{InitOptions, Initialised, Outcome, init, init_with_users_in};

use crate::error::{Failure, Verdict};
use crate::out::report_line;
use crate::shell::{command, shell_quoted};
use crate::signals;

/// Makes the home, or completes it. Prints what was done.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    force: bool,
) -> Result<Verdict, Failure> {
    let path = locate(explicit_home)?;
    if force {
        tell_what_waits(&Home::at(&path));
    }
    let options = InitOptions { force, ..InitOptions::now() };
    let made = match users_db {
        Some(url) => init_with_users_in(&path, url, &options)?,
        None => init(&path, &options)?,
    };
    tell(&made, explicit_home)?;
    Ok(Verdict::Done)
}

/// Warns of the messages that are moved aside with the home. If the inbox cannot be opened, `init`
/// refuses the home, or moves it as it is.
fn tell_what_waits(home: &Home) {
    let is_let_alone = || matches!(home.try_hold_alone(), Ok(Some(_)));
    if home.check_directory().is_err() || !home.inbox_db().exists() || !is_let_alone() {
        return;
    }
    match waiting(home) {
        Some(0) => {}
        Some(count) => log::warn!(
            "{} in the inbox of this home, and {} aside with it",
            if count == 1 {
                "1 message waits".to_owned()
            } else {
                format!("{count} messages wait")
            },
            if count == 1 { "goes" } else { "go" }
        ),
        None => log::warn!("the inbox of this home cannot be looked into, and goes aside as it is"),
    }
}

/// `None` if the inbox cannot be opened.
fn waiting(home: &Home) -> Option<u64> {
    let path = home.inbox_db_checked().ok()?;
    signals::runtime().ok()?.block_on(async {
        let (sender, inbox) = Inbox::durable().open(path).await.ok()?;
        let count = inbox.waiting().await;
        sender.finish().await;
        Some(count)
    })
}

fn tell(made: &Initialised, explicit_home: Option<&Path>) -> Result<(), Failure> {
    let root = made.home.root().display();
    if let Some(aside) = &made.kept_aside {
        report_line(format_args!("Kept the old home as {}", shell_quoted(aside)))?;
    }
    match made.outcome {
        Outcome::AlreadyThere => {
            return report_line(format_args!("Nothing to do: {root} is already a web-ipc home"));
        }
        Outcome::Created => report_line(format_args!("Made a web-ipc home: {root}"))?,
        Outcome::Completed => report_line(format_args!("Completed the web-ipc home: {root}"))?,
    }
    let users = match made.home.users_url()? {
        Some(_) => {
            "  users.url             where the users are; ipc-admin's password is in admin.cred alone"
        }
        None => {
            "  users.db              the user ipc-admin, with a password that only admin.cred has"
        }
    };
    for line in [
        "  envelope.keys         the key that seals messages",
        "  session.key           the server's own key",
        "  web-ipc-ca.crt, .key  the certificate authority",
        "  localhost.crt, .key   a certificate for both ends",
        users,
    ] {
        report_line(format_args!("{line}"))?;
    }
    report_line(format_args!("Next: {}", command(explicit_home, "--test --run --qty 3")))
}

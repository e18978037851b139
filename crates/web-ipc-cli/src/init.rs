//! `web-ipc --init --run`: makes a home and says where.

use std::path::Path;

use ipc_home::{locate, shell_quoted};
use ipc_setup::{InitOptions, Initialised, Outcome, init};

use crate::error::{Failure, Verdict, for_home};
use crate::out::say;

/// Makes the home, or completes it, or says that there is nothing to do.
pub(crate) fn run(explicit_home: Option<&Path>, force: bool) -> Result<Verdict, Failure> {
    let path = locate(explicit_home)?;
    let made = init(&path, &InitOptions { force, ..InitOptions::now() })?;
    tell(&made, explicit_home)?;
    Ok(Verdict::Done)
}

fn tell(made: &Initialised, explicit_home: Option<&Path>) -> Result<(), Failure> {
    let root = made.home.root().display();
    if let Some(aside) = &made.kept_aside {
        say(format_args!("Kept the old home as {}", shell_quoted(aside)))?;
    }
    match made.outcome {
        Outcome::AlreadyThere => {
            return say(format_args!("Nothing to do: {root} is already a web-ipc home"));
        }
        Outcome::Created => say(format_args!("Made a web-ipc home: {root}"))?,
        Outcome::Completed => say(format_args!("Completed the web-ipc home: {root}"))?,
    }
    for line in [
        "  envelope.keys         the key that seals messages",
        "  session.key           the server's own key",
        "  web-ipc-ca.crt, .key  the certificate authority",
        "  localhost.crt, .key   a certificate for both ends",
        "  users.db              the user ipc-admin, with a password that only admin.cred has",
    ] {
        say(format_args!("{line}"))?;
    }
    say(format_args!("Next: {}", for_home("web-ipc --test --run --qty 3", explicit_home)))
}

//! `web-ipc --users …`: adds, lists, changes, checks and deletes users, in the Python tool's own sentences.
//!
//! Of several actions in one line adding wins over all others; listing goes on with the next; then changing wins over
//! checking, and checking over deleting.

use std::path::Path;

use ipc_home::{Home, locate};
use ipc_setup::SetupError;
use ipc_store::StoreError;
use zeroize::Zeroizing;

use crate::args;
use crate::error::{Failure, Verdict};
use crate::out::{printable, say};
use crate::password::{self, Prompt};

/// Does what was asked for.
pub(crate) fn run(explicit_home: Option<&Path>, arguments: args::Users) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    // Asked for before the database is opened, so that nobody types with it open.
    let prompt = if arguments.add || arguments.change { Prompt::Twice } else { Prompt::Once };
    let needs_password = arguments.add || arguments.change || arguments.verify;
    let user = arguments.user.filter(|user| !user.is_empty());
    let password = match (&user, needs_password) {
        (Some(user), true) => password::find(arguments.password, user, prompt)?,
        _ => None,
    };
    let credentials = user.as_deref().zip(password);

    let users = ipc_setup::users(&home)?;
    if arguments.add {
        let Some((user, password)) = credentials else { return credentials_required() };
        return add(&users, user, password);
    }
    if arguments.list {
        for user in users.list()? {
            say(format_args!("Username: {user}"))?;
        }
    }
    if arguments.change {
        let Some((user, password)) = credentials else { return credentials_required() };
        return change(&users, user, password);
    }
    if arguments.verify {
        let Some((user, password)) = credentials else { return credentials_required() };
        return verify(&users, user, &password);
    }
    if arguments.delete {
        let Some(user) = user else {
            say(format_args!("Username is required"))?;
            return Ok(Verdict::Refused);
        };
        return delete(&users, &user);
    }
    Ok(Verdict::Done)
}

fn credentials_required() -> Result<Verdict, Failure> {
    say(format_args!("Username and password are required"))?;
    Ok(Verdict::Refused)
}

fn add(users: &ipc_setup::Users, user: &str, password: Zeroizing<String>) -> Result<Verdict, Failure> {
    users
        .add(user, password)
        .map_err(|error| Failure::from(error).while_doing(&format!("Failed to create user {user}")))?;
    log::info!("Successfully created user {user}");
    Ok(Verdict::Done)
}

fn change(users: &ipc_setup::Users, user: &str, password: Zeroizing<String>) -> Result<Verdict, Failure> {
    match users.change_password(user, password) {
        Ok(()) => {
            say(format_args!("Password of user {user} changed"))?;
            Ok(Verdict::Done)
        }
        Err(error) if is_unknown(&error) => unknown(user),
        Err(error) => {
            Err(Failure::from(error).while_doing(&format!("Failed to change the password of user {user}")))
        }
    }
}

fn verify(users: &ipc_setup::Users, user: &str, password: &str) -> Result<Verdict, Failure> {
    if users.verify(user, password)? {
        say(format_args!("Credentials verified"))?;
        Ok(Verdict::Done)
    } else {
        log::error!(target: crate::error::TARGET, "Invalid credentials");
        Ok(Verdict::Refused)
    }
}

fn delete(users: &ipc_setup::Users, user: &str) -> Result<Verdict, Failure> {
    match users.delete(user) {
        Ok(()) => {
            say(format_args!("User {} deleted", printable(user)))?;
            Ok(Verdict::Done)
        }
        Err(error) if is_unknown(&error) => unknown(user),
        Err(error) => Err(Failure::from(error).while_doing(&format!("Failed to delete user {user}"))),
    }
}

/// Nobody has a name that cannot be one.
fn is_unknown(error: &SetupError) -> bool {
    matches!(error, SetupError::Store(StoreError::Unknown { .. }) | SetupError::Username(_))
}

fn unknown(user: &str) -> Result<Verdict, Failure> {
    say(format_args!("User {} does not exist", printable(user)))?;
    Ok(Verdict::Refused)
}

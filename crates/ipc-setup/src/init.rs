//! Makes a home: atomic, idempotent, and safe to run twice at the same time.
//!
//! The command line comes here with a path. This file has the lock and the order of the steps;
//! `provision.rs` makes the files.

use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{Contents, Home, HomeError, locate};

use crate::clock::now_secs;
use crate::lock::Lock;
use crate::{SetupError, directory, node, pair, provision};

mod environment;
mod import;

pub use environment::{LeftFile, LeftReason, TakenPair};
pub use import::{Imported, ImportedAdmin, import_environment};

/// How to make a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitOptions {
    /// Start over: move the old home aside under a dated name, and make a new one.
    pub force: bool,
    /// The current time, in seconds since the Unix epoch. Certificates are valid from then on, and
    /// `force` names the old home after it.
    pub now_secs: u64,
}

impl InitOptions {
    /// Without `force`, at the current time of the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self { force: false, now_secs: now_secs() }
    }
}

/// What [`init`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new home was made.
    Created,
    /// An earlier run, or the replacement of a certificate, had been interrupted. It was completed.
    Completed,
    /// The home was complete already, and nothing was changed.
    AlreadyThere,
}

/// A home that is complete now.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The home.
    pub home: Home,
    /// What was done.
    pub outcome: Outcome,
    /// Where the old home is, if [`InitOptions::force`] moved one aside.
    pub kept_aside: Option<PathBuf>,
}

/// Makes the home at `path`, or completes it, or finds it complete and changes nothing.
///
/// A run that is killed, or fails, leaves a home that the next run completes. Of several runs at
/// the same time one makes the home, and the others find it complete. The user `ipc-admin` gets a
/// random password, which is kept in `admin.cred` alone.
///
/// # Errors
/// With and without `force`:
/// - [`HomeError::NotAHome`](ipc_home::HomeError::NotAHome): the directory is not empty and not a
///   home. A directory with nothing but a `users.db` becomes a home with these users.
/// - [`HomeError::PythonTool`](ipc_home::HomeError::PythonTool): it is the directory of the Python
///   tool.
/// - [`HomeError::ClientDirectory`](ipc_home::HomeError::ClientDirectory): it is the directory of a
///   client that sends to another host.
/// - [`HomeError::TooOpen`](ipc_home::HomeError::TooOpen) and similar variants: other users may use
///   the directory, or could put another in its place.
///
/// In addition:
/// - [`SetupError::InUse`]: with `force`, while a server runs on the home.
/// - [`SetupError::PiecesMissing`]: a complete home has lost a file other than `session.key`. The
///   file is not made anew.
/// - [`HomeError::FileMissing`](ipc_home::HomeError::FileMissing): an interrupted run has left
///   certificates whose authority is incomplete. The authority is not made anew.
/// - Other variants have the error of the disk, the certificate authority or the database.
pub fn init(path: &Path, options: &InitOptions) -> Result<Initialised, SetupError> {
    init_with(path, options, &ipc_store::Options::default())
}

/// [`init`] of a home whose users are in the PostgreSQL database at `url`, which `users.url` of the
/// home then names. A complete home is changed to it if the database has its admin, as after
/// [`Users::copy_to`](crate::Users::copy_to).
///
/// # Errors
/// As those of [`init`]; [`SetupError::UsersUrl`] and [`SetupError::Store`] for the database,
/// [`SetupError::UsersNotThere`] for a complete home whose users are not in it.
pub fn init_with_users_in(
    path: &Path,
    url: &str,
    options: &InitOptions,
) -> Result<Initialised, SetupError> {
    make(path, Some(url), options, &ipc_store::Options::default())
}

/// [`init`] with options of the user store. Tests choose a low cost of bcrypt.
pub(crate) fn init_with(
    path: &Path,
    options: &InitOptions,
    store_options: &ipc_store::Options,
) -> Result<Initialised, SetupError> {
    make(path, None, options, store_options)
}

fn make(
    path: &Path,
    users_url: Option<&str>,
    options: &InitOptions,
    store_options: &ipc_store::Options,
) -> Result<Initialised, SetupError> {
    let home = Home::at(directory::without_link(locate(Some(path))?)).with_users_url(users_url);
    let mut kept_aside = None;
    // Held to the end: a run that waits for the lock of the old home finds the new home complete.
    let mut old_lock = None;
    let mut old_use = None;
    let mut outcome = Outcome::AlreadyThere;
    let mut looks_left = LOOKS_MAX;
    loop {
        let start_over = options.force && kept_aside.is_none();
        let looked = directory::prepare(&home).and_then(|()| Ok(!start_over && is_whole(&home)?));
        let is_done = match looked {
            Err(SetupError::Home(error)) if looks_left > 0 && is_gone(&error, &home) => {
                looks_left -= 1;
                continue;
            }
            other => other?,
        };
        if is_done {
            if kept_aside.is_some() {
                outcome = Outcome::Created;
            }
            if provision::move_users(&home, store_options)? {
                outcome = Outcome::Completed;
            }
            return Ok(Initialised { home, outcome, kept_aside });
        }
        let Some(lock) = Lock::acquire(&home)? else { continue };
        let contents = home.contents()?;
        if start_over && contents != Contents::Nothing {
            // Held until the new home is there, so that no server starts on the old one.
            let Some(alone) = home.try_hold_alone()? else {
                return Err(SetupError::InUse { path: home.root().to_owned() });
            };
            old_use = Some(alone);
            kept_aside = Some(directory::move_aside(&home, options.now_secs)?);
            old_lock = Some(lock);
            continue;
        }
        if contents == Contents::Complete {
            directory::clean(&home)?;
            if pair::recover(&home)? {
                outcome = Outcome::Completed;
                continue;
            }
            let missing = provision::missing(&home)?;
            if missing.is_empty() {
                continue;
            }
            // No copy of this file exists elsewhere. A new one ends all sessions, and clients log
            // in again.
            if missing == [provision::SESSION_KEY] && node::settings(&home)?.is_none() {
                provision::make_key_file(&home.session_key_file())?;
                outcome = Outcome::Completed;
                continue;
            }
            return Err(SetupError::PiecesMissing { path: home.root().to_owned(), missing });
        }
        provision::make_missing(&home, options.now_secs, store_options)?;
        drop(lock);
        drop((old_lock, old_use));
        let outcome = match contents {
            Contents::Begun if kept_aside.is_none() => Outcome::Completed,
            _ => Outcome::Created,
        };
        return Ok(Initialised { home, outcome, kept_aside });
    }
}

/// How many times a home is looked at again that was moved aside between two looks.
const LOOKS_MAX: u32 = 1000;

/// Whether the home has disappeared since the last look: another `init` with `force` has moved it
/// aside and makes a new one.
fn is_gone(error: &HomeError, home: &Home) -> bool {
    match error {
        HomeError::Missing { path } => path == home.root(),
        HomeError::Unreadable { path, source } => {
            path.starts_with(home.root()) && source.kind() == io::ErrorKind::NotFound
        }
        _ => false,
    }
}

/// Whether the home is complete, lacks no file, and has no pair that is half replaced. `false` is
/// only a hint without the lock: the home may have been moved aside between two looks.
fn is_whole(home: &Home) -> Result<bool, SetupError> {
    Ok(home.is_complete()?
        && provision::missing(home)?.is_empty()
        && home.staged_pairs()?.is_empty())
}

#[cfg(test)]
mod tests;

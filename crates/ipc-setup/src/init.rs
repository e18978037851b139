//! Makes a home: atomic, idempotent, and safe to run twice at the same time.
//!
//! The command line comes here with a path. The lock and the order of the pieces live here; how a
//! piece is made does not.

use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{Contents, Home, HomeError, locate};

use crate::clock::now_secs;
use crate::lock::Lock;
use crate::{SetupError, directory, pair, provision};

/// How to make a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitOptions {
    /// Start over: what is there is kept aside under a dated name, and a new home is made.
    pub force: bool,
    /// The time, in seconds since the Unix epoch: certificates begin with it, and `force` names the
    /// old home after it.
    pub now_secs: u64,
}

impl InitOptions {
    /// Not starting over, and the time that the system's clock says.
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
    /// An earlier run, or the replacement of a certificate, had not come to its end; what was
    /// missing was made.
    Completed,
    /// It was a complete home already, and nothing was changed.
    AlreadyThere,
}

/// A home that is complete now.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The home.
    pub home: Home,
    /// What was done to it.
    pub outcome: Outcome,
    /// Where the old home is, if [`InitOptions::force`] moved one aside.
    pub kept_aside: Option<PathBuf>,
}

/// Makes the home at `path`, or completes it, or finds it complete and changes nothing.
///
/// Whoever is killed, or meets an error, leaves what the next run completes. Of several at the same
/// time one makes the home and the others find it made. The user `ipc-admin` gets a random password
/// that only `admin.cred` has.
///
/// # Errors
/// [`HomeError::NotAHome`](ipc_home::HomeError::NotAHome) for a directory that is not empty and not
/// a home (a `users.db` alone is taken in) and
/// [`HomeError::PythonTool`](ipc_home::HomeError::PythonTool) for that tool's own, with `force`
/// too; [`HomeError::ClientDirectory`](ipc_home::HomeError::ClientDirectory) for one from which a
/// client sends to another host; [`HomeError::TooOpen`](ipc_home::HomeError::TooOpen) and its like
/// for one that others have a right on, or could put another in the place of; [`SetupError::InUse`]
/// with `force` while a server runs on the home; [`SetupError::PiecesMissing`] for a complete home
/// that has lost a file other than `session.key`, and
/// [`HomeError::FileMissing`](ipc_home::HomeError::FileMissing) for one whose making was cut short
/// and whose authority has issued certificates and is not whole: neither is made anew. Otherwise
/// what the disk, the certificate authority or the database said.
pub fn init(path: &Path, options: &InitOptions) -> Result<Initialised, SetupError> {
    init_with(path, options, &ipc_store::Options::default())
}

/// [`init`] with a choice that only tests have: how dear a bcrypt is.
pub(crate) fn init_with(
    path: &Path,
    options: &InitOptions,
    store_options: &ipc_store::Options,
) -> Result<Initialised, SetupError> {
    let home = Home::at(directory::without_link(locate(Some(path))?));
    let mut kept_aside = None;
    // Held to the end, so that whoever waits for the old home wakes up when the new one is made.
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
            return Ok(Initialised { home, outcome, kept_aside });
        }
        let Some(lock) = Lock::acquire(&home)? else { continue };
        let contents = home.contents()?;
        if start_over && contents != Contents::Nothing {
            // Held until the new home is there, so that no server starts on the one that goes.
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
            // Nobody has a copy: with it go sessions, and whose they were logs in again.
            if missing == [provision::SESSION_KEY] {
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

/// How often a home that was moved aside between two looks is looked at again.
const LOOKS_MAX: u32 = 1000;

/// Whether the home was there and is not any more: another `init` with `force` has moved it aside
/// and makes the next one.
fn is_gone(error: &HomeError, home: &Home) -> bool {
    match error {
        HomeError::Missing { path } => path == home.root(),
        HomeError::Unreadable { path, source } => {
            path.starts_with(home.root()) && source.kind() == io::ErrorKind::NotFound
        }
        _ => false,
    }
}

/// Whether the home is complete, lacks nothing, and no pair in it is half replaced. If it is not,
/// the lock is taken before that is believed: it may have been moved aside between two looks.
fn is_whole(home: &Home) -> Result<bool, SetupError> {
    Ok(home.is_complete()?
        && provision::missing(home)?.is_empty()
        && home.staged_pairs()?.is_empty())
}

#[cfg(test)]
mod tests;

//! Which home a command works in, and what a peer is called there.
//!
//! The commands that run a server come here, and those that only send. Making and managing a home
//! is `ipc-setup`'s.

use std::path::Path;

use ipc_home::{Home, HomeError};
use ipc_setup::{InitOptions, SetupError, init, to_ascii};

use crate::error::Failure;

/// A peer's name as it stands in its certificate: the user may write it in any script, as for
/// `--certs`.
pub(crate) fn peer_name(name: &str) -> Result<String, Failure> {
    to_ascii(name)
        .map_err(|source| Failure::from(SetupError::Name { name: name.to_owned(), source }))
}

/// The home at `path`, made first where there is none.
pub(crate) fn open_or_make(path: &Path) -> Result<Home, Failure> {
    match Home::open_as_configured(path) {
        Err(HomeError::Missing { .. } | HomeError::Incomplete { .. }) => {
            let made = init(path, &InitOptions::now())?;
            log::info!("Made a web-ipc home: {}", made.home.root().display());
            Ok(made.home)
        }
        opened => Ok(opened?),
    }
}

/// The home at `path` for a client. One that brings its own user needs no `admin.cred`: a client's
/// directory, with the envelope keys, the authority's certificate and a pair, is enough.
pub(crate) fn open_for_client(path: &Path, has_user: bool) -> Result<Home, Failure> {
    match Home::open_as_configured(path) {
        Err(HomeError::ClientDirectory { .. } | HomeError::Incomplete { .. }) if has_user => {
            Ok(Home::open_client(path)?)
        }
        Err(HomeError::ClientDirectory { path }) => {
            let home = Home::open_client(&path)?;
            match home.client_settings()? {
                Some(_) => Ok(home),
                None => Err(HomeError::NoUser { path }.into()),
            }
        }
        opened => Ok(opened?),
    }
}

//! Opens the home of a command.
//!
//! The commands that run a server or a client come here. `ipc-setup` makes and manages homes.

use std::path::Path;

use ipc_home::{Home, HomeError, PeerName};
use ipc_setup::{InitOptions, SetupError, init, init_with_users_in, to_ascii};

use crate::error::Failure;

/// A peer's name as it is in its certificate (ASCII). The user may write it in any script, as for
/// `--certs`.
pub(crate) fn peer_name(name: &str) -> Result<String, Failure> {
    to_ascii(name)
        .map_err(|source| Failure::from(SetupError::Name { name: name.to_owned(), source }))
}

/// The name of the pair that `name` means in this home: where every other home has `localhost`,
/// which is the default of options, that of a further server has the server's own.
pub(crate) fn pair_name(home: &Home, name: String) -> Result<String, Failure> {
    if name != LOCALHOST {
        return Ok(name);
    }
    let has_pair = PeerName::parse(LOCALHOST).is_ok_and(|name| home.key_file(&name).exists());
    match home.node_settings()? {
        Some(node) if !has_pair => Ok(node.identity.to_string()),
        _ => Ok(name),
    }
}

/// The name of the pair that a new home has.
const LOCALHOST: &str = "localhost";

/// Opens the home at `path`. Makes it first if there is none. Its users are in `users_db`, if that
/// is given.
pub(crate) fn open_or_make(path: &Path, users_db: Option<&str>) -> Result<Home, Failure> {
    let home = match Home::open_as_configured(path) {
        Err(HomeError::Missing { .. } | HomeError::Incomplete { .. }) => {
            let made = match users_db {
                Some(url) => init_with_users_in(path, url, &InitOptions::now())?,
                None => init(path, &InitOptions::now())?,
            };
            log::info!("Made a web-ipc home: {}", made.home.root().display());
            made.home
        }
        opened => opened?,
    };
    Ok(home.with_users_url(users_db))
}

/// Opens the home at `path` for a client. A client with a user of its own needs no `admin.cred`: a
/// directory with the envelope keys, the authority's certificate and a pair is enough.
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

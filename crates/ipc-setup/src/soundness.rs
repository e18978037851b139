//! Checks a copy of a home that nobody uses yet: whether it is whole, and can be used.
//!
//! `sealed_backup` checks what it is about to seal, and `restore` what it has unpacked. It is the
//! same check, so that whatever is backed up can be restored.

use std::error::Error;

use ipc_home::{Home, read_public, read_secret};
use ipc_inbox::InboxReader;
use ipc_pki::key_fits;
use ipc_store::{DatabaseError, StoreError};

use crate::users::runtime;
use crate::{SetupError, provision};

/// Why a copy of a home is no good.
#[derive(Debug)]
pub(crate) enum Unsound {
    /// It lacks these files.
    Missing(Vec<&'static str>),
    /// A file cannot be used. The reason names files within the home without its path, which is one
    /// that nobody knows.
    Unusable(String),
    /// A database is damaged.
    Database(DatabaseError),
    /// It could not be checked.
    Unchecked(SetupError),
}

impl From<SetupError> for Unsound {
    fn from(error: SetupError) -> Self {
        Self::Unchecked(error)
    }
}

/// Checks the home. Returns how many messages its durable inbox has.
pub(crate) fn check(home: &Home) -> Result<Option<u64>, Unsound> {
    let mut missing = provision::missing(home)?;
    // The authority's key may be kept elsewhere.
    let has_authority = provision::exists(&home.ca_certificate_file())?;
    missing.retain(|name| *name != "web-ipc-ca.key" || !has_authority);
    if !missing.is_empty() {
        return Err(Unsound::Missing(missing));
    }
    // Opened with the envelope keys.
    home.admin_credentials().map_err(|error| unusable(home, &error))?;
    home.session_keys().map_err(|error| unusable(home, &error))?;
    home.ca_certificates().map_err(|error| unusable(home, &error))?;
    home.node_settings().map_err(|error| unusable(home, &error))?;
    if provision::exists(&home.ca_key_file())? {
        provision::load_authority(home).map_err(|error| unusable(home, &error))?;
    }
    check_pairs(home)?;
    let runtime = runtime()?;
    if home.users_url().map_err(|error| unusable(home, &error))?.is_none() {
        let path = home.users_db_checked().map_err(|error| unusable(home, &error))?;
        match runtime.block_on(ipc_store::check_integrity(&path)) {
            Err(StoreError::Database(error)) => return Err(Unsound::Database(error)),
            checked => checked.map_err(SetupError::from)?,
        }
    }
    let inbox = home.inbox_db_checked().map_err(|error| unusable(home, &error))?;
    if !provision::exists(&inbox)? {
        return Ok(None);
    }
    let messages: Result<u64, DatabaseError> = runtime.block_on(async {
        ipc_inbox::check_integrity(&inbox).await?;
        InboxReader::open(&inbox).await?.messages().await
    });
    match messages {
        // An older version's file, which the server brings up to date.
        Err(DatabaseError::Outdated { .. }) => Ok(None),
        messages => messages.map(Some).map_err(Unsound::Database),
    }
}

/// Checks that each key is that of its certificate. A pair that is half replaced is left to whoever
/// completes it.
fn check_pairs(home: &Home) -> Result<(), Unsound> {
    let staged = home.staged_pairs().map_err(|error| unusable(home, &error))?;
    for name in home.peer_names().map_err(|error| unusable(home, &error))? {
        if staged.contains(&name) {
            continue;
        }
        let certificate = read_public(&home.certificate_file(&name));
        let certificate = certificate.map_err(|error| unusable(home, &error))?;
        let key = read_secret(&home.key_file(&name)).map_err(|error| unusable(home, &error))?;
        if !key_fits(&certificate, &key) {
            let reason = format!("{name}.key is not the key of {name}.crt");
            return Err(Unsound::Unusable(reason));
        }
    }
    Ok(())
}

/// The error with its causes.
fn unusable(home: &Home, error: &dyn Error) -> Unsound {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason.push_str(": ");
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    Unsound::Unusable(reason.replace(&format!("{}/", home.root().display()), ""))
}

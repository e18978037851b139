//! Who may read and change a home, and whether what it must have is there: everything but
//! certificates and databases.
//!
//! The diagnosis comes here. Files are read, and none is changed.

use std::os::unix::fs::MetadataExt as _;

use ipc_base::Remedy;
use ipc_envelope::KEYS_MAX;
use ipc_home::HomeError;

use super::report::{Finding, PERMISSIONS};
use super::scope::{HomeKind, Scope};
use crate::key_id::Ring;
use crate::keys::list_keys;

/// Owners and modes of the home, of what lies in it, and of the directories above it.
pub(super) fn permissions(scope: &Scope) -> Vec<Finding> {
    let mut found = Vec::new();
    match scope.home.check_directory() {
        Ok(()) => {}
        Err(error) => found.push(Finding::of_home(PERMISSIONS, &error)),
    }
    let own_uid = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir(scope.home.root()).into_iter().flatten().flatten();
    let mut foreign: Vec<_> = entries
        .filter_map(|entry| {
            let owner = entry.metadata().ok()?.uid();
            (owner != own_uid && owner != 0).then(|| (entry.path(), owner))
        })
        .collect();
    foreign.sort();
    for (path, owner) in foreign {
        let error = HomeError::ForeignOwner { target: path.clone(), path, owner, own_uid };
        found.push(Finding::of_home(PERMISSIONS, &error));
    }
    if found.is_empty() {
        let sentence = "only root and this user can read or change the home";
        found.push(Finding::ok(PERMISSIONS, sentence));
    }
    found
}

/// The key rings.
pub(super) fn keys(scope: &Scope) -> Vec<Finding> {
    const CHECK: &str = "keys";
    let rings: &[Ring] = match scope.kind {
        HomeKind::Server => &[Ring::Envelope, Ring::Session],
        HomeKind::Client => &[Ring::Envelope],
    };
    rings
        .iter()
        .map(|&ring| match list_keys(&scope.home, ring) {
            Ok(keys) if keys.len() >= KEYS_MAX => {
                let sentence = format!("{ring} has {} keys, and no room for another", keys.len());
                Finding::warning(CHECK, "keys_full", sentence).mended_by(Remedy::DropKey)
            }
            Ok(keys) if keys.len() == 1 => Finding::ok(CHECK, format!("{ring} has 1 key")),
            Ok(keys) => Finding::ok(CHECK, format!("{ring} has {} keys", keys.len())),
            Err(error) => scope.enrolled_anew(Finding::of_setup(CHECK, "keys_damaged", &error)),
        })
        .collect()
}

/// The user whom a client logs in as.
pub(super) fn credentials(scope: &Scope) -> Vec<Finding> {
    const CHECK: &str = "credentials";
    let (file, read) = match scope.kind {
        HomeKind::Server => ("admin.cred", scope.home.admin_credentials()),
        HomeKind::Client if scope.settings.is_none() => return Vec::new(),
        HomeKind::Client => ("client.cred", scope.home.client_credentials()),
    };
    vec![match read {
        Ok(_) => Finding::ok(CHECK, format!("{file} opens with the envelope keys")),
        Err(error) => scope.enrolled_anew(Finding::of_home(CHECK, &error)),
    }]
}

//! Finds all files of a home that others can access, for one error.
//!
//! Opening a home uses it, so that one command repairs a home whose files were copied with other
//! modes. It reads only names and modes.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::HomeError;
use crate::permissions::{DIRECTORY_MODE, FILE_MODE, OTHERS, STICKY};

/// The files of a home, besides private keys, that nobody else may read.
const SECRETS: [&str; 12] = [
    "envelope.keys",
    "session.key",
    "admin.cred",
    "client.cred",
    "users.db",
    "users.db-wal",
    "users.db-shm",
    "users.db-journal",
    "inbox.db",
    "inbox.db-wal",
    "inbox.db-shm",
    "inbox.db-journal",
];

/// Refuses a home if others can access its directory or its secrets.
///
/// # Errors
/// [`HomeError::TooOpen`] for one of them, [`HomeError::AllTooOpen`] for several.
pub(crate) fn refuse_open(root: &Path, metadata: &Metadata) -> Result<(), HomeError> {
    let mode = bits(metadata);
    let of_root = HomeError::TooOpen { path: root.to_owned(), mode, mode_wanted: DIRECTORY_MODE };
    if mode & OTHERS != 0 && mode & STICKY != 0 {
        return Err(of_root);
    }
    let mut open = open_entries(root);
    match (mode & OTHERS != 0, open.len()) {
        (false, 0) => Ok(()),
        (true, 0) => Err(of_root),
        (false, 1) => {
            let (name, mode) = open.remove(0);
            let mode_wanted = if name == "sessions" { DIRECTORY_MODE } else { FILE_MODE };
            Err(HomeError::TooOpen { path: root.join(name), mode, mode_wanted })
        }
        (is_root_open, _) => {
            if is_root_open {
                open.insert(0, (".".to_owned(), mode));
            }
            Err(HomeError::AllTooOpen { path: root.to_owned(), names: open })
        }
    }
}

/// Sorted by name. Entries that cannot be checked are skipped: reading them will fail.
fn open_entries(root: &Path) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut open: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // The metadata of the entry itself: the target of a link is not part of the home.
            let metadata = entry.metadata().ok()?;
            let is_ours = match metadata.is_dir() {
                true => name == "sessions",
                false => SECRETS.contains(&name.as_str()) || is_private_key(&name),
            };
            let mode = bits(&metadata);
            (is_ours && !metadata.is_symlink() && mode & OTHERS != 0).then_some((name, mode))
        })
        .collect();
    open.sort();
    open
}

fn is_private_key(name: &str) -> bool {
    name.ends_with(".key") || name.ends_with(".key.new")
}

fn bits(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

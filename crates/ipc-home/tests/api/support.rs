//! Makes homes from plain files, without `ipc-setup`.
#![allow(clippy::unwrap_used)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipc_home::{Credentials, Home, ModeChange, Remedy};

/// A valid Fernet key.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Another valid Fernet key.
pub(crate) const SESSION_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// PEM in form, but not a real certificate: this crate does not look inside.
pub(crate) const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
/// PEM in form, but not a real key.
pub(crate) const PRIVATE_KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nAwQF\n-----END PRIVATE KEY-----\n";

/// A complete home with one pair, `localhost`.
pub(crate) fn complete_home(directory: &Path) -> Home {
    let root = directory.join("home");
    ipc_home::make_private_directory(&root).unwrap();
    let home = Home::at(&root);
    for (file, content) in [
        ("envelope.keys", format!("{KEY}\n")),
        ("session.key", format!("{SESSION_KEY}\n")),
        ("web-ipc-ca.crt", CERTIFICATE.to_owned()),
        ("web-ipc-ca.key", PRIVATE_KEY.to_owned()),
        ("localhost.crt", CERTIFICATE.to_owned()),
        ("localhost.key", PRIVATE_KEY.to_owned()),
    ] {
        ipc_home::write_secret_atomically(&root.join(file), content.as_bytes()).unwrap();
    }
    home.write_admin_credentials(&Credentials::new("ipc-admin", "hunter2"), 1_000, [9; 16])
        .unwrap();
    home
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The remedy that changes the permissions of one file or directory.
pub(crate) fn fix(path: &Path, change: ModeChange) -> Remedy {
    Remedy::FixPermissions { paths: vec![path.to_owned()], change }
}

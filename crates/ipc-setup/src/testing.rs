//! Homes for the tests of this crate. Passwords are hashed cheaply.

use ipc_home::Home;

use crate::init::{InitOptions, init_with};

/// A complete home, made now.
pub(crate) fn new_home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let options = ipc_store::Options::new().bcrypt_cost_for_tests();
    let made = init_with(&directory.path().join("home"), &InitOptions::now(), &options).unwrap();
    (directory, made.home)
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

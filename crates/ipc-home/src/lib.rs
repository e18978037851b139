//! The home directory of a web-ipc installation: layout, permissions, reading.
//!
//! A program that sends or receives opens a [`Home`] and passes it to `ipc-client` or `ipc-server`.
//! A program that makes homes uses `ipc-setup`, which builds on this crate. This crate knows no
//! SQL, makes no certificates, and does no HTTP.
//!
//! | you want | take |
//! |---|---|
//! | where the home is | [`locate`] |
//! | an existing home | [`Home::open`], [`Home::open_default`] |
//! | the directory of a client on another host | [`Home::open_client`] |
//! | what a directory is, before it is changed | [`Home::contents`] |
//! | keys, certificates, the admin's credentials | [`Home::envelope_keys`], [`Home::identity`], [`Home::ca_certificates`], [`Home::admin_credentials`] |
//! | a name that is safe in a file name | [`PeerName`] |
//! | a session for the next process | [`KeptSession`], [`Home::load_session`], [`Home::keep_session`] |
//! | one login for all processes of a home | [`Home::try_login_lock`], [`LoginTurn`] |
//! | a time in a form to be shown | [`Timestamp`] |
//! | a file that is written atomically | [`write_secret_atomically`], [`StagedFile`] |
//!
//! Directories are 0700 and files are 0600. A home that others could read is refused, and the
//! error's remedy has the `chmod` command for it:
//!
//! ```
//! use ipc_home::{Home, HomeError, Remedy};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("home");
//! let error = Home::open(&path).unwrap_err();
//! assert!(matches!(error, HomeError::Missing { .. }));
//! assert_eq!(error.remedy(), Some(Remedy::MakeHome));
//! # Ok::<(), std::io::Error>(())
//! ```

mod access;
mod accounts;
mod client_settings;
mod contents;
mod credentials;
mod error;
mod file;
mod home;
mod identity;
mod in_use;
mod listing;
mod locate;
mod login_lock;
mod modes;
mod opening;
mod permissions;
mod reading;
mod remedy;
mod session;
mod trust;
mod users_url;
mod watch;

pub use access::READABLE_HOME_VARIABLE;
pub use client_settings::{ClientSettings, Enrolled};
pub use contents::Contents;
pub use credentials::{ADMIN_USERNAME, Credentials};
pub use error::HomeError;
pub use file::{
    FILE_BYTES_MAX, StagedFile, close_file, make_private_directory, read_configuration,
    read_credential, read_public, read_secret, sync_directory, write_file_atomically,
    write_secret_atomically,
};
pub use home::Home;
pub use identity::Identity;
pub use in_use::InUse;
pub use ipc_base::{
    ModeChange, NameError, PEER_NAME_CHARS_MAX, PeerName, Place, RESERVED_NAMES, Remedy, Timestamp,
};
pub use locate::{HOME_VARIABLE, locate};
pub use login_lock::{LoginHolder, LoginLock, LoginTurn};
pub use permissions::{DIRECTORY_MODE, FILE_MODE};
pub use remedy::remedy_of_pair;
pub use session::KeptSession;
pub use watch::{FileStamps, Followed, HomeWatch};

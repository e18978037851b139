//! Makes and manages a web-ipc home: the directory itself, certificates, users.
//!
//! The command line comes here; a program that brings its own home along can as well. It stands on
//! `ipc-home` (where things lie), `ipc-pki` (certificates), `ipc-store` (users) and `ipc-inbox`
//! (messages, which are only copied), and knows nothing of the network. Every call blocks.
//!
//! | you want | take |
//! |---|---|
//! | a home, made or completed | [`init`] |
//! | a home from the environment of the Python tool | [`import_environment`] |
//! | a certificate for one more peer | [`issue_certificate`] |
//! | to list, renew or revoke certificates | [`list_certificates`], [`renew_certificates`], [`revoke_certificates`] |
//! | to replace the authority | [`rotate_authority`], then [`drop_old_authority`] |
//! | to enrol a client on another host, or a further server | [`create_enrolment`] there, [`accept_enrolment`] here |
//! | to list or cancel enrolments | [`list_enrolments`], [`cancel_enrolment`] |
//! | a server that renews certificates of clients | [`HomeIssuer`] |
//! | to add, list, check, change or delete users | [`users`] |
//! | the store of a home's users, for a server | [`user_store`] |
//! | to list, rotate or drop the keys of a home | [`list_keys`], [`rotate_keys`], [`drop_key`] |
//! | a copy of a home that is in use | [`Backup`], or [`SealedBackup`] for one sealed file |
//! | a home of such a file | [`Restore`] |
//! | to know what is wrong with a home | [`diagnose`] |
//!
//! ```
//! use ipc_setup::{CertificateRequest, InitOptions, Outcome, init, issue_certificate, users};
//!
//! let directory = tempfile::tempdir()?;
//! let options = InitOptions::now();
//! let made = init(&directory.path().join("home"), &options)?;
//! assert_eq!(made.outcome, Outcome::Created);
//! assert_eq!(users(&made.home)?.list()?[0].as_str(), "ipc-admin");
//!
//! let issued = issue_certificate(&made.home, &CertificateRequest::new("server1.example", options.now_secs))?;
//! assert!(issued.certificate_file.ends_with("server1.example.crt"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `postgres`: homes whose users are in PostgreSQL.
//! - `vendored` (default): builds OpenSSL from source; see `ipc-pki`.

mod archive;
mod backup;
mod backup_error;
mod bundle;
mod bundle_error;
mod certificate;
mod certificates;
mod clock;
mod code;
mod directory;
mod doctor;
mod enrol;
mod enrolments;
mod error;
mod files;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod issued;
mod issuer;
mod key_id;
mod keys;
mod leftovers;
mod lock;
mod node;
mod pair;
mod pem;
mod provision;
mod random;
mod renew;
mod renewal_turn;
mod restore;
mod revoke;
mod rotate;
mod sealed_backup;
mod sealed_stream;
mod snapshot;
mod soundness;
#[cfg(test)]
mod testing;
mod users;

pub use backup::{BackedUp, Backup};
pub use backup_error::BackupFileError;
pub use bundle::{BUNDLE_BYTES_MAX, BUNDLE_END};
pub use bundle_error::{BUNDLE_TTL_SECS, BundleError};
pub use certificate::{CertificateRequest, IssuedCertificate, issue_certificate};
pub use certificates::{CertificateKind, CertificateList, ListedCertificate, list_certificates};
pub use code::Code;
pub use doctor::{Diagnosis, Finding, HomeKind, Severity, WARN_DAYS, diagnose, run_check};
pub use enrol::{
    Accepted, Bundle, Cancelled, EnrolRequest, accept_enrolment, cancel_enrolment, create_enrolment,
};
pub use enrolments::{Enrolment, EnrolmentKind, EnrolmentState, list_enrolments};
pub use error::SetupError;
pub use follow::{BegunRenewal, RenewalAnswer, begin_renewal, finish_renewal};
pub use init::{
    Imported, ImportedAdmin, InitOptions, Initialised, LeftFile, LeftReason, Outcome, TakenPair,
    import_environment, init, init_with_users_in,
};
pub use ipc_base::{ModeChange, Place, Remedy};
pub use ipc_pki::{KeyType, KeyTypeError, NameError, RevocationReason, SerialNumber, to_ascii};
pub use issuer::HomeIssuer;
pub use key_id::{KeyId, KeyIdError, Ring};
pub use keys::{ListedKey, drop_key, key_users, list_keys, rotate_keys};
pub use leftovers::AbortHandle;
pub use node::NodeAnswer;
pub use renew::{Renew, Renewals, renew_certificates};
pub use renewal_turn::RenewalTurn;
pub use restore::{Restore, Restored};
pub use revoke::{Revoked, revoke_certificates};
pub use rotate::{drop_old_authority, rotate_authority};
pub use sealed_backup::SealedBackup;
pub use users::{Users, UsersDatabase, user_store, users, users_database};

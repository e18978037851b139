//! What a diagnosis says: findings with a code, a severity, a sentence and a remedy.
//!
//! The checks beside this file make them, and so does the command line for what it checks itself.
//! Nothing is looked at here.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ipc_base::{Remedy, chain};
use ipc_home::HomeError;

use crate::SetupError;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// It works now, and will not for ever; or it was not checked.
    Warning,
    /// It is wrong.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What one check says of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The name of the check, such as `permissions`. It stays the same between versions.
    pub check: &'static str,
    /// What was found, such as `open_to_others`; `ok` where nothing is wrong. It stays the same
    /// between versions.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence for a person, without a full stop. It holds no secret.
    pub sentence: String,
    /// What mends it.
    pub remedy: Option<Remedy>,
}

impl Finding {
    /// Nothing is wrong.
    #[must_use]
    pub fn ok(check: &'static str, sentence: impl Into<String>) -> Self {
        Self { check, code: "ok", severity: Severity::Ok, sentence: sentence.into(), remedy: None }
    }

    /// A warning without a remedy; see [`mended_by`](Self::mended_by).
    #[must_use]
    pub fn warning(check: &'static str, code: &'static str, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { check, code, severity: Severity::Warning, sentence, remedy: None }
    }

    /// An error without a remedy; see [`mended_by`](Self::mended_by).
    #[must_use]
    pub fn error(check: &'static str, code: &'static str, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { check, code, severity: Severity::Error, sentence, remedy: None }
    }

    /// An error with the text of a library's error and its causes.
    #[must_use]
    pub fn of(check: &'static str, code: &'static str, error: &(dyn Error + 'static)) -> Self {
        Self::error(check, code, chain(error).to_string())
    }

    /// This finding with a remedy.
    #[must_use]
    pub fn mended_by(mut self, remedy: impl Into<Option<Remedy>>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// A check that could not be made.
    #[must_use]
    pub fn not_checked(check: &'static str, reason: impl fmt::Display) -> Self {
        Self::warning(check, "not_checked", format!("not checked: {reason}"))
    }

    /// The finding for an error of the home. What is open to other users is not read; `permissions`
    /// has said what mends that.
    pub(super) fn of_home(check: &'static str, error: &HomeError) -> Self {
        match error {
            HomeError::TooOpen { .. } | HomeError::AllTooOpen { .. } if check != PERMISSIONS => {
                Self::not_checked(check, error)
            }
            _ => Self::of(check, code_of(error), error).mended_by(error.remedy()),
        }
    }

    /// The finding for an error of this crate. `code` is for those that are not the home's.
    pub(super) fn of_setup(check: &'static str, code: &'static str, error: &SetupError) -> Self {
        match error {
            SetupError::Home(error) => Self::of_home(check, error),
            error => Self::of(check, code, error).mended_by(error.remedy()),
        }
    }
}

/// The check of owners and modes.
pub(super) const PERMISSIONS: &str = "permissions";

/// The code of an error of the home.
fn code_of(error: &HomeError) -> &'static str {
    match error {
        HomeError::Missing { .. } => "home_missing",
        HomeError::Incomplete { .. } => "home_incomplete",
        HomeError::TooOpen { .. } | HomeError::AllTooOpen { .. } => "open_to_others",
        HomeError::ForeignOwner { .. } => "foreign_owner",
        HomeError::WritableByOthers { .. } => "writable_by_others",
        HomeError::FileMissing { .. } => "file_missing",
        HomeError::CertificateMissing { .. } => "pair_incomplete",
        HomeError::SessionKeyShared { .. } => "session_key_shared",
        HomeError::BadKeys { .. } | HomeError::NotUtf8 { .. } => "keys_damaged",
        HomeError::BadCertificate { .. } => "certificate_damaged",
        HomeError::BadPrivateKey { .. } => "key_damaged",
        HomeError::EncryptedPrivateKey { .. } => "key_encrypted",
        HomeError::BadRevocationList { .. } => "revocation_list_damaged",
        HomeError::BadClientSettings { .. } => "settings_damaged",
        HomeError::BadCredentials { .. } => "credentials_damaged",
        HomeError::SymbolicLink { .. }
        | HomeError::NotAFile { .. }
        | HomeError::TooLarge { .. }
        | HomeError::BrokenLink { .. } => "not_a_file",
        HomeError::Unreadable { .. } => "unreadable",
        _ => "home_unusable",
    }
}

/// Runs one check of a diagnosis. A panic in it is a finding: the other checks still run.
pub fn run_check(check: &'static str, look: impl FnOnce() -> Vec<Finding>) -> Vec<Finding> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        let sentence = format!("internal error: {}", text.escape_debug());
        let report = Remedy::act("report this line");
        vec![Finding::error(check, "internal_error", sentence).mended_by(report)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_panics_is_a_finding() {
        let found = run_check("keys", || panic!("no {}", "luck"));
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.check, finding.code), ("keys", "internal_error"));
        assert_eq!(finding.severity, Severity::Error);
        assert_eq!(finding.sentence, "internal error: no luck");
        let fine = run_check("keys", || vec![Finding::ok("keys", "two keys")]);
        assert_eq!(fine, [Finding::ok("keys", "two keys")]);
    }

    #[test]
    fn what_is_open_is_an_error_once_and_not_checked_elsewhere() {
        let open = HomeError::TooOpen { path: "/x".into(), mode: 0o644, mode_wanted: 0o600 };
        let said = Finding::of_home(PERMISSIONS, &open);
        assert_eq!((said.code, said.severity), ("open_to_others", Severity::Error));
        assert_eq!(said.remedy, open.remedy());
        let elsewhere = Finding::of_home("keys", &open);
        assert_eq!((elsewhere.code, elsewhere.severity), ("not_checked", Severity::Warning));
    }
}

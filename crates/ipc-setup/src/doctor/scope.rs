//! What the checks of a home have in common: the home, what it is, the time.
//!
//! The diagnosis makes one and gives it to each check.

use ipc_base::Remedy;
use ipc_home::{ClientSettings, Home};

use super::report::{Finding, Severity};

/// What kind of home was diagnosed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HomeKind {
    /// One with an authority, users and the server's keys.
    Server,
    /// A client's, enrolled or with files that were copied from a server's home.
    Client,
}

/// What is diagnosed.
pub(super) struct Scope {
    pub(super) home: Home,
    pub(super) kind: HomeKind,
    /// What the home of an enrolled client or further server says of the server that enrolled it,
    /// where that can be read.
    pub(super) settings: Option<ClientSettings>,
    /// Whether it is such a home, whatever its `client.json` or `node.json` says.
    pub(super) is_enrolled: bool,
    pub(super) now_secs: u64,
}

impl Scope {
    /// In an enrolled home, what is lost comes with another enrolment. Owners and
    /// modes are mended as anywhere.
    pub(super) fn enrolled_anew(&self, mut finding: Finding) -> Finding {
        let is_mode = matches!(
            finding.remedy,
            Some(Remedy::FixPermissions { .. } | Remedy::ChangeOwner { .. } | Remedy::RunAs { .. })
        );
        if self.is_enrolled && finding.severity == Severity::Error && !is_mode {
            finding.remedy = Some(match finding.code {
                // Renewing finishes it first.
                "pair_unfinished" => Remedy::RenewOwnCertificate,
                "not_yet_valid" => Remedy::SetClock,
                _ => Remedy::EnrolAnew,
            });
        }
        finding
    }
}

//! Diagnoses a home: what is wrong with its files, and what mends it.
//!
//! The command line comes here, and adds what needs the network. Nothing is changed, no lock is
//! taken, and a server may run on the home meanwhile. Every check runs, whatever another has found.

mod certificates;
mod files;
mod report;
mod scope;
mod storage;

use std::path::Path;

use ipc_home::{ClientSettings, Contents, Enrolled, Home, HomeError};

pub use certificates::WARN_DAYS;
pub use report::{Finding, Severity, run_check};
pub use scope::HomeKind;
use scope::Scope;

/// What [`diagnose`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The home and what it is; `None` where there is none that could be looked at.
    pub home: Option<(Home, HomeKind)>,
    /// What an enrolled home says of its server.
    pub settings: Option<ClientSettings>,
    /// What was found, good and bad, in the order of the checks.
    pub findings: Vec<Finding>,
}

const HOME: &str = "home";

type Check = fn(&Scope) -> Vec<Finding>;

/// The checks of a home, in their order.
const CHECKS: [(&str, Check); 7] = [
    ("permissions", files::permissions),
    ("keys", files::keys),
    ("credentials", files::credentials),
    ("authority", certificates::authority),
    ("certificates", certificates::pairs),
    ("issued", certificates::issued),
    ("databases", storage::databases),
];

/// Looks at everything in the home at `path`, a client's too. `now_secs` is the time, in seconds
/// since the Unix epoch.
///
/// It never fails: what cannot be looked at is a finding.
#[must_use]
pub fn diagnose(path: &Path, now_secs: u64) -> Diagnosis {
    let mut findings = Vec::new();
    let (home, settings) = match scope(path, now_secs, &mut findings) {
        Some(scope) => {
            for (check, look) in CHECKS {
                findings.extend(run_check(check, || look(&scope)));
            }
            (Some((scope.home, scope.kind)), scope.settings)
        }
        None => (None, None),
    };
    // Of a home that is not there, the directory that it would be made in.
    if let Some(disk) = path.ancestors().find(|path| path.is_dir()) {
        findings.extend(run_check("disk", || storage::disk(disk)));
    }
    Diagnosis { home, settings, findings }
}

/// What is to be checked; `None` without a home. Adds what is said of the home as a whole.
fn scope(path: &Path, now_secs: u64, findings: &mut Vec<Finding>) -> Option<Scope> {
    let (home, kind) = match Home::open_as_configured(path) {
        Ok(home) => (home, HomeKind::Server),
        Err(HomeError::ClientDirectory { .. }) => {
            // The modes were checked on the way to that error.
            (Home::open_client(path).unwrap_or_else(|_| Home::at(path)), HomeKind::Client)
        }
        Err(error) => {
            let home = Home::at(path);
            let kind = match home.contents() {
                Ok(Contents::Client) => HomeKind::Client,
                Ok(Contents::Begun | Contents::Complete) => HomeKind::Server,
                _ => {
                    findings.push(Finding::of_home(HOME, &error));
                    return None;
                }
            };
            let is_of_modes = matches!(
                error,
                HomeError::TooOpen { .. }
                    | HomeError::AllTooOpen { .. }
                    | HomeError::ForeignOwner { .. }
                    | HomeError::WritableByOthers { .. }
            );
            if !is_of_modes {
                findings.push(Finding::of_home(HOME, &error));
            }
            (home, kind)
        }
    };
    // What a further server's home, or a client's, says of the server that enrolled it.
    let enrolled_by = home.enrolled().map(|enrolled| match (kind, enrolled) {
        (HomeKind::Server, Some(Enrolled::Server(settings)))
        | (HomeKind::Client, Some(Enrolled::Client(settings))) => Some(settings),
        // Such a file was left there by another home.
        _ => None,
    });
    let (settings, is_enrolled) = match &enrolled_by {
        Ok(settings) => (settings.clone(), settings.is_some()),
        Err(_) => (None, true),
    };
    let scope = Scope { home, kind, settings, is_enrolled, now_secs };
    let said = match (kind, enrolled_by) {
        (HomeKind::Server, Ok(None)) => format!("{} is the home of a server", path.display()),
        (HomeKind::Server, Ok(Some(settings))) => {
            let server = settings.server;
            format!("{} is the home of a further server, which follows {server}", path.display())
        }
        (HomeKind::Client, Ok(Some(settings))) => {
            format!("{} is the home of a client of {}", path.display(), settings.server)
        }
        (HomeKind::Client, Ok(None)) => {
            format!("{} is the directory of a client that was not enrolled", path.display())
        }
        (_, Err(error)) => {
            findings.push(scope.enrolled_anew(Finding::of_home(HOME, &error)));
            return Some(scope);
        }
    };
    if findings.is_empty() {
        findings.push(Finding::ok(HOME, said));
    }
    Some(scope)
}

#[cfg(test)]
mod tests;

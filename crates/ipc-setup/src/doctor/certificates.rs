//! The authority of a home, its pairs, and what was issued for others.
//!
//! The diagnosis comes here. Nothing is changed: what could be finished is only named.

use std::collections::BTreeSet;
use std::path::Path;

use ipc_base::{Place, Remedy};
use ipc_home::{HomeError, PeerName, read_public, read_secret, remedy_of_pair};
use ipc_pki::{CertificateInfo, is_issued_by, key_fits};

use super::report::{Finding, Severity};
use super::scope::{HomeKind, Scope};
use crate::SetupError;
use crate::certificates::{CertificateKind, CertificateList, ListedCertificate, list_certificates};
use crate::provision::load_authority;

const DAY_SECS: u64 = 86_400;

/// From how many days before its end a certificate is warned of.
pub const WARN_DAYS: u64 = 30;

const AUTHORITY: &str = "authority";
const CERTIFICATES: &str = "certificates";
const ISSUED: &str = "issued";

/// The authority's certificates, its key, and whether it is being replaced.
pub(super) fn authority(scope: &Scope) -> Vec<Finding> {
    let home = &scope.home;
    let path = home.ca_certificate_file();
    let authorities = read_public(&path).and_then(|pem| {
        CertificateInfo::all_from_pem(&pem)
            .map_err(|_| HomeError::BadCertificate { path: path.clone(), name: None })
    });
    let authorities = match authorities {
        Ok(authorities) => authorities,
        Err(error) => return vec![scope.enrolled_anew(Finding::of_home(AUTHORITY, &error))],
    };
    let mut found = Vec::new();
    for one in &authorities {
        let life = Life::of(one.not_before_secs, one.not_after_secs, scope.now_secs);
        let finding = life.finding(AUTHORITY, "the authority's certificate");
        let remedy = match (&life, scope.kind) {
            (Life::NotYet { .. }, _) => Remedy::SetClock,
            (Life::Over { .. }, HomeKind::Server) => Remedy::ReplaceHome,
            (Life::Over { .. }, HomeKind::Client) => Remedy::EnrolAnew,
            (_, HomeKind::Server) => Remedy::RotateAuthority,
            (_, HomeKind::Client) => Remedy::RenewOwnCertificate,
        };
        found.push(if life.is_fine() { finding } else { finding.mended_by(remedy) });
    }
    if let Err(error) = home.revocation_lists() {
        found.push(Finding::of_home(AUTHORITY, &error));
    }
    if scope.kind == HomeKind::Client {
        return found;
    }
    if !is_there(&home.ca_key_file()) {
        let sentence = "the authority's key is kept elsewhere: certificates are issued there";
        found.push(Finding::ok(AUTHORITY, sentence));
        return found;
    }
    if let Err(error) = load_authority(home) {
        let code = match error {
            SetupError::BadAuthority { source: ipc_pki::LoadError::Mismatch, .. } => {
                "authority_mismatch"
            }
            _ => "authority_damaged",
        };
        found.push(Finding::of_setup(AUTHORITY, code, &error));
    }
    found.extend(rotation(scope, &authorities));
    found
}

/// Whether the authority is being replaced, and where that stopped.
fn rotation(scope: &Scope, authorities: &[CertificateInfo]) -> Option<Finding> {
    let home = &scope.home;
    let has_old_key = is_there(&home.old_ca_key_file());
    let has_cross = is_there(&home.cross_certificate_file());
    let has_next_key = is_there(&home.root().join(".web-ipc-ca.key.new"));
    if !has_old_key && !has_cross && !has_next_key {
        return None;
    }
    if authorities.len() < 2 && !has_next_key {
        let sentence = "the removal of the old authority was cut short";
        return Some(
            Finding::warning(AUTHORITY, "rotation_unfinished", sentence)
                .mended_by(Remedy::DropOldAuthority { force: false }),
        );
    }
    let list = list_certificates(home).unwrap_or_default();
    let signs = load_authority(home).ok().map(|authority| authority.key_id().to_vec());
    let is_left = |one: &ListedCertificate| {
        let is_ours = authorities.iter().any(|info| info.key_id == one.issuer_key_id);
        let is_old = is_ours && one.issuer_key_id != signs;
        is_old && one.pair.is_some() && one.revoked_at_secs.is_none()
    };
    if has_next_key || !has_cross || list.certificates.iter().any(is_left) {
        let sentence = "the replacement of the authority was cut short";
        return Some(
            Finding::warning(AUTHORITY, "rotation_unfinished", sentence)
                .mended_by(Remedy::RotateAuthority),
        );
    }
    let waiting = list.not_followed(scope.now_secs);
    let sentence = match &waiting[..] {
        [] => "the old authority is still trusted, and every client has followed".to_owned(),
        names => format!(
            "the old authority is still trusted, and has not been left by {}",
            names.join(", ")
        ),
    };
    Some(
        Finding::warning(AUTHORITY, "rotation_under_way", sentence)
            .mended_by(Remedy::DropOldAuthority { force: false }),
    )
}

/// Every pair: both halves, whether they fit, who issued it, its dates, whether it was revoked.
pub(super) fn pairs(scope: &Scope) -> Vec<Finding> {
    let home = &scope.home;
    let mut names: BTreeSet<String> = BTreeSet::new();
    for entry in std::fs::read_dir(home.root()).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let stem = name.strip_suffix(".crt").or_else(|| name.strip_suffix(".key"));
        // The authority's own files have names that no peer can have.
        names.extend(stem.filter(|stem| PeerName::parse(stem).is_ok()).map(str::to_owned));
    }
    let needed = match (&scope.settings, scope.kind) {
        (Some(settings), _) => Some(settings.identity.to_string()),
        (None, HomeKind::Server) => Some("localhost".to_owned()),
        (None, HomeKind::Client) => None,
    };
    let is_listed = |name: &String| names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    if let Some(needed) = needed.clone().filter(|needed| !is_listed(needed)) {
        names.insert(needed);
    }
    let list = list_certificates(home).unwrap_or_default();
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| PeerName::parse(name).ok())
        .map(|name| {
            let is_needed =
                needed.as_ref().is_some_and(|needed| needed.eq_ignore_ascii_case(name.as_str()));
            scope.enrolled_anew(pair(scope, &list, &name, is_needed))
        })
        .collect();
    for name in home.staged_pairs().unwrap_or_default() {
        let sentence = format!("a replacement of the pair of {name} was cut short");
        found.push(Finding::warning(CERTIFICATES, "pair_staged", sentence).mended_by(
            match scope.kind {
                HomeKind::Server => Remedy::FinishHome,
                HomeKind::Client => Remedy::RenewOwnCertificate,
            },
        ));
    }
    if found.is_empty() {
        let sentence = "there is no certificate pair to present";
        found.push(
            Finding::error(CERTIFICATES, "pair_incomplete", sentence)
                .mended_by(Remedy::IssueClientCertificate),
        );
    }
    found
}

fn pair(scope: &Scope, list: &CertificateList, name: &PeerName, is_needed: bool) -> Finding {
    let home = &scope.home;
    let (certificate_file, key_file) = (home.certificate_file(name), home.key_file(name));
    if is_there(&certificate_file) && !is_there(&key_file) && !is_needed {
        let sentence =
            format!("{name}.crt has no key beside it, so that {name} cannot be used here");
        return Finding::warning(CERTIFICATES, "key_missing", sentence)
            .mended_by(remedy_of_pair(&key_file, name.as_str()));
    }
    if let Err(error) = home.identity(name) {
        return Finding::of_home(CERTIFICATES, &error);
    }
    let read = read_public(&certificate_file).and_then(|certificate| {
        Ok((certificate, read_secret(&key_file)?, read_public(&home.ca_certificate_file())?))
    });
    let (certificate, key, authorities) = match read {
        Ok(read) => read,
        // What the authority's file lacks, its own check has said.
        Err(error) => return Finding::not_checked(CERTIFICATES, format_args!("{name}: {error}")),
    };
    let info = match CertificateInfo::from_pem(&certificate) {
        Ok(info) => info,
        Err(_) => {
            let error =
                HomeError::BadCertificate { path: certificate_file, name: Some(name.clone()) };
            return Finding::of_home(CERTIFICATES, &error);
        }
    };
    // The names that clients know it by stay.
    let issue = match remedy_of_pair(&key_file, name.as_str()) {
        Remedy::IssueCertificate { name, place: Place::ThisHome, .. } => {
            let alt_names = info.alt_names.clone();
            Remedy::IssueCertificate { name, alt_names, replace: true, place: Place::ThisHome }
        }
        elsewhere => elsewhere,
    };
    let renew = match (scope.kind, is_there(&home.ca_key_file())) {
        (HomeKind::Server, true) => Remedy::RenewCertificate { name: name.to_string() },
        _ => issue.clone(),
    };
    if !key_fits(&certificate, &key) {
        let sentence = format!("{name}.key is not the key of {name}.crt");
        return Finding::error(CERTIFICATES, "pair_mismatch", sentence).mended_by(issue);
    }
    // A pair that only somebody else of this home uses may be there for nobody.
    let of_no_use = |code, sentence, mend: Remedy| match scope.kind {
        HomeKind::Server if !is_needed => Finding::warning(CERTIFICATES, code, sentence)
            .mended_by(mend.or(Remedy::RemovePair { name: name.to_string() })),
        _ => Finding::error(CERTIFICATES, code, sentence).mended_by(mend),
    };
    if !is_issued_by(&certificate, &authorities) {
        let sentence = format!("{name}.crt was not issued by the authority in web-ipc-ca.crt");
        let mend = if is_needed { issue } else { renew };
        return of_no_use("wrong_authority", sentence, mend);
    }
    let entry =
        list.certificates.iter().find(|one| one.fingerprint_sha256 == info.fingerprint_sha256);
    if entry.is_some_and(|one| one.revoked_at_secs.is_some()) {
        let sentence = format!("the certificate of {name} was revoked");
        return of_no_use("certificate_revoked", sentence, renew);
    }
    let life = Life::of(info.not_before_secs, info.not_after_secs, scope.now_secs);
    let finding = life.finding(CERTIFICATES, &format!("the certificate of {name}"));
    match &life {
        Life::Fine { .. } if !info.addresses_as_names.is_empty() => {
            let sentence = format!(
                "the certificate of {name} has {} as a name and not as an address, so that nobody \
                 who verifies the address accepts it",
                info.addresses_as_names.join(", ")
            );
            Finding::warning(CERTIFICATES, "address_as_name", sentence).mended_by(renew)
        }
        Life::Fine { .. } => finding,
        Life::NotYet { .. } => finding.mended_by(Remedy::SetClock.or(renew)),
        Life::Soon { .. } if scope.is_enrolled => finding.mended_by(Remedy::RenewOwnCertificate),
        _ => finding.mended_by(renew),
    }
}

/// What was issued for others and ends soon, or cannot be read.
pub(super) fn issued(scope: &Scope) -> Vec<Finding> {
    if scope.kind == HomeKind::Client {
        return Vec::new();
    }
    let home = &scope.home;
    let list = match list_certificates(home) {
        Ok(list) => list,
        // Said of the authority already.
        Err(SetupError::Home(
            HomeError::BadRevocationList { .. }
            | HomeError::BadCertificate { .. }
            | HomeError::FileMissing { .. },
        )) => return Vec::new(),
        Err(error) => return vec![Finding::of_setup(ISSUED, "unreadable", &error)],
    };
    let directory = home.issued_dir();
    let mut found: Vec<_> = list
        .expiring(WARN_DAYS, scope.now_secs)
        .filter(|one| one.pair.is_none() && one.file.starts_with(&directory))
        .map(|one| {
            let life = Life::of(one.not_before_secs, one.not_after_secs, scope.now_secs);
            let mut finding = life.finding(ISSUED, &format!("the certificate of {}", one.name));
            // This home works without it.
            finding.severity = Severity::Warning;
            let name = one.name.clone();
            finding.mended_by(match life {
                Life::Over { .. } => Remedy::EnrolPeerAnew {
                    name,
                    is_server: one.kind == CertificateKind::ServerAndClient,
                },
                _ => Remedy::RenewElsewhere { name },
            })
        })
        .collect();
    for path in list.unreadable.iter().filter(|path| path.starts_with(&directory)) {
        let sentence = format!("{} is no certificate that can be read", path.display());
        found.push(
            Finding::warning(ISSUED, "certificate_damaged", sentence)
                .mended_by(Remedy::RestoreFile { path: path.clone() }),
        );
    }
    let count = list.certificates.iter().filter(|one| one.file.starts_with(&directory)).count();
    if found.is_empty() && count > 0 {
        let certificates = match count {
            1 => "1 certificate".to_owned(),
            count => format!("{count} certificates"),
        };
        let sentence =
            format!("none of {certificates} issued for others ends within {WARN_DAYS} days");
        found.push(Finding::ok(ISSUED, sentence));
    }
    found
}

/// Where a certificate is in its life.
enum Life {
    NotYet { days: u64 },
    Fine { days: u64 },
    Soon { days: u64 },
    Over { days: u64 },
}

impl Life {
    fn of(not_before_secs: u64, not_after_secs: u64, now_secs: u64) -> Self {
        let days = |from: u64, to: u64| to.saturating_sub(from) / DAY_SECS;
        if now_secs < not_before_secs {
            return Self::NotYet { days: days(now_secs, not_before_secs) };
        }
        if not_after_secs < now_secs {
            return Self::Over { days: days(not_after_secs, now_secs) };
        }
        match days(now_secs, not_after_secs) {
            days if days < WARN_DAYS => Self::Soon { days },
            days => Self::Fine { days },
        }
    }

    fn is_fine(&self) -> bool {
        matches!(self, Self::Fine { .. })
    }

    /// What is said of `what`, which has this life.
    fn finding(&self, check: &'static str, what: &str) -> Finding {
        let counted = |days: &u64| match days {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        match self {
            Self::NotYet { days } => Finding::error(
                check,
                "not_yet_valid",
                format!("{what} becomes valid in {}, by this host's clock", counted(days)),
            ),
            Self::Fine { days } => {
                Finding::ok(check, format!("{what} is good for {}", counted(days)))
            }
            Self::Soon { days } => Finding::warning(
                check,
                "expires_soon",
                format!("{what} expires in {}", counted(days)),
            ),
            Self::Over { days } => {
                Finding::error(check, "expired", format!("{what} expired {} ago", counted(days)))
            }
        }
    }
}

/// Whether something is there, a broken link too.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

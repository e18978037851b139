//! Which certificates a home has and has issued: for lists, and to find what to revoke or renew.
//!
//! The command line comes here. A certificate lies as `NAME.crt` in the home, or in `issued` where
//! it was made for somebody else. Nothing is changed here, and no lock is needed.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ipc_home::{Home, HomeError, PeerName, read_public};
use ipc_pki::{
    CertificateInfo, RevocationList, SerialNumber, Usages, is_issued_by, revocation_lists_from_pem,
};

use crate::{SetupError, pem};

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateKind {
    /// It signs others: the home's own authority.
    Authority,
    /// serverAuth alone.
    Server,
    /// clientAuth alone: an enrolled client's.
    Client,
    /// Both, as `issue_certificate` makes them, or no word on that.
    ServerAndClient,
    /// Neither of the two: it was not issued by this program.
    Other,
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Authority => "authority",
            Self::Server => "server",
            Self::Client => "client",
            Self::ServerAndClient => "server and client",
            Self::Other => "other",
        })
    }
}

/// One certificate of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedCertificate {
    /// Its common name, or the name of its file where it has none.
    pub name: String,
    /// What it is good for.
    pub kind: CertificateKind,
    /// Its DNS names and IP addresses.
    pub alt_names: Vec<String>,
    /// Its serial number.
    pub serial: SerialNumber,
    /// SHA-256 of its DER form.
    pub fingerprint_sha256: [u8; 32],
    /// The first second in which it is valid, in seconds since the Unix epoch.
    pub not_before_secs: u64,
    /// The last second in which it is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// When it was revoked, in seconds since the Unix epoch.
    pub revoked_at_secs: Option<u64>,
    /// The name of the pair where this home has its key.
    pub pair: Option<PeerName>,
    /// Where it lies.
    pub file: PathBuf,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) issuer_key_id: Option<Vec<u8>>,
}

impl ListedCertificate {
    /// The whole days from `now_secs` until it expires; 0 within the last day and after the end.
    #[must_use]
    pub fn days_left(&self, now_secs: u64) -> u64 {
        self.not_after_secs.saturating_sub(now_secs) / 86_400
    }

    pub(crate) fn is_authority(&self) -> bool {
        self.kind == CertificateKind::Authority
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now_secs: u64) -> bool {
        self.not_after_secs < now_secs
    }

    /// Whether less than a third of its life is left.
    #[must_use]
    pub fn is_due(&self, now_secs: u64) -> bool {
        let life_secs = self.not_after_secs.saturating_sub(self.not_before_secs);
        self.not_after_secs.saturating_sub(now_secs) < life_secs / 3
    }
}

/// The certificates of a home.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CertificateList {
    /// The authorities first, then the pairs of the home by name, then what was issued for others.
    pub certificates: Vec<ListedCertificate>,
    /// Files that should hold a certificate and hold none that can be read.
    pub unreadable: Vec<PathBuf>,
}

impl CertificateList {
    /// Those that expire within `days` of `now_secs`, or have expired, and that nothing has taken
    /// the place of: not revoked, and the last of their name.
    pub fn expiring(&self, days: u64, now_secs: u64) -> impl Iterator<Item = &ListedCertificate> {
        self.certificates.iter().filter(move |one| {
            one.revoked_at_secs.is_none() && one.days_left(now_secs) < days && self.is_last(one)
        })
    }

    /// The pairs of this home that have less than a third of their life left and were not revoked.
    pub fn due(&self, now_secs: u64) -> impl Iterator<Item = &ListedCertificate> {
        self.certificates.iter().filter(move |one| {
            one.pair.is_some() && one.revoked_at_secs.is_none() && one.is_due(now_secs)
        })
    }

    /// The certificates without those of which one of the same name and kind ends later.
    #[must_use]
    pub fn without_replaced(self) -> Vec<ListedCertificate> {
        let are_last: Vec<_> = self.certificates.iter().map(|one| self.is_last(one)).collect();
        let all = self.certificates.into_iter().zip(are_last);
        all.filter_map(|(one, is_last)| is_last.then_some(one)).collect()
    }

    /// Whether no certificate of its name and kind ends later.
    pub(crate) fn is_last(&self, one: &ListedCertificate) -> bool {
        !self.certificates.iter().any(|other| {
            other.name.eq_ignore_ascii_case(&one.name)
                && other.kind == one.kind
                && other.not_after_secs > one.not_after_secs
        })
    }

    /// The serial numbers of those that have expired.
    pub(crate) fn expired(&self, now_secs: u64) -> HashSet<SerialNumber> {
        let expired = self.certificates.iter().filter(|one| one.is_expired(now_secs));
        expired.map(|one| one.serial.clone()).collect()
    }
}

/// Lists the certificates of a home, a client's too.
///
/// # Errors
/// [`HomeError::BadCertificate`] for the authority's, [`HomeError::BadRevocationList`];
/// [`HomeError::Unreadable`] if a directory cannot be listed.
pub fn list_certificates(home: &Home) -> Result<CertificateList, SetupError> {
    let lists = revocation_lists(home)?;
    let mut list = CertificateList::default();
    let authorities = home.ca_certificate_file();
    let bad_authority = |_| HomeError::BadCertificate { path: authorities.clone(), name: None };
    let authorities_pem = read_public(&authorities)?;
    for info in CertificateInfo::all_from_pem(&authorities_pem).map_err(bad_authority)? {
        list.certificates.push(listed(info, &lists, None, &authorities));
    }
    let take = |list: &mut CertificateList, path: &Path, pair| {
        list.take(path, &authorities_pem, &lists, pair);
    };
    for path in certificate_files(home.root())? {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // The authority's own files have names that no peer can have.
        let Some(name) = stem.and_then(|stem| PeerName::parse(stem).ok()) else { continue };
        let pair = home.key_file(&name).is_file().then_some(name);
        take(&mut list, &path, pair);
    }
    for path in certificate_files(&home.issued_dir())? {
        take(&mut list, &path, None);
    }
    Ok(list)
}

impl CertificateList {
    fn take(
        &mut self,
        path: &Path,
        authorities_pem: &[u8],
        lists: &[RevocationList],
        pair: Option<PeerName>,
    ) {
        let pem = read_public(path).unwrap_or_default();
        let Ok(mut info) = CertificateInfo::from_pem(&pem) else {
            return self.unreadable.push(path.to_owned());
        };
        if info.issuer_key_id.is_none() {
            info.issuer_key_id = signer_of(&pem, authorities_pem);
        }
        let is_listed = |one: &ListedCertificate| one.fingerprint_sha256 == info.fingerprint_sha256;
        if !self.certificates.iter().any(is_listed) {
            self.certificates.push(listed(info, lists, pair, path));
        }
    }
}

/// The key identifier of the authority that signed a certificate which does not name its issuer's
/// key, such as one of the Python tool. `None` if none of these signed it.
fn signer_of(certificate_pem: &[u8], authorities_pem: &[u8]) -> Option<Vec<u8>> {
    pem::blocks(authorities_pem, pem::CERTIFICATE)
        .into_iter()
        .find(|authority| is_issued_by(certificate_pem, authority))
        .and_then(|authority| CertificateInfo::from_pem(authority).ok()?.key_id)
}

fn listed(
    info: CertificateInfo,
    lists: &[RevocationList],
    pair: Option<PeerName>,
    file: &Path,
) -> ListedCertificate {
    let of_issuer = lists.iter().filter(|list| list.issuer_key_id == info.issuer_key_id);
    let entry = of_issuer.filter_map(|list| list.entry(&info.serial)).next();
    let file_stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    ListedCertificate {
        kind: match info.usages {
            _ if info.is_ca => CertificateKind::Authority,
            Some(Usages::Server) => CertificateKind::Server,
            Some(Usages::Client) => CertificateKind::Client,
            Some(Usages::ServerAndClient) => CertificateKind::ServerAndClient,
            _ => CertificateKind::Other,
        },
        name: info.subject.unwrap_or_else(file_stem),
        alt_names: info.alt_names,
        revoked_at_secs: entry.map(|entry| entry.revoked_at_secs),
        serial: info.serial,
        fingerprint_sha256: info.fingerprint_sha256,
        not_before_secs: info.not_before_secs,
        not_after_secs: info.not_after_secs,
        pair,
        file: file.to_owned(),
        key_id: info.key_id,
        issuer_key_id: info.issuer_key_id,
    }
}

/// What the lists of revoked certificates say; none where nothing was ever revoked.
fn revocation_lists(home: &Home) -> Result<Vec<RevocationList>, SetupError> {
    let path = home.revocation_list_file();
    match read_public(&path) {
        Ok(pem) => revocation_lists_from_pem(&pem)
            .map_err(|_| HomeError::BadRevocationList { path }.into()),
        Err(HomeError::FileMissing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The `.crt` files of a directory in alphabetical order; none where it is not there.
fn certificate_files(directory: &Path) -> Result<Vec<PathBuf>, SetupError> {
    let unreadable = |source| HomeError::Unreadable { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !is_hidden && path.extension().is_some_and(|extension| extension == "crt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::new_home;
    use crate::{CertificateRequest, InitOptions, issue_certificate};

    #[test]
    fn a_new_home_lists_its_authority_and_its_pair() {
        let (_directory, home) = new_home();
        let list = list_certificates(&home).unwrap();
        let [authority, pair] = &list.certificates[..] else { panic!("{list:?}") };
        assert_eq!((&*authority.name, authority.kind), ("web-ipc-ca", CertificateKind::Authority));
        assert_eq!((&*pair.name, pair.kind), ("localhost", CertificateKind::ServerAndClient));
        assert_eq!(pair.alt_names, ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(pair.pair.as_ref().unwrap().as_str(), "localhost");
        assert_eq!((pair.revoked_at_secs, &pair.file), (None, &home.root().join("localhost.crt")));
        let now_secs = InitOptions::now().now_secs;
        assert!((363..=365).contains(&pair.days_left(now_secs)), "{pair:?}");
        assert!(!pair.is_due(now_secs) && !pair.is_expired(now_secs));
        assert!(list.unreadable.is_empty());
    }

    #[test]
    fn a_certificate_is_due_in_the_last_third_of_its_life() {
        let (_directory, home) = new_home();
        let mut one = list_certificates(&home).unwrap().certificates.remove(1);
        (one.not_before_secs, one.not_after_secs) = (1000, 4000);
        for (now_secs, is_due, is_expired) in [
            (1000, false, false),
            (3000, false, false),
            (3001, true, false),
            (4000, true, false),
            (4001, true, true),
        ] {
            assert_eq!(
                (one.is_due(now_secs), one.is_expired(now_secs)),
                (is_due, is_expired),
                "{now_secs}"
            );
        }
    }

    #[test]
    fn only_the_last_certificate_of_a_name_is_warned_of() {
        let (_directory, home) = new_home();
        let now_secs = InitOptions::now().now_secs;
        let request =
            CertificateRequest { validity_days: 20, ..CertificateRequest::new("peer1", now_secs) };
        issue_certificate(&home, &request).unwrap();
        let names = |list: &CertificateList| {
            list.expiring(30, now_secs).map(|one| one.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&list_certificates(&home).unwrap()), ["peer1"]);
        // Moved to where what was issued for others lies, and another in its place.
        ipc_home::make_private_directory(&home.issued_dir()).unwrap();
        std::fs::rename(home.root().join("peer1.crt"), home.issued_dir().join("01.crt")).unwrap();
        assert_eq!(names(&list_certificates(&home).unwrap()), ["peer1"]);
        let request = CertificateRequest { force: true, validity_days: 40, ..request };
        issue_certificate(&home, &request).unwrap();
        assert_eq!(list_certificates(&home).unwrap().certificates.len(), 4);
        assert!(names(&list_certificates(&home).unwrap()).is_empty());
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named_and_the_others_are_listed() {
        let (_directory, home) = new_home();
        std::fs::write(home.root().join("peer1.crt"), "damaged").unwrap();
        std::fs::write(home.root().join(".localhost.crt.0123456789abcdef.tmp"), "").unwrap();
        let list = list_certificates(&home).unwrap();
        assert_eq!(list.unreadable, [home.root().join("peer1.crt")]);
        assert_eq!(list.certificates.len(), 2);
        std::fs::write(home.revocation_list_file(), "").unwrap();
        let error = list_certificates(&home).unwrap_err();
        assert!(
            matches!(error, SetupError::Home(HomeError::BadRevocationList { .. })),
            "{error:?}"
        );
    }
}

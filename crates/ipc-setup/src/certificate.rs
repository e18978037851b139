//! Issues a certificate pair from the home's own authority.
//!
//! The command line comes here with what a user typed; names are parsed here, before anything is
//! touched.

use std::path::{Path, PathBuf};

use ipc_home::{Home, PeerName, read_public};
use ipc_pki::{
    CertificateInfo, KeyType, LEAF_VALIDITY_DAYS, LeafRequest, SubjectAltName, SubjectName,
};

use crate::enrolments::Enrolment;
use crate::lock::Lock;
use crate::{SetupError, node, pair, provision};

/// Which certificate is wanted. Made with [`CertificateRequest::new`], then changed field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateRequest<'a> {
    /// The name of the peer: a host name, also an internationalised one, or an address.
    pub name: &'a str,
    /// The names and addresses it is reached as; the name itself is always among them. With none,
    /// those of the certificate that is replaced stay.
    pub alt_names: &'a [String],
    /// Replace an existing pair.
    pub force: bool,
    /// The kind of key to make.
    pub key_type: KeyType,
    /// Days from `now_secs` until it expires; the authority's own end comes first.
    pub validity_days: u32,
    /// The time of issue, in seconds since the Unix epoch.
    pub now_secs: u64,
}

impl<'a> CertificateRequest<'a> {
    /// A request for `name` alone: P-256, 365 days, no pair replaced.
    #[must_use]
    pub fn new(name: &'a str, now_secs: u64) -> Self {
        Self {
            name,
            alt_names: &[],
            force: false,
            key_type: KeyType::default(),
            validity_days: LEAF_VALIDITY_DAYS,
            now_secs,
        }
    }
}

/// A pair that lies in the home now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedCertificate {
    /// Its name, in ASCII.
    pub name: PeerName,
    /// `NAME.crt`.
    pub certificate_file: PathBuf,
    /// `NAME.key`.
    pub key_file: PathBuf,
    /// What it is valid for, as it stands in the certificate.
    pub alt_names: Vec<String>,
    /// The last second in which it is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// Whether it took the place of another pair, or of a half of one. What runs with that one has
    /// it still.
    pub replaced: bool,
}

/// Issues a certificate and writes the pair into the home.
///
/// An internationalised name is written in its A-label form, in the certificate and as the name of
/// the files.
///
/// # Errors
/// [`SetupError::Name`] for a name that is none;
/// [`SetupError::CertificateExists`] if either file of the pair is there and `force` is not set;
/// [`SetupError::CertificateNameTaken`] for the name of an enrolled client or server;
/// [`SetupError::BadAuthority`], [`SetupError::Issue`]; and what is wrong with the home.
pub fn issue_certificate(
    home: &Home,
    request: &CertificateRequest<'_>,
) -> Result<IssuedCertificate, SetupError> {
    let bad_name = |name: &str, source| SetupError::Name { name: name.to_owned(), source };
    let subject =
        SubjectName::parse(request.name).map_err(|source| bad_name(request.name, source))?;
    let name = subject.peer_name().clone();
    let mut leaf = LeafRequest::new(subject);
    for alt_name in request.alt_names {
        leaf.alt_names
            .push(SubjectAltName::parse(alt_name).map_err(|source| bad_name(alt_name, source))?);
    }
    leaf.key_type = request.key_type;
    leaf.validity_days = request.validity_days;

    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    // Names of hosts have no case: a pair of this name in other letters is the one that is meant.
    let name = home.name_of_pair(&name)?;
    // Two peers of one name would be one for whoever counts, binds or revokes by the name.
    if Enrolment::read_current(home, &name)?.is_some() {
        return Err(SetupError::CertificateNameTaken { name });
    }
    let (certificate_file, key_file) = (home.certificate_file(&name), home.key_file(&name));
    let mut replaced = false;
    for file in [&certificate_file, &key_file] {
        if provision::exists(file)? {
            if !request.force {
                return Err(SetupError::CertificateExists { name, path: file.clone() });
            }
            replaced = true;
        }
    }
    if request.alt_names.is_empty() {
        leaf.alt_names = alt_names_of(&certificate_file);
    }
    let pair = provision::load_authority(home)?
        .issue(&leaf, request.now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    pair::write(home, &name, &pair)?;
    Ok(IssuedCertificate {
        name,
        certificate_file,
        key_file,
        alt_names: pair.alt_names.iter().map(ToString::to_string).collect(),
        not_after_secs: pair.not_after_secs,
        replaced,
    })
}

/// The names in a certificate that is to be replaced, as far as they can be read and may stand in a
/// new one.
fn alt_names_of(certificate_file: &Path) -> Vec<SubjectAltName> {
    let info =
        read_public(certificate_file).ok().and_then(|pem| CertificateInfo::from_pem(&pem).ok());
    let names = info.map(|info| info.alt_names).unwrap_or_default();
    names.iter().filter_map(|name| SubjectAltName::parse(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use ipc_base::Remedy;
    use ipc_home::{Credentials, HomeError};
    use ipc_pki::{Authority, AuthorityOptions, NameError};

    use super::*;

    const NOW_SECS: u64 = 1_750_000_000;

    /// A complete home, as far as certificates go.
    fn new_home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        ipc_home::make_private_directory(home.root()).unwrap();
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        for (path, content) in [
            (home.ca_key_file(), authority.private_key_pem().as_bytes()),
            (home.ca_certificate_file(), authority.certificate_pem()),
            (home.envelope_keys_file(), b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ] {
            ipc_home::write_secret_atomically(&path, content).unwrap();
        }
        home.write_admin_credentials(&Credentials::new("ipc-admin", "x"), NOW_SECS, [0; 16])
            .unwrap();
        (directory, home)
    }

    fn files(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(home.root()).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pair_is_issued_with_its_names_and_closed_to_others() {
        let (_directory, home) = new_home();
        let alt_names = strings(&["testServer1", "testServer1.local", "localhost", "127.0.0.1"]);
        let request = CertificateRequest {
            alt_names: &alt_names,
            ..CertificateRequest::new("testServer1", NOW_SECS)
        };
        let issued = issue_certificate(&home, &request).unwrap();
        assert_eq!(issued.certificate_file, home.root().join("testServer1.crt"));
        assert_eq!(issued.key_file, home.root().join("testServer1.key"));
        assert_eq!(issued.alt_names, alt_names);
        assert_eq!(issued.not_after_secs, NOW_SECS + 365 * 86_400);
        let info =
            CertificateInfo::from_pem(&std::fs::read(&issued.certificate_file).unwrap()).unwrap();
        assert_eq!((info.alt_names, info.not_after_secs), (alt_names, issued.not_after_secs));
        for file in [&issued.certificate_file, &issued.key_file] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert_eq!(home.peer_names().unwrap(), std::slice::from_ref(&issued.name));
        assert_eq!(home.identity(&issued.name).unwrap().chain.len(), 1);
    }

    #[test]
    fn without_alternative_names_it_is_valid_for_its_name() {
        let (_directory, home) = new_home();
        let issued = issue_certificate(&home, &CertificateRequest::new("peer1", NOW_SECS)).unwrap();
        assert_eq!(issued.alt_names, ["peer1"]);
        let issued =
            issue_certificate(&home, &CertificateRequest::new("192.0.2.1", NOW_SECS)).unwrap();
        assert_eq!(issued.alt_names, ["192.0.2.1"]);
    }

    #[test]
    fn a_replaced_pair_keeps_its_alternative_names_unless_others_are_given() {
        let (_directory, home) = new_home();
        let (first, other) =
            (strings(&["peer1", "peer1.local", "127.0.0.1", "::1"]), strings(&["peer1"]));
        let request =
            CertificateRequest { force: true, ..CertificateRequest::new("peer1", NOW_SECS) };
        let issue = |alt_names| {
            issue_certificate(&home, &CertificateRequest { alt_names, ..request })
                .unwrap()
                .alt_names
        };
        let is_replaced = || issue_certificate(&home, &request).unwrap().replaced;
        assert_eq!((is_replaced(), is_replaced()), (false, true));
        assert_eq!(issue(&first), first);
        assert_eq!(issue(&[]), first);
        assert_eq!(issue(&other), other);
        assert_eq!(issue(&[]), other);
        std::fs::write(home.root().join("peer1.crt"), "damaged").unwrap();
        assert_eq!(issue(&[]), other);
    }

    #[test]
    fn a_replacement_that_was_stopped_halfway_is_finished_first() {
        let (_directory, home) = new_home();
        let request = CertificateRequest::new("peer1", NOW_SECS);
        let issued = issue_certificate(&home, &request).unwrap();
        // What is left by a kill between the two renames: the new key in its place, the new
        // certificate not yet.
        let certificate = std::fs::read(&issued.certificate_file).unwrap();
        std::fs::rename(&issued.certificate_file, home.staged_certificate_file(&issued.name))
            .unwrap();
        let error = issue_certificate(&home, &request).unwrap_err();
        assert!(matches!(error, SetupError::CertificateExists { .. }), "{error:?}");
        assert_eq!(std::fs::read(&issued.certificate_file).unwrap(), certificate);
        home.identity(&issued.name).unwrap();
    }

    #[test]
    fn a_damaged_key_of_the_authority_is_blamed_by_name_and_without_codes() {
        let (_directory, home) = new_home();
        for content in
            ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n"]
        {
            std::fs::write(home.ca_key_file(), content).unwrap();
            let error =
                issue_certificate(&home, &CertificateRequest::new("peer1", NOW_SECS)).unwrap_err();
            assert!(
                matches!(&error, SetupError::BadAuthority { path, .. } if *path == home.ca_key_file())
            );
            let mut shown = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                shown.push_str(&error.to_string());
                cause = error.source();
            }
            assert!(shown.contains("web-ipc-ca.key") && !shown.contains("error:"), "{shown}");
        }
    }

    #[test]
    fn an_internationalised_name_becomes_its_a_label_form_also_as_a_file() {
        let (_directory, home) = new_home();
        let issued =
            issue_certificate(&home, &CertificateRequest::new("bücher.example", NOW_SECS)).unwrap();
        assert_eq!(issued.name.as_str(), "xn--bcher-kva.example");
        assert!(issued.key_file.ends_with("xn--bcher-kva.example.key"));
    }

    #[test]
    fn an_existing_pair_or_half_of_one_is_replaced_with_force_only() {
        let (_directory, home) = new_home();
        let request = CertificateRequest::new("peer1", NOW_SECS);
        let first = issue_certificate(&home, &request).unwrap();
        for missing in [None, Some(&first.certificate_file), Some(&first.key_file)] {
            if let Some(file) = missing {
                std::fs::remove_file(file).unwrap();
            }
            let before = files(&home);
            let error = issue_certificate(&home, &request).unwrap_err();
            assert!(matches!(error, SetupError::CertificateExists { .. }), "{error:?}");
            let overwrite = Remedy::OverwriteCertificate { name: "peer1".into() };
            assert_eq!(error.remedy(), Some(overwrite));
            assert_eq!(files(&home), before);
            issue_certificate(&home, &CertificateRequest { force: true, ..request }).unwrap();
            let after = files(&home);
            assert_ne!(before.get(&first.key_file), after.get(&first.key_file));
            let (certificate, key) = (&after[&first.certificate_file], &after[&first.key_file]);
            // A pair that fits and is no authority: that is all `load` then finds wrong with it.
            assert!(matches!(
                Authority::load(certificate, key),
                Err(ipc_pki::LoadError::NotAnAuthority)
            ));
        }
    }

    #[test]
    fn a_name_in_other_letters_is_the_same_name() {
        let (_directory, home) = new_home();
        let first =
            issue_certificate(&home, &CertificateRequest::new("Server1", NOW_SECS)).unwrap();
        let request = CertificateRequest::new("server1", NOW_SECS);
        let error = issue_certificate(&home, &request).unwrap_err();
        assert!(
            matches!(&error, SetupError::CertificateExists { name, .. } if name.as_str() == "Server1"),
            "{error:?}"
        );
        let again =
            issue_certificate(&home, &CertificateRequest { force: true, ..request }).unwrap();
        assert_eq!(again.certificate_file, first.certificate_file);
        assert_eq!(again.alt_names, ["Server1"]);
        assert_eq!(home.peer_names().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_name_is_refused_and_nothing_is_written() {
        let (_directory, home) = new_home();
        let before = files(&home);
        for name in [
            "",
            "../escaped",
            "a/b",
            "web-ipc-ca",
            "Session",
            "a b",
            &"a".repeat(65),
            "*.example.org",
        ] {
            let error =
                issue_certificate(&home, &CertificateRequest::new(name, NOW_SECS)).unwrap_err();
            assert!(matches!(error, SetupError::Name { .. }), "{name}: {error:?}");
        }
        let alt_names = strings(&["fine.example", "not fine"]);
        let request = CertificateRequest {
            alt_names: &alt_names,
            ..CertificateRequest::new("peer1", NOW_SECS)
        };
        match issue_certificate(&home, &request).unwrap_err() {
            SetupError::Name { name, .. } => assert_eq!(name, "not fine"),
            other => panic!("{other:?}"),
        }
        assert_eq!(files(&home), before);
    }

    #[test]
    fn a_reserved_name_says_that_it_is() {
        let (_directory, home) = new_home();
        let error =
            issue_certificate(&home, &CertificateRequest::new("users", NOW_SECS)).unwrap_err();
        assert!(
            matches!(error, SetupError::Name { source: NameError::Reserved { .. }, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn days_and_key_type_are_as_asked_for_and_nonsense_is_refused() {
        let (_directory, home) = new_home();
        let request = CertificateRequest::new("peer1", NOW_SECS);
        let error = issue_certificate(&home, &CertificateRequest { validity_days: 0, ..request })
            .unwrap_err();
        assert!(matches!(error, SetupError::Issue { .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::ChooseDays));
        let key_type = KeyType::Rsa2048;
        let issued =
            issue_certificate(&home, &CertificateRequest { validity_days: 7, key_type, ..request })
                .unwrap();
        assert_eq!(issued.not_after_secs, NOW_SECS + 7 * 86_400);
        assert!(std::fs::metadata(issued.key_file).unwrap().len() > 1_500);
    }

    #[test]
    fn a_home_without_its_authority_is_refused_by_the_file_that_is_gone() {
        let (_directory, home) = new_home();
        std::fs::remove_file(home.ca_key_file()).unwrap();
        let error =
            issue_certificate(&home, &CertificateRequest::new("peer1", NOW_SECS)).unwrap_err();
        assert!(
            matches!(&error, SetupError::Home(HomeError::FileMissing { path }) if *path == home.ca_key_file()),
            "{error:?}"
        );
    }

    #[test]
    fn a_missing_and_an_incomplete_home_are_refused() {
        let (directory, home) = new_home();
        let request = CertificateRequest::new("peer1", NOW_SECS);
        std::fs::remove_file(home.admin_cred_file()).unwrap();
        let error = issue_certificate(&home, &request).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::Incomplete { .. })), "{error:?}");
        let error =
            issue_certificate(&Home::at(directory.path().join("none")), &request).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::Missing { .. })), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::MakeHome));
    }

    #[test]
    fn of_four_at_once_without_force_one_gets_the_pair() {
        let (_directory, home) = new_home();
        let issued = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        issue_certificate(&home, &CertificateRequest::new("peer1", NOW_SECS))
                            .is_ok()
                    })
                })
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).filter(|issued| *issued).count()
        });
        assert_eq!(issued, 1);
    }
}

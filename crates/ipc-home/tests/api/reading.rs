//! What is read from a home, and what is refused.
#![allow(clippy::unwrap_used)]

use ipc_home::{Credentials, Home, HomeError, ModeChange, PeerName, Place, Remedy};

use crate::support::{CERTIFICATE, PRIVATE_KEY, complete_home, fix, set_mode};

fn with_home(check: impl FnOnce(&Home)) {
    let directory = tempfile::tempdir().unwrap();
    check(&complete_home(directory.path()));
}

fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

#[test]
fn the_admins_credentials_come_back_as_they_were_sealed() {
    with_home(|home| {
        let credentials = home.admin_credentials().unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("ipc-admin", "hunter2")
        );
        let sealed = std::fs::read_to_string(home.admin_cred_file()).unwrap();
        assert!(!sealed.contains("hunter2"));
    });
}

#[test]
fn credentials_sealed_with_other_keys_or_damaged_are_refused() {
    with_home(|home| {
        let sealed = std::fs::read(home.admin_cred_file()).unwrap();
        for content in [&b""[..], b"gAAA", &sealed[1..], b"\xff\xfe"] {
            std::fs::write(home.admin_cred_file(), content).unwrap();
            assert!(matches!(home.admin_credentials(), Err(HomeError::BadCredentials { .. })));
        }
        std::fs::write(home.admin_cred_file(), &sealed).unwrap();
        std::fs::write(home.envelope_keys_file(), "HxECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
            .unwrap();
        assert!(matches!(home.admin_credentials(), Err(HomeError::BadCredentials { .. })));
    });
}

#[test]
fn both_key_rings_are_read() {
    with_home(|home| {
        assert_eq!(home.envelope_keys().unwrap().len(), 1);
        assert_eq!(home.session_keys().unwrap().len(), 1);
    });
}

#[test]
fn a_file_without_usable_keys_is_refused_and_its_content_is_not_shown() {
    with_home(|home| {
        for content in [&b""[..], b"# none\n", b"sesame-open", b"s\0e\0s\0a\0m\0e\0"] {
            std::fs::write(home.envelope_keys_file(), content).unwrap();
            let error = home.envelope_keys().unwrap_err();
            assert!(matches!(error, HomeError::BadKeys { .. }), "{error:?}");
            assert!(!format!("{error:?} {error}").contains("sesame"));
        }
    });
}

#[test]
fn a_key_file_in_utf_16_is_told_as_such_and_its_content_is_not_shown() {
    with_home(|home| {
        let good = std::fs::read_to_string(home.envelope_keys_file()).unwrap();
        let units = || format!("\u{feff}{good}").encode_utf16().collect::<Vec<_>>().into_iter();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for content in [little, big] {
            std::fs::write(home.envelope_keys_file(), content).unwrap();
            let error = home.envelope_keys().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{} is UTF-16", home.envelope_keys_file().display())
            );
            let save = Remedy::SaveAsUtf8 { path: home.envelope_keys_file() };
            assert_eq!(error.remedy(), Some(save));
            assert!(!format!("{error:?}").contains(&good[..8]));
        }
        std::fs::write(home.session_key_file(), b"\xff\xfe").unwrap();
        assert!(matches!(home.session_keys(), Err(HomeError::NotUtf8 { is_utf_16: true, .. })));
        std::fs::write(home.envelope_keys_file(), b"\xfd").unwrap();
        let error = home.envelope_keys().unwrap_err();
        assert!(error.to_string().ends_with(" is not UTF-8"), "{error}");
        let restore = Remedy::RestoreFile { path: home.envelope_keys_file() };
        assert_eq!(error.remedy(), Some(restore.or(Remedy::ReplaceHome)));
    });
}

#[test]
fn a_secret_file_that_others_can_read_is_refused_by_name() {
    with_home(|home| {
        let localhost = name("localhost");
        type Read = fn(&Home) -> Option<HomeError>;
        let cases: [(_, Read); 4] = [
            (home.envelope_keys_file(), |home| home.envelope_keys().err()),
            (home.session_key_file(), |home| home.session_keys().err()),
            (home.admin_cred_file(), |home| home.admin_credentials().err()),
            (home.key_file(&localhost), |home| {
                home.identity(&PeerName::parse("localhost").unwrap()).err()
            }),
        ];
        for (file, read) in cases {
            assert!(read(home).is_none());
            set_mode(&file, 0o644);
            let error = read(home).unwrap();
            assert!(
                matches!(&error, HomeError::TooOpen { path, .. } if *path == file),
                "{error:?}"
            );
            assert_eq!(error.remedy(), Some(fix(&file, ModeChange::To(0o600))));
            set_mode(&file, 0o600);
        }
    });
}

#[test]
fn an_identity_is_the_chain_and_the_key() {
    with_home(|home| {
        let identity = home.identity(&name("localhost")).unwrap();
        assert_eq!(identity.chain.len(), 1);
        assert_eq!(identity.key.secret_der(), [3, 4, 5]);
        assert_eq!(home.ca_certificates().unwrap()[0].as_ref(), [0, 1, 2]);
    });
}

#[test]
fn a_missing_half_of_a_pair_is_refused_with_the_command_that_makes_it() {
    with_home(|home| {
        let error = home.identity(&name("peer1")).unwrap_err();
        assert!(
            matches!(&error, HomeError::CertificateMissing { path, .. } if path.ends_with("peer1.crt"))
        );
        assert_eq!(error.remedy(), Some(Remedy::issue("peer1", false, Place::ThisHome)));
        std::fs::write(home.certificate_file(&name("peer1")), CERTIFICATE).unwrap();
        let error = home.identity(&name("peer1")).unwrap_err();
        assert!(
            matches!(&error, HomeError::CertificateMissing { path, .. } if path.ends_with("peer1.key"))
        );
    });
}

#[test]
fn files_of_another_kind_are_refused() {
    with_home(|home| {
        let localhost = name("localhost");
        std::fs::write(home.key_file(&localhost), CERTIFICATE).unwrap();
        assert!(matches!(home.identity(&localhost), Err(HomeError::BadPrivateKey { .. })));
        std::fs::write(home.certificate_file(&localhost), PRIVATE_KEY).unwrap();
        assert!(matches!(
            home.identity(&localhost),
            Err(HomeError::BadCertificate { name: Some(_), .. })
        ));
        std::fs::write(home.ca_certificate_file(), "no PEM").unwrap();
        assert!(matches!(
            home.ca_certificates(),
            Err(HomeError::BadCertificate { name: None, .. })
        ));
    });
}

#[test]
fn peer_names_are_the_whole_pairs_in_order_without_the_authority() {
    with_home(|home| {
        for file in [
            "b.crt",
            "b.key",
            "a.example.crt",
            "a.example.key",
            "half.crt",
            "other.key",
            "no name.crt",
            "x",
        ] {
            std::fs::write(home.root().join(file), "").unwrap();
        }
        let names: Vec<_> = home.peer_names().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.example", "b", "localhost"]);
    });
}

#[test]
fn a_file_that_is_gone_from_a_complete_home_is_named() {
    with_home(|home| {
        std::fs::remove_file(home.session_key_file()).unwrap();
        assert!(
            matches!(home.session_keys(), Err(HomeError::FileMissing { path }) if path == home.session_key_file())
        );
    });
}

#[test]
fn of_a_pair_that_is_only_half_replaced_the_new_one_is_read() {
    with_home(|home| {
        let localhost = name("localhost");
        // Both new files are staged: the old pair is intact.
        ipc_home::write_secret_atomically(
            &home.staged_key_file(&localhost),
            PRIVATE_KEY.as_bytes(),
        )
        .unwrap();
        assert!(home.identity(&localhost).is_ok());
        std::fs::write(home.staged_certificate_file(&localhost), CERTIFICATE).unwrap();
        assert!(home.identity(&localhost).is_ok());
        assert_eq!(home.staged_pairs().unwrap(), std::slice::from_ref(&localhost));
        // The new key is in place, and the new certificate is not.
        std::fs::rename(home.staged_key_file(&localhost), home.key_file(&localhost)).unwrap();
        std::fs::write(home.certificate_file(&localhost), "the old one").unwrap();
        assert!(home.identity(&localhost).is_ok());
        // There was no pair of this name before.
        std::fs::remove_file(home.certificate_file(&localhost)).unwrap();
        assert!(home.identity(&localhost).is_ok());
        let (staged, path) =
            (home.staged_certificate_file(&localhost), home.certificate_file(&localhost));
        std::fs::rename(staged, path).unwrap();
        assert!(home.identity(&localhost).is_ok());
        assert!(home.staged_pairs().unwrap().is_empty());
    });
}

#[test]
fn the_database_of_users_and_what_lies_beside_it_must_be_closed_to_others() {
    with_home(|home| {
        assert!(matches!(home.users_db_checked(), Err(HomeError::FileMissing { .. })));
        for suffix in ["", "-wal", "-shm"] {
            let file = home.root().join(format!("users.db{suffix}"));
            std::fs::write(&file, "").unwrap();
            set_mode(&file, 0o640);
            let error = home.users_db_checked().unwrap_err();
            assert!(
                matches!(&error, HomeError::TooOpen { path, .. } if *path == file),
                "{error:?}"
            );
            assert_eq!(error.remedy(), Some(fix(&file, ModeChange::To(0o600))));
            set_mode(&file, 0o600);
            assert_eq!(home.users_db_checked().unwrap(), home.users_db());
        }
    });
}

#[test]
fn staged_credentials_change_nothing_until_they_are_committed() {
    with_home(|home| {
        let staged = home
            .stage_admin_credentials(&Credentials::new("ipc-admin", "new"), 1, [7; 16])
            .unwrap();
        assert_eq!(home.admin_credentials().unwrap().password.as_str(), "hunter2");
        assert_eq!(home.temporary_files().unwrap().len(), 1);
        staged.commit().unwrap();
        assert_eq!(home.admin_credentials().unwrap().password.as_str(), "new");
        assert!(home.temporary_files().unwrap().is_empty());
    });
}

#[test]
fn a_session_key_that_clients_have_too_is_refused_wherever_it_stands() {
    with_home(|home| {
        let (envelope, session) = (
            std::fs::read_to_string(home.envelope_keys_file()).unwrap(),
            std::fs::read_to_string(home.session_key_file()).unwrap(),
        );
        let cases = [
            (envelope.clone(), envelope.clone()),
            (envelope.clone(), format!("{session}# the old one\n {envelope}")),
            (format!("{envelope}{session}"), session.clone()),
        ];
        for (envelope, session) in cases {
            std::fs::write(home.envelope_keys_file(), envelope).unwrap();
            std::fs::write(home.session_key_file(), session).unwrap();
            let error = home.session_keys().unwrap_err();
            assert!(matches!(error, HomeError::SessionKeyShared { .. }), "{error:?}");
            assert!(!format!("{error:?} {error}").contains("AQEB"), "{error:?}");
            home.envelope_keys().unwrap();
        }
    });
}

#[test]
fn an_encrypted_private_key_is_called_one() {
    with_home(|home| {
        let localhost = name("localhost");
        let encrypted = PRIVATE_KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        std::fs::write(home.key_file(&localhost), encrypted).unwrap();
        let error = home.identity(&localhost).unwrap_err();
        assert!(matches!(error, HomeError::EncryptedPrivateKey { .. }), "{error:?}");
        let decrypt = Remedy::DecryptKey { path: home.key_file(&localhost) };
        let issue = Remedy::issue("localhost", true, Place::ThisHome);
        assert_eq!(error.remedy(), Some(decrypt.or(issue)));
    });
}

#[test]
fn a_database_that_is_a_link_or_no_file_is_refused() {
    with_home(|home| {
        let target = home.root().join("elsewhere");
        std::fs::write(&target, "").unwrap();
        set_mode(&target, 0o600);
        for name in ["users.db", "users.db-wal", "users.db-shm", "inbox.db", "inbox.db-journal"] {
            let file = home.root().join(name);
            std::fs::write(home.users_db(), "").unwrap();
            set_mode(&home.users_db(), 0o600);
            let _ = std::fs::remove_file(&file);
            std::os::unix::fs::symlink(&target, &file).unwrap();
            let checked = [home.users_db_checked(), home.inbox_db_checked()];
            let refused = &checked[usize::from(name.starts_with("inbox"))];
            assert!(
                matches!(refused, Err(HomeError::SymbolicLink { path }) if *path == file),
                "{refused:?}"
            );
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
            let checked = [home.users_db_checked(), home.inbox_db_checked()];
            let refused = &checked[usize::from(name.starts_with("inbox"))];
            assert!(matches!(refused, Err(HomeError::NotAFile { .. })), "{refused:?}");
            std::fs::remove_dir(&file).unwrap();
        }
        assert_eq!(home.inbox_db_checked().unwrap(), home.inbox_db(), "it need not be there yet");
    });
}

#[test]
fn a_pair_is_found_whatever_the_case_of_its_name() {
    with_home(|home| {
        for (file, text) in [("Peer1.Example.crt", CERTIFICATE), ("Peer1.Example.key", PRIVATE_KEY)]
        {
            ipc_home::write_secret_atomically(&home.root().join(file), text.as_bytes()).unwrap();
        }
        for spelling in ["Peer1.Example", "peer1.example", "PEER1.EXAMPLE"] {
            assert_eq!(home.name_of_pair(&name(spelling)).unwrap().as_str(), "Peer1.Example");
            home.identity(&name(spelling)).unwrap();
        }
        assert!(home.identity(&name("LocalHost")).is_ok());
        let error = home.identity(&name("Peer2")).unwrap_err();
        assert!(matches!(error, HomeError::CertificateMissing { .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::issue("Peer2", false, Place::ThisHome)));
        // If a file system distinguishes the two names, each is a pair of its own.
        for (file, text) in [("peer1.example.crt", CERTIFICATE), ("peer1.example.key", PRIVATE_KEY)]
        {
            ipc_home::write_secret_atomically(&home.root().join(file), text.as_bytes()).unwrap();
        }
        assert_eq!(home.name_of_pair(&name("peer1.example")).unwrap().as_str(), "peer1.example");
    });
}

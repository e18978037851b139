//! Homes that lack something, and directories that are none: completed where nothing can be lost by
//! it, refused elsewhere.

use super::*;
use crate::{CertificateRequest, issue_certificate};

#[test]
fn a_complete_home_that_lost_a_file_is_refused_by_its_name_and_nothing_is_made_anew() {
    for piece in [
        "envelope.keys",
        "web-ipc-ca.crt",
        "web-ipc-ca.key",
        "localhost.crt",
        "localhost.key",
        "users.db",
    ] {
        let (_directory, home) = new_home();
        std::fs::remove_file(home.root().join(piece)).unwrap();
        let before = snapshot(home.root());
        let error = make(home.root(), false).unwrap_err();
        assert!(
            matches!(&error, SetupError::PiecesMissing { missing, .. } if missing == &[piece]),
            "{piece}: {error:?}"
        );
        let path = home.root().join(piece);
        let remedy = match piece {
            "localhost.crt" | "localhost.key" => Remedy::issue("localhost", true, Place::ThisHome),
            "web-ipc-ca.key" => Remedy::RestoreAuthorityKey { path }.or(Remedy::ReplaceHome),
            _ => Remedy::RestoreFiles { paths: vec![path] }.or(Remedy::ReplaceHome),
        };
        assert_eq!(error.remedy(), Some(remedy), "{piece}");
        assert_eq!(snapshot(home.root()), before, "{piece}");
        // What the remedy says for a leaf does work.
        if piece.starts_with("localhost") {
            let alt_names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let request = CertificateRequest {
                alt_names: &alt_names,
                force: true,
                ..CertificateRequest::new("localhost", NOW_SECS)
            };
            issue_certificate(&home, &request).unwrap();
            assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::AlreadyThere);
            assert_good(&home);
        }
    }
}

#[test]
fn the_sessions_key_which_nobody_else_has_is_made_anew() {
    let (_directory, home) = new_home();
    let old = std::fs::read(home.session_key_file()).unwrap();
    std::fs::remove_file(home.session_key_file()).unwrap();
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::Completed);
    assert_ne!(std::fs::read(home.session_key_file()).unwrap(), old);
    assert_good(&home);
    std::fs::remove_file(home.session_key_file()).unwrap();
    std::fs::remove_file(home.users_db()).unwrap();
    let error = make(home.root(), false).unwrap_err();
    assert!(matches!(error, SetupError::PiecesMissing { .. }), "{error:?}");
    assert!(!home.session_key_file().exists(), "not where more is lost");
}

/// What making a home makes, in that order, before `admin.cred`.
const PIECES: [&str; 8] = [
    "envelope.keys",
    "session.key",
    "web-ipc-ca.key",
    "web-ipc-ca.crt",
    "localhost.key",
    "localhost.crt",
    "sessions",
    "users.db",
];

fn remove(home: &Home, pieces: &[&str]) {
    for piece in pieces {
        let path = home.root().join(piece);
        if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) }.unwrap();
    }
}

#[test]
fn a_home_cut_short_at_any_piece_is_completed_and_keeps_what_it_has() {
    for made in 0..=PIECES.len() {
        let (_directory, home) = new_home();
        remove(&home, &PIECES[made..]);
        remove(&home, &["admin.cred"]);
        let opened = Home::open(home.root()).unwrap_err();
        if made == 0 {
            assert!(matches!(opened, HomeError::Missing { .. }), "{opened:?}");
        } else {
            assert!(matches!(opened, HomeError::Incomplete { .. }), "{opened:?}");
        }
        let before = snapshot(home.root());
        let outcome = make(home.root(), false).unwrap();
        let expected = if made == 0 { Outcome::Created } else { Outcome::Completed };
        assert_eq!((outcome.outcome, outcome.kept_aside), (expected, None), "{made}");
        assert_good(&home);
        assert_eq!(users(&home).unwrap().list().unwrap().len(), 1);
        let after = snapshot(home.root());
        for (index, piece) in PIECES[..made].iter().enumerate() {
            let path = home.root().join(piece);
            // The last of the pieces that are halves of one is made anew with its other half.
            let is_half = index + 1 == made && piece.ends_with(".key") && *piece != "session.key";
            if !is_half && path.is_file() && *piece != "users.db" {
                assert_eq!(after[&path], before[&path], "{made}: {piece}");
            }
        }
    }
}

#[test]
fn whatever_else_an_incomplete_home_lacks_is_made_unless_certificates_hang_on_it() {
    for (missing, refused) in [
        (&["envelope.keys"][..], None),
        (&["session.key"], None),
        (&["sessions"], None),
        (&["users.db"], None),
        (&["localhost.crt"], None),
        (&["localhost.key"], None),
        (&["localhost.key", "localhost.crt"], None),
        (&["envelope.keys", "session.key", "users.db"], None),
        // The authority's key is kept elsewhere, or lost: a new authority would make every
        // certificate worthless.
        (&["web-ipc-ca.key"], Some("web-ipc-ca.key")),
        (&["web-ipc-ca.key", "localhost.key", "localhost.crt"], Some("web-ipc-ca.key")),
        (&["web-ipc-ca.crt"], Some("web-ipc-ca.crt")),
        (&["web-ipc-ca.crt", "web-ipc-ca.key"], Some("web-ipc-ca.crt")),
    ] {
        let (_directory, home) = new_home();
        remove(&home, missing);
        remove(&home, &["admin.cred"]);
        let before = snapshot(home.root());
        match (make(home.root(), false), refused) {
            (Ok(made), None) => {
                assert_eq!(made.outcome, Outcome::Completed, "{missing:?}");
                assert_good(&home);
            }
            (Err(SetupError::Home(HomeError::FileMissing { path })), Some(file)) => {
                assert_eq!(path, home.root().join(file), "{missing:?}");
                let after = snapshot(home.root());
                for (path, content) in before {
                    assert_eq!(after[&path], content, "{missing:?}: {}", path.display());
                }
            }
            (other, _) => panic!("{missing:?}: {other:?}"),
        }
    }
}

#[test]
fn only_admin_cred_missing_nothing_else_is_made_anew() {
    let (_directory, home) = new_home();
    let mut before = snapshot(home.root());
    remove(&home, &["admin.cred"]);
    make(home.root(), false).unwrap();
    assert_good(&home);
    let mut after = snapshot(home.root());
    for changed in ["admin.cred", "users.db"] {
        before.remove(&home.root().join(changed));
        after.remove(&home.root().join(changed));
    }
    assert_eq!(after, before);
}

#[test]
fn damaged_keys_in_an_incomplete_home_are_refused_and_kept() {
    for file in ["envelope.keys", "session.key"] {
        let (_directory, home) = new_home();
        remove(&home, &["admin.cred"]);
        std::fs::write(home.root().join(file), "nonsense").unwrap();
        let error = make(home.root(), false).unwrap_err();
        assert!(matches!(&error, SetupError::Home(HomeError::BadKeys { .. })), "{error:?}");
        assert_eq!(std::fs::read(home.root().join(file)).unwrap(), b"nonsense");
    }
}

#[test]
fn a_pair_that_is_only_half_replaced_is_finished_without_a_new_authority() {
    let (_directory, home) = new_home();
    let name = PeerName::parse("localhost").unwrap();
    let before = snapshot(home.root());
    // What a kill between the two renames leaves.
    std::fs::rename(home.certificate_file(&name), home.staged_certificate_file(&name)).unwrap();
    home.identity(&name).unwrap();
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::Completed);
    assert_eq!(snapshot(home.root()), before);
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::AlreadyThere);
    // The same in a home whose making was cut short.
    remove(&home, &["admin.cred"]);
    std::fs::rename(home.certificate_file(&name), home.staged_certificate_file(&name)).unwrap();
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::Completed);
    assert_good(&home);
    assert_eq!(
        std::fs::read(home.certificate_file(&name)).unwrap(),
        before[&home.certificate_file(&name)].0
    );
}

#[test]
fn the_environment_of_the_python_tool_is_refused_with_what_to_do_instead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("environment");
    std::fs::create_dir(&path).unwrap();
    for file in ["users.db", ".xork", ".ipca", "web-ipc-ca.crt", "web-ipc-ca.key", "localhost.crt"]
    {
        std::fs::write(path.join(file), "theirs").unwrap();
    }
    let before = snapshot(&path);
    for force in [false, true] {
        let error = make(&path, force).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::PythonTool { .. })), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::TakeOver { path: path.clone() }));
        assert_eq!(snapshot(&path), before);
    }
}

#[test]
fn a_path_that_is_not_utf_8_is_refused_before_anything_is_made() {
    use std::os::unix::ffi::OsStrExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new").join(std::ffi::OsStr::from_bytes(b"h\xffme"));
    let error = make(&path, false).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::BadPath { .. })), "{error:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_link_to_nowhere_in_the_place_of_the_home_is_refused_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
    let error = make(&path, false).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::BrokenLink { .. })), "{error:?}");
}

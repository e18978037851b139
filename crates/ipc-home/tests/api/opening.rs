//! Which directories are homes.

use ipc_home::{Home, HomeError};

use crate::support::{complete_home, set_mode};

#[test]
fn a_complete_home_opens() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    assert_eq!(Home::open(home.root()).unwrap().root(), home.root());
}

#[test]
fn a_missing_home_is_told_from_an_incomplete_one() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    assert!(matches!(Home::open(directory.path().join("none")), Err(HomeError::Missing { .. })));
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    assert!(matches!(Home::open(home.root()), Err(HomeError::Incomplete { .. })));
}

#[test]
fn a_file_is_no_home() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(Home::open(&file), Err(HomeError::NotADirectory { .. })));
    assert!(matches!(Home::open(file.join("below")), Err(HomeError::NotADirectory { .. })));
}

#[test]
fn a_home_with_any_right_for_others_is_refused_with_the_chmod_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    for mode in [0o755, 0o750, 0o710, 0o701, 0o770] {
        set_mode(home.root(), mode);
        let error = Home::open(home.root()).unwrap_err();
        assert!(matches!(error, HomeError::TooOpen { mode: m, .. } if m == mode), "{mode:o}");
        assert_eq!(error.remedy().unwrap(), format!("run chmod 700 {}", home.root().display()));
    }
    set_mode(home.root(), 0o700);
    assert!(Home::open(home.root()).is_ok());
}

#[test]
fn what_is_not_a_home_is_refused_before_its_mode_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("documents");
    std::fs::create_dir(&path).unwrap();
    set_mode(&path, 0o755);
    let error = Home::open(&path).unwrap_err();
    assert!(matches!(error, HomeError::Missing { .. }), "{error:?}");
    std::fs::write(path.join("notes.txt"), "dear diary").unwrap();
    let error = Home::open(&path).unwrap_err();
    assert!(matches!(error, HomeError::NotAHome { .. }), "{error:?}");
    assert_eq!(error.remedy().unwrap(), "give another directory with --home DIR");
    for mark in [".xork", ".ipca"] {
        std::fs::write(path.join(mark), "").unwrap();
        let error = Home::open(&path).unwrap_err();
        assert!(matches!(error, HomeError::PythonTool { .. }), "{error:?}");
        assert!(error.remedy().unwrap().contains("users.db alone into an empty directory"));
        std::fs::remove_file(path.join(mark)).unwrap();
    }
    for path in ["/", "/usr", "/tmp"] {
        let error = Home::open(path).unwrap_err();
        assert!(!error.remedy().unwrap().contains("chmod"), "{path}: {error:?}");
    }
}

#[test]
fn a_home_that_has_only_begun_is_closed_first_and_completed_then() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    set_mode(home.root(), 0o755);
    assert!(matches!(Home::open(home.root()), Err(HomeError::TooOpen { .. })));
    set_mode(home.root(), 0o700);
    assert!(matches!(Home::open(home.root()), Err(HomeError::Incomplete { .. })));
}

#[test]
fn a_link_to_a_home_opens_and_one_to_nowhere_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(home.root(), &link).unwrap();
    assert!(Home::open(&link).is_ok());
    std::fs::rename(home.root(), directory.path().join("elsewhere")).unwrap();
    let error = Home::open(&link).unwrap_err();
    assert!(matches!(error, HomeError::BrokenLink { .. }), "{error:?}");
    assert!(error.remedy().unwrap().contains("--home DIR"));
}

#[test]
fn a_name_that_is_too_long_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = Home::open(directory.path().join("x".repeat(300))).unwrap_err();
    assert_eq!(error.remedy().unwrap(), "give a shorter path with --home DIR", "{error:?}");
}

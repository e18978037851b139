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

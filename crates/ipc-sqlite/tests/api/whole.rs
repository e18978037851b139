//! Whether everything is in the database file, and how a damaged or incomplete file is handled.

use std::fs;
use std::path::{Path, PathBuf};

use ipc_sqlite::{Database, DatabaseError, Options, copy, open, open_read_only};

use crate::support::{NOTES, Place, add, notes};

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.dir.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn create_alone(place: &Place) -> Database {
    ipc_sqlite::create(&place.path, &NOTES, &Options::new().alone()).await.unwrap()
}

async fn open_alone(place: &Place) -> Result<Database, DatabaseError> {
    open(&place.path, &NOTES, &Options::new().alone()).await
}

/// A copy of the database file alone, made by someone who does not know the files beside it.
fn bare_copy(place: &Place) -> Place {
    let other = Place::new();
    fs::copy(&place.path, &other.path).unwrap();
    other
}

fn set_len(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[tokio::test]
async fn a_file_that_was_closed_has_everything_itself() {
    for options in [Options::new(), Options::new().alone()] {
        let place = Place::new();
        let database = ipc_sqlite::create(&place.path, &NOTES, &options).await.unwrap();
        add(&database, "milk").await.unwrap();
        database.close().await.unwrap();
        assert_eq!(names(&place), ["notes.db"]);
        let copy = bare_copy(&place);
        let copied = open(&copy.path, &NOTES, &options).await.unwrap();
        assert_eq!(notes(&copied).await.unwrap(), ["milk"]);
        assert!(!copied.lacks_log());
    }
}

#[tokio::test]
async fn what_is_written_back_is_in_a_copy_of_the_file_alone_while_it_is_open() {
    let place = Place::new();
    let shared = place.create().await;
    add(&shared, "milk").await.unwrap();
    shared.write_back().await.unwrap();
    let copy = bare_copy(&place);
    assert_eq!(notes(&copy.create().await).await.unwrap(), ["milk"]);

    let place = Place::new();
    let alone = create_alone(&place).await;
    for text in ["milk", "tea"] {
        add(&alone, text).await.unwrap();
        alone.write_all_back().await.unwrap();
        alone.check_file().unwrap();
        let copy = bare_copy(&place);
        let copied = open_alone(&copy).await.unwrap();
        assert!(notes(&copied).await.unwrap().ends_with(&[text.to_owned()]));
    }
    // The next write marks the file as in use again.
    add(&alone, "bread").await.unwrap();
    assert!(matches!(open_alone(&bare_copy(&place)).await, Err(DatabaseError::LogMissing { .. })));
}

#[tokio::test]
async fn a_copy_of_a_file_in_use_without_its_log_is_refused_and_stays_as_it_is() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    let copied = bare_copy(&place);
    for _ in 0..2 {
        for refused in
            [open_alone(&copied).await, open_read_only(&copied.path, &NOTES, &Options::new()).await]
        {
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, DatabaseError::LogMissing { log, .. } if *log == beside(&copied.path, "-wal")),
                "{error:?}"
            );
        }
        assert_eq!(names(&copied), ["notes.db"], "what is missing must not be made by looking");
    }
    // With the -wal the copy is what a crash would leave.
    fs::copy(beside(&place.path, "-wal"), beside(&copied.path, "-wal")).unwrap();
    let whole = open_alone(&copied).await.unwrap();
    assert_eq!(notes(&whole).await.unwrap(), ["milk"]);
    assert!(!whole.lacks_log());
}

#[tokio::test]
async fn a_file_that_crashed_is_whole_again_once_it_was_opened_and_closed() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    let crashed = bare_copy(&place);
    fs::copy(beside(&place.path, "-wal"), beside(&crashed.path, "-wal")).unwrap();
    // Nothing is written in between.
    open_alone(&crashed).await.unwrap().close().await.unwrap();
    assert_eq!(names(&crashed), ["notes.db"]);
    let copy = bare_copy(&crashed);
    let again = open_alone(&copy).await.unwrap();
    assert_eq!(notes(&again).await.unwrap(), ["milk"]);
}

#[tokio::test]
async fn an_empty_log_made_by_hand_says_to_go_on_without_what_was_in_it() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    let copied = bare_copy(&place);
    fs::write(beside(&copied.path, "-wal"), "").unwrap();
    let opened = open_alone(&copied).await.unwrap();
    assert!(opened.lacks_log());
    opened.close().await.unwrap();
    let opened = open_alone(&copied).await.unwrap();
    assert!(!opened.lacks_log(), "it was said once");
}

#[tokio::test]
async fn a_file_of_which_all_was_in_the_log_is_not_taken_for_a_new_one() {
    let place = Place::new();
    drop(place.raw("PRAGMA journal_mode = WAL").await);
    assert!(place.path.metadata().unwrap().len() > 0);
    // SQLite removes the -wal when another thread closes the connection.
    while beside(&place.path, "-wal").exists() {
        tokio::task::yield_now().await;
    }
    for options in [Options::new(), Options::new().alone()] {
        let error = open(&place.path, &NOTES, &options).await.unwrap_err();
        assert!(matches!(error, DatabaseError::LogMissing { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_emptied_file_does_not_take_its_log_along() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    let emptied = bare_copy(&place);
    let log = beside(&emptied.path, "-wal");
    fs::copy(beside(&place.path, "-wal"), &log).unwrap();
    set_len(&emptied.path, 0);
    let before = fs::read(&log).unwrap();
    let error = open_alone(&emptied).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Truncated { .. }), "{error:?}");
    assert_eq!(fs::read(&log).unwrap(), before, "SQLite would remove it");
}

#[cfg(unix)]
#[tokio::test]
async fn what_was_put_in_place_of_an_open_file_is_left_alone_when_that_is_closed() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    let other = Place::new().with_note().await;
    for suffix in ["", "-wal"] {
        let path = beside(&place.path, suffix);
        fs::remove_file(&path).unwrap();
        fs::copy(&other.path, &path).unwrap();
    }
    let error = database.close().await.unwrap_err();
    assert!(matches!(error, DatabaseError::Replaced { .. }), "{error:?}");
    drop(database);
    for suffix in ["", "-wal"] {
        assert_eq!(fs::read(beside(&place.path, suffix)).unwrap(), fs::read(&other.path).unwrap());
    }
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_not_written_again() {
    let place = Place::new();
    let database = create_alone(&place).await;
    add(&database, "milk").await.unwrap();
    set_len(&place.path, 0);
    assert!(matches!(database.check_file(), Err(DatabaseError::Truncated { .. })));
    assert!(matches!(database.close().await, Err(DatabaseError::Truncated { .. })));
    drop(database);
    assert_eq!(place.path.metadata().unwrap().len(), 0, "a part of it would look like the whole");
    assert!(matches!(open_alone(&place).await, Err(DatabaseError::Truncated { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_was_removed_is_written_back_by_whoever_still_has_it() {
    for is_rescued in [true, false] {
        let place = Place::new();
        let database = create_alone(&place).await;
        add(&database, "milk").await.unwrap();
        database.rescue().await.unwrap();
        database.check_file().unwrap();
        fs::remove_file(beside(&place.path, "-wal")).unwrap();
        let error = database.check_file().unwrap_err();
        assert!(
            matches!(&error, DatabaseError::Replaced { path, .. } if *path == beside(&place.path, "-wal")),
            "{error:?}"
        );
        if is_rescued {
            database.rescue().await.unwrap();
        } else {
            database.close().await.unwrap_err();
        }
        let copy = bare_copy(&place);
        assert_eq!(notes(&open_alone(&copy).await.unwrap()).await.unwrap(), ["milk"]);
    }
}

#[tokio::test]
async fn a_file_is_read_beside_the_one_who_has_it_and_not_written() {
    let place = Place::new();
    let alone = create_alone(&place).await;
    add(&alone, "milk").await.unwrap();
    let beside = open_read_only(&place.path, &NOTES, &Options::new()).await.unwrap();
    assert_eq!(notes(&beside).await.unwrap(), ["milk"]);
    add(&alone, "tea").await.unwrap();
    assert_eq!(notes(&beside).await.unwrap(), ["milk", "tea"]);
    let error = add(&beside, "sand").await.unwrap_err();
    assert!(matches!(error, DatabaseError::ReadOnly { .. }), "{error:?}");
    beside.close().await.unwrap();
    add(&alone, "bread").await.unwrap();
    alone.check_file().unwrap();
    alone.close().await.unwrap();
    assert_eq!(notes(&open_alone(&place).await.unwrap()).await.unwrap(), ["milk", "tea", "bread"]);
}

#[tokio::test]
async fn reading_alone_makes_nothing_and_brings_nothing_up_to_date() {
    let place = Place::new().with_note().await;
    let database = open_read_only(&place.path, &NOTES, &Options::new()).await.unwrap();
    assert_eq!(notes(&database).await.unwrap(), ["milk"]);
    database.close().await.unwrap();
    assert_eq!(names(&place), ["notes.db"]);
    const NEWER: ipc_sqlite::Schema = ipc_sqlite::Schema {
        migrations: &[NOTES.migrations[0], ("authors", "ALTER TABLE notes ADD COLUMN author TEXT")],
        ..NOTES
    };
    let error = open_read_only(&place.path, &NEWER, &Options::new()).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Outdated { .. }), "{error:?}");
    let missing = open_read_only(&place.dir.path().join("no.db"), &NOTES, &Options::new()).await;
    assert!(matches!(missing, Err(DatabaseError::Missing { .. })));
}

#[tokio::test]
async fn a_copy_is_whole_and_a_file_of_its_own_while_others_write() {
    for options in [Options::new(), Options::new().alone()] {
        let place = Place::new();
        let database = ipc_sqlite::create(&place.path, &NOTES, &options).await.unwrap();
        add(&database, "milk").await.unwrap();
        let mut writing = database.begin_write().await.unwrap();
        sqlx::query("INSERT INTO notes (text) VALUES ('tea')")
            .execute(&mut *writing)
            .await
            .unwrap();
        let other = Place::new();
        copy(&place.path, &other.path, &NOTES, &Options::new()).await.unwrap();
        writing.commit().await.unwrap();
        assert_eq!(names(&other), ["notes.db"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(other.path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let copied = open_alone(&other).await.unwrap();
        assert_eq!(notes(&copied).await.unwrap(), ["milk"], "what was not committed is not there");
        assert!(!copied.lacks_log());
        add(&copied, "sand").await.unwrap();
        assert_eq!(notes(&database).await.unwrap(), ["milk", "tea"]);
    }
}

#[tokio::test]
async fn a_copy_never_goes_over_what_is_there_and_names_the_file_that_is_at_fault() {
    let place = Place::new().with_note().await;
    let other = Place::new();
    fs::write(&other.path, "somebody's notes").unwrap();
    let error = copy(&place.path, &other.path, &NOTES, &Options::new()).await.unwrap_err();
    assert!(error.to_string().contains(other.path.to_str().unwrap()), "{error}");
    assert_eq!(fs::read_to_string(&other.path).unwrap(), "somebody's notes");
    let error = copy(&other.path, &place.dir.path().join("x.db"), &NOTES, &Options::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, DatabaseError::NotADatabase { path, .. } if *path == other.path),
        "{error:?}"
    );
    let nowhere = place.dir.path().join("no/x.db");
    let error = copy(&place.path, &nowhere, &NOTES, &Options::new()).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Missing { path, .. } if *path == nowhere), "{error:?}");
}

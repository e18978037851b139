//! What happens when there is no more room.

use ipc_sqlite::{Database, DatabaseError};

use crate::support::{Place, add, notes};

/// Adds notes of 10 kB until one is refused for lack of room. Returns how many were added.
async fn fill(database: &Database) -> usize {
    let text = "x".repeat(10_000);
    for added in 0..1000 {
        if let Err(error) = add(database, &text).await {
            assert!(matches!(error, DatabaseError::DiskFull { .. }), "{error:?}");
            assert_eq!(notes(database).await.unwrap().len(), added);
            return added;
        }
    }
    panic!("there was room for everything");
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_full_and_keeps_what_it_has() {
    let place = Place::new();
    let database = place.create().await;
    sqlx::query("PRAGMA max_page_count = 100").execute(database.writer()).await.unwrap();
    let added = fill(&database).await;
    assert!(added > 10);
    drop(database);
    assert_eq!(notes(&place.create().await).await.unwrap().len(), added);
}

#[cfg(unix)]
#[tokio::test]
async fn a_limit_on_the_size_of_files_is_a_full_disk_and_what_was_there_stays() {
    use std::path::Path;
    use std::process::Command;

    // The limit holds for the whole process, so this test runs itself again in a child process.
    if let Some(directory) = std::env::var_os("IPC_SQLITE_TEST_LIMITED") {
        let database =
            crate::support::create(&Path::new(&directory).join("notes.db")).await.unwrap();
        println!("added {} notes", fill(&database).await);
        return;
    }
    let place = Place::new();
    // The signal ends a process that does not ignore it. `ulimit` counts in units of 512 or 1024
    // bytes.
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" --nocapture --exact \"$1\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg("room::a_limit_on_the_size_of_files_is_a_full_disk_and_what_was_there_stays")
        .env("IPC_SQLITE_TEST_LIMITED", place.dir.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let added = notes(&place.create().await).await.unwrap().len();
    assert!(added > 0);
    let said = String::from_utf8(child.stdout).unwrap();
    assert!(said.contains(&format!("added {added} notes")), "{added}: {said}");
}

//! The file itself: what it holds at the end, and how the inbox reacts when another program damages
//! the file.

use std::path::Path;

use ipc_inbox::{
    AckError, DeadReason, DurableOptions, InboxReader, Message, NoReply, OpenError, Put, PutError,
    copy,
};
use ipc_sqlite::DatabaseError;

use crate::support::{File, NO_WAIT, dead_letter_ids, id, message};

fn set_len(path: &Path, bytes: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn names(file: &File) -> Vec<String> {
    let entries = std::fs::read_dir(file.directory.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_somebody_else_spoils_is_noticed_before_anything_is_answered() {
    type Spoil = fn(&File);
    let spoil: [(&str, Spoil); 7] = [
        ("emptied", |file| set_len(&file.path(), 0)),
        ("cut short", |file| set_len(&file.path(), 4096)),
        ("removed", |file| std::fs::remove_file(file.path()).unwrap()),
        ("replaced", |file| {
            std::fs::rename(file.path(), file.directory.path().join("old")).unwrap();
            std::fs::copy(file.directory.path().join("old"), file.path()).unwrap();
        }),
        ("log emptied", |file| set_len(&file.log(), 0)),
        ("log cut short", |file| set_len(&file.log(), 1000)),
        ("log removed", |file| std::fs::remove_file(file.log()).unwrap()),
    ];
    for (how, spoil) in spoil {
        let file = File::new();
        let durable = file.open().await;
        let inbox = &durable;
        for number in 1..=3 {
            assert_eq!(inbox.put(message(number, "{}"), NO_WAIT).await, Ok(Put::Accepted));
        }
        let delivery = inbox.recv().await.unwrap();
        spoil(&file);
        for number in [4, 5] {
            assert_eq!(
                inbox.put(message(number, "{}"), NO_WAIT).await,
                Err(PutError::Unavailable),
                "{how}"
            );
        }
        assert!(matches!(delivery.ack().await, Err(AckError::Storage { .. })), "{how}");
        assert!(durable.requeue(&dead_letter_ids(&[1])).await.is_err(), "{how}");
        assert!(durable.discard(&dead_letter_ids(&[1])).await.is_err(), "{how}");
        let length = file.path().metadata().map_or(0, |metadata| metadata.len());
        inbox.finish().await;
        if how.starts_with("log") {
            continue;
        }
        assert_eq!(file.path().metadata().map_or(0, |metadata| metadata.len()), length, "{how}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_was_accepted_before_its_log_was_removed_is_saved() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    std::fs::remove_file(file.log()).unwrap();
    assert_eq!(inbox.put(message(4, "{}"), NO_WAIT).await, Err(PutError::Unavailable));
    // At once, and not only at a regular stop.
    let left = file.bare_copy();
    let saved = left.open().await;
    for number in 1..=3 {
        assert_eq!(saved.recv().await.unwrap().id(), id(number));
    }
}

#[tokio::test]
async fn an_emptied_file_is_not_opened_as_a_new_one() {
    let file = File::new();
    let inbox = file.open().await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let crashed = file.crashed();
    set_len(&crashed.path(), 0);
    let error = DurableOptions::default().open(crashed.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Database(DatabaseError::Truncated { .. })), "{error:?}");
}

#[tokio::test]
async fn an_inbox_that_was_finished_is_in_its_file_alone() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    inbox.recv().await.unwrap().ack().await.unwrap();
    inbox.finish().await;
    assert_eq!(names(&file), ["inbox.db", "inbox.db.lock"]);
    let left = file.bare_copy();
    let copy = left.open().await;
    for number in [2, 3] {
        let delivery = copy.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.redeliveries()), (id(number), 0));
    }
}

#[tokio::test]
async fn an_inbox_that_was_closed_is_in_its_file_alone_until_something_changes() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    inbox.sender.close().await;
    let copy = file.bare_copy();
    assert_eq!(copy.open().await.recv().await.unwrap().id(), id(1));
    inbox.recv().await.unwrap().ack().await.unwrap();
    let copy = file.bare_copy();
    let error = DurableOptions::default().open(copy.path()).await.unwrap_err();
    assert!(matches!(error, OpenError::Database(DatabaseError::LogMissing { .. })), "{error:?}");
}

#[tokio::test]
async fn a_copy_of_a_running_inbox_without_its_log_is_not_taken_for_an_empty_one() {
    let file = File::new();
    let inbox = file.open().await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let bare = file.bare_copy();
    for _ in 0..2 {
        let error = DurableOptions::default().open(bare.path()).await.unwrap_err();
        assert!(
            matches!(&error, OpenError::Database(DatabaseError::LogMissing { log, .. }) if *log == bare.log()),
            "{error:?}"
        );
    }
    let crashed = file.crashed();
    assert_eq!(crashed.open().await.recv().await.unwrap().id(), id(1));
}

#[tokio::test]
async fn a_copy_made_beside_a_running_inbox_has_all_that_was_accepted() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let other = File::new();
    copy(&file.path(), &other.path()).await.unwrap();
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(inbox.put(message(4, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    let copied = other.open().await;
    assert_eq!(copied.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate), "ids are in it");
    for number in 1..=3 {
        assert_eq!(copied.recv().await.unwrap().id(), id(number));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_inbox_that_ends_on_a_full_disk_keeps_all_that_it_accepted() {
    use std::process::Command;

    // The limit holds for the whole process, so this test runs itself again in a child process.
    if let Some(path) = std::env::var_os("IPC_INBOX_TEST_LIMITED") {
        let inbox: crate::support::Both =
            DurableOptions::default().open(path).await.unwrap().into();
        let body = format!(r#"{{"x":"{}"}}"#, "a".repeat(1000));
        let mut accepted = 0;
        while accepted < 200 && inbox.put(message(accepted, &body), NO_WAIT).await.is_ok() {
            accepted += 1;
        }
        inbox.finish().await;
        println!("accepted {accepted} messages");
        return;
    }
    let file = File::new();
    // The signal ends a process that does not ignore it. `ulimit` counts in units of 512 or 1024
    // bytes.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" --nocapture --exact \"$1\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg("files::an_inbox_that_ends_on_a_full_disk_keeps_all_that_it_accepted")
        .env("IPC_INBOX_TEST_LIMITED", file.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let waiting = file.open().await.waiting().await;
    assert!(waiting > 0 && waiting < 200, "{waiting}");
    let said = String::from_utf8(child.stdout).unwrap();
    assert!(said.contains(&format!("accepted {waiting} messages")), "{waiting}: {said}");
}

#[tokio::test]
async fn a_file_from_before_there_were_peers_opens_with_its_messages() {
    let file = File::new();
    let inbox = file.open().await;
    for number in [1, 2, 3] {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    inbox.recv().await.unwrap().reject("bad").await.unwrap();
    inbox.finish().await;
    let undo = "ALTER TABLE replies DROP COLUMN reason; ALTER TABLE messages DROP COLUMN peer";
    make_older(&file, 2, undo);
    let inbox = file.open().await;
    assert_eq!(inbox.put(message(4, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    let [letter] = inbox.dead(9).await.unwrap().try_into().unwrap();
    assert_eq!(letter.message, Message { peer: None, ..message(1, "{}") });
    assert_eq!(letter.reason, DeadReason::Rejected("bad".into()));
    for (number, peer) in [(2, None), (3, None), (4, Some("worker2"))] {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.peer()), (id(number), peer));
        assert_eq!(delivery.certificate(), message(number, "{}").certificate);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_from_before_requests_could_be_declined_opens_with_its_replies() {
    let file = File::new();
    let request = |number| Message { wants_reply: true, ..message(number, "{}") };
    let inbox = file.open().await;
    for number in [1, 2, 3] {
        inbox.put(request(number), NO_WAIT).await.unwrap();
    }
    inbox.recv().await.unwrap().reply(&serde_json::json!({"n": 1})).await.unwrap();
    inbox.recv().await.unwrap().ack().await.unwrap();
    inbox.finish().await;
    make_older(&file, 3, "ALTER TABLE replies DROP COLUMN reason");
    let inbox = file.open().await;
    assert_eq!(inbox.reply_to("müller", id(1)).await.as_deref(), Ok(r#"{"n":1}"#));
    assert_eq!(inbox.reply_to("müller", id(2)).await, Err(NoReply::NotGiven));
    inbox.recv().await.unwrap().decline("no").await.unwrap();
    assert_eq!(inbox.reply_to("müller", id(3)).await, Err(NoReply::Declined("no".into())));
}

/// Makes a file as the first `migrations` migrations left it. `undo` takes back the others.
fn make_older(file: &File, migrations: u32, undo: &str) {
    let database = rusqlite::Connection::open(file.path()).unwrap();
    let forget = format!("{undo}; DELETE FROM _sqlx_migrations WHERE version > {migrations};");
    database.execute_batch(&forget).unwrap();
    database.close().unwrap();
}

#[tokio::test]
async fn a_file_from_before_there_were_reasons_opens_with_its_dead_letters() {
    let file = File::new();
    let inbox = file.open().await;
    for number in [1, 2] {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    inbox.recv().await.unwrap().reject("bad").await.unwrap();
    inbox.finish().await;
    let undo = "ALTER TABLE replies DROP COLUMN reason; ALTER TABLE messages DROP COLUMN peer;
                ALTER TABLE messages DROP COLUMN reason";
    make_older(&file, 1, undo);
    let outdated = InboxReader::open(file.path()).await.unwrap_err();
    assert!(matches!(outdated, DatabaseError::Outdated { .. }), "{outdated}");
    // It is copied as it is.
    let copied = file.path().with_file_name("copy.db");
    copy(&file.path(), &copied).await.unwrap();
    ipc_inbox::check_integrity(&copied).await.unwrap();
    let outdated = InboxReader::open(&copied).await.unwrap_err();
    assert!(matches!(outdated, DatabaseError::Outdated { .. }), "{outdated}");
    let database = rusqlite::Connection::open(&copied).unwrap();
    let count = database.query_row("SELECT count(*) FROM messages", (), |row| row.get(0));
    assert_eq!(count, Ok(2));
    drop(database);
    let inbox = file.open().await;
    let dead = inbox.dead(9).await.unwrap();
    assert_eq!((dead.len(), dead[0].message.id), (1, id(1)));
    assert_eq!(dead[0].reason, DeadReason::MaxDeliveries);
    inbox.recv().await.unwrap().reject("bad too").await.unwrap();
    let dead = inbox.dead(9).await.unwrap();
    assert_eq!(dead[1].reason, DeadReason::Rejected("bad too".into()));
    assert_eq!(inbox.put(message(3, "{}"), NO_WAIT).await, Ok(Put::Accepted));
}

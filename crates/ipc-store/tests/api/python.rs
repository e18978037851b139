//! A `users.db` of the Python tool, opened as it is.

use ipc_store::{StoreError, UserRecord, UserStore};

use crate::support::{FilePlace, name, names, password};

/// The table as SQLAlchemy writes it, with a user whose hash Python's bcrypt 5.0.0 made of
/// "pass321".
const PYTHON_FILE: &str = "
    CREATE TABLE users (
        id INTEGER NOT NULL,
        username VARCHAR(80) NOT NULL,
        password_hash VARCHAR(128) NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (username)
    );
    INSERT INTO users (username, password_hash) VALUES
        ('ipc-admin', '$2b$12$7VeDvfjhPApanWIc/uqK5OLDHAwYoeDRawunTVmaUDtd3s2CGFmAC');";

#[tokio::test]
async fn its_users_log_in_with_the_passwords_they_have() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    let store = place.open().await;
    assert_eq!(names(&store).await, ["ipc-admin"]);
    assert!(store.verify("ipc-admin", "pass321").await.unwrap().is_some());
    assert!(store.verify("ipc-admin", "pass322").await.unwrap().is_none());
}

#[tokio::test]
async fn users_can_be_added_changed_and_deleted_in_it() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    let store = place.open().await;
    store.add(&name("test1"), &password("x")).await.unwrap();
    assert_eq!(names(&store).await, ["ipc-admin", "test1"]);
    assert!(matches!(
        store.add(&name("ipc-admin"), &password("x")).await,
        Err(StoreError::Taken { username }) if username == name("ipc-admin")
    ));
    store.change_password(&name("ipc-admin"), &password("other")).await.unwrap();
    assert!(store.verify("ipc-admin", "pass321").await.unwrap().is_none());
    assert!(store.verify("ipc-admin", "other").await.unwrap().is_some());
    store.delete("ipc-admin").await.unwrap();
    assert_eq!(names(&store).await, ["test1"]);
}

#[tokio::test]
async fn it_keeps_its_table_so_that_the_python_tool_can_still_read_it() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    let store = place.open().await;
    store.add(&name("test1"), &password("x")).await.unwrap();
    store.close().await;
    let mut raw = place.raw("").await;
    let columns: Vec<String> =
        sqlx::query_scalar("SELECT name || ' ' || type FROM pragma_table_info('users')")
            .fetch_all(&mut raw)
            .await
            .unwrap();
    assert_eq!(columns[..3], ["id INTEGER", "username VARCHAR(80)", "password_hash VARCHAR(128)"]);
    assert!(columns.len() > 3);
    let hash: String =
        sqlx::query_scalar("SELECT password_hash FROM users WHERE username = 'test1'")
            .fetch_one(&mut raw)
            .await
            .unwrap();
    assert!(hash.starts_with("$2b$") && hash.len() == 60);
    // As SQLAlchemy adds a user: with the columns that it knows.
    drop(raw);
    drop(place.raw("INSERT INTO users (username, password_hash) VALUES ('new', 'x')").await);
    let record = place.open().await.list_long().await.unwrap().pop().unwrap();
    assert_eq!(record, UserRecord::new(name("new")));
}

#[tokio::test]
async fn a_file_made_here_begins_with_the_same_columns_in_the_same_order() {
    let place = FilePlace::new();
    place.create().await.close().await;
    let mut raw = place.raw("").await;
    let made = "SELECT name, type, \"notnull\", pk FROM pragma_table_info('users')";
    let made: Vec<(String, String, bool, bool)> =
        sqlx::query_as(made).fetch_all(&mut raw).await.unwrap();
    let column = |name: &str, kind: &str, key| (name.to_owned(), kind.to_owned(), true, key);
    assert_eq!(
        made[..3],
        [
            column("id", "INTEGER", true),
            column("username", "VARCHAR(80)", false),
            column("password_hash", "VARCHAR(128)", false)
        ]
    );
}

#[tokio::test]
async fn the_empty_file_that_the_python_tool_leaves_behind_is_an_empty_store() {
    let place = FilePlace::new();
    std::fs::write(&place.path, b"").unwrap();
    let store = place.open().await;
    assert!(names(&store).await.is_empty());
    store.add(&name("bob"), &password("x")).await.unwrap();
    assert_eq!(names(&store).await, ["bob"]);
}

#[tokio::test]
async fn names_that_could_not_be_added_here_are_neither_listed_nor_let_in() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    drop(
        place
            .raw(
                "INSERT INTO users (username, password_hash)
                 SELECT ' spaced ', password_hash FROM users UNION ALL
                 SELECT 'escape' || char(27), password_hash FROM users;",
            )
            .await,
    );
    let store = place.open().await;
    assert_eq!(names(&store).await, ["ipc-admin"]);
    assert!(store.verify(" spaced ", "pass321").await.unwrap().is_none());
    assert!(store.verify("escape\u{1b}", "pass321").await.unwrap().is_none());
}

#[tokio::test]
async fn an_entry_with_a_name_that_is_bytes_is_left_out_of_the_list_and_deleted_by_that_name() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    drop(
        place
            .raw(
                "INSERT INTO users (username, password_hash)
                 SELECT x'626f62', password_hash FROM users UNION ALL
                 SELECT x'ff00', password_hash FROM users;",
            )
            .await,
    );
    let store = place.open().await;
    assert_eq!(names(&store).await, ["ipc-admin"]);
    assert!(store.verify("bob", "pass321").await.unwrap().is_none());
    store.delete("bob").await.unwrap();
    assert!(matches!(store.delete("bob").await, Err(StoreError::Unknown { .. })));
}

#[tokio::test]
async fn names_that_could_not_be_added_here_can_be_deleted_as_they_are() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    drop(place.raw("UPDATE users SET username = ' a' || char(27) || ' '").await);
    let store = place.open().await;
    let error = store.delete(" a\u{1b}").await.unwrap_err();
    assert_eq!(error.to_string(), r"user  a\u{1b} does not exist");
    store.delete(" a\u{1b} ").await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
        .fetch_one(&mut place.raw("").await)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_hash_stored_as_bytes_lets_its_user_in_and_one_that_is_no_text_does_not() {
    let place = FilePlace::new();
    drop(place.raw(PYTHON_FILE).await);
    drop(
        place
            .raw(
                "UPDATE users SET password_hash = CAST(password_hash AS BLOB);
                 INSERT INTO users (username, password_hash) VALUES ('bob', x'ff00ff');",
            )
            .await,
    );
    let store = place.open().await;
    assert!(store.verify("ipc-admin", "pass321").await.unwrap().is_some());
    assert!(store.verify("bob", "pass321").await.unwrap().is_none());
    store.change_password(&name("bob"), &password("x")).await.unwrap();
    assert!(store.verify("bob", "x").await.unwrap().is_some());
}

/// A name as another program stored it from the keyboard of a Mac, or from a file system: accents
/// are separate characters.
const DECOMPOSED: &str = "Zoe\u{308}";
const COMPOSED: &str = "Zo\u{eb}";

#[tokio::test]
async fn a_user_whose_name_and_password_it_stored_in_another_normal_form_is_found() {
    let place = FilePlace::new();
    let mut raw = place.raw(PYTHON_FILE).await;
    let hash = bcrypt::hash("pa\u{308}ss", 4).unwrap();
    sqlx::query("INSERT INTO users (username, password_hash) VALUES (?, ?)")
        .bind(DECOMPOSED)
        .bind(hash)
        .execute(&mut raw)
        .await
        .unwrap();
    drop(raw);
    let store = place.open().await;
    assert_eq!(names(&store).await, ["ipc-admin", COMPOSED]);
    for username in [COMPOSED, DECOMPOSED] {
        for password in ["p\u{e4}ss", "pa\u{308}ss"] {
            assert!(
                store.verify(username, password).await.unwrap().is_some(),
                "{username:?} {password:?}"
            );
        }
        assert!(store.verify(username, "pass").await.unwrap().is_none());
    }
    assert!(store.current(&name(COMPOSED)).await.unwrap().is_some());
    store.disable(&name(COMPOSED)).await.unwrap();
    assert!(store.verify(DECOMPOSED, "p\u{e4}ss").await.unwrap().is_none());
    store.enable(&name(COMPOSED)).await.unwrap();
    assert!(matches!(
        store.add(&name(COMPOSED), &password("x")).await,
        Err(StoreError::Taken { .. })
    ));
    store.change_password(&name(COMPOSED), &password("n\u{e9}w")).await.unwrap();
    assert!(store.verify(DECOMPOSED, "ne\u{301}w").await.unwrap().is_some());
    assert!(store.verify(DECOMPOSED, "p\u{e4}ss").await.unwrap().is_none());
    store.delete(COMPOSED).await.unwrap();
    assert_eq!(names(&store).await, ["ipc-admin"]);
}

#[tokio::test]
async fn of_two_users_in_both_forms_the_composed_one_counts_and_each_can_be_deleted() {
    let place = FilePlace::new();
    let mut raw = place.raw(PYTHON_FILE).await;
    for (username, word) in [(DECOMPOSED, "old"), (COMPOSED, "new")] {
        sqlx::query("INSERT INTO users (username, password_hash) VALUES (?, ?)")
            .bind(username)
            .bind(bcrypt::hash(word, 4).unwrap())
            .execute(&mut raw)
            .await
            .unwrap();
    }
    drop(raw);
    let store = place.open().await;
    for username in [COMPOSED, DECOMPOSED] {
        assert!(store.verify(username, "new").await.unwrap().is_some());
        assert!(store.verify(username, "old").await.unwrap().is_none());
    }
    store.delete(DECOMPOSED).await.unwrap();
    assert!(store.verify(COMPOSED, "new").await.unwrap().is_some(), "exactly that one was deleted");
    store.delete(COMPOSED).await.unwrap();
    assert_eq!(names(&store).await, ["ipc-admin"]);
}

#[tokio::test]
async fn names_with_characters_that_nobody_sees_are_listed_with_escapes_and_deleted_as_they_are_shown()
 {
    let place = FilePlace::new();
    let mut raw = place.raw(PYTHON_FILE).await;
    let unseen = ["ipc\u{200b}admin", "a\u{202e}b", "\u{ad}c"];
    for username in unseen {
        sqlx::query("INSERT INTO users (username, password_hash) VALUES (?, ?)")
            .bind(username)
            .bind(bcrypt::hash("x", 4).unwrap())
            .execute(&mut raw)
            .await
            .unwrap();
    }
    drop(raw);
    let store = place.open().await;
    let shown = names(&store).await;
    assert_eq!(shown, ["ipc-admin", r"ipc\u{200b}admin", r"a\u{202e}b", r"\u{ad}c"]);
    assert!(store.verify(unseen[0], "x").await.unwrap().is_some(), "who is there may log in");
    store.delete(unseen[0]).await.unwrap();
    store.delete(&shown[2]).await.unwrap();
    store.delete(&shown[3]).await.unwrap();
    assert_eq!(names(&store).await, ["ipc-admin"]);
    assert!(matches!(store.delete(&shown[2]).await, Err(StoreError::Unknown { .. })));
}

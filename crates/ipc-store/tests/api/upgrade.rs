//! A file of the first version, opened by this one, also while servers of the first have it open.

use ipc_sqlite::{Database, DatabaseError, Schema};
use ipc_store::{UserRecord, UserStore};

use crate::support::{FilePlace, name, names, options, password, version};

/// What the first version knew.
const SCHEMA_1: Schema = Schema {
    what: "user database",
    migrations: &[("users", include_str!("../../migrations/0001_users.sql"))],
    tables: &[("users", &["id", "username", "password_hash"])],
};

/// A server of the first version.
struct Old(Database);

impl Old {
    async fn create(place: &FilePlace) -> Self {
        let options = ipc_sqlite::Options::new();
        Self(ipc_sqlite::create(&place.path, &SCHEMA_1, &options).await.unwrap())
    }

    /// Its own statement, which stays prepared.
    async fn add(&self, user: &str) {
        let mut transaction = self.0.begin_write().await.unwrap();
        sqlx::query("INSERT INTO users (username, password_hash) VALUES (?, ?)")
            .bind(user.to_owned())
            .bind(bcrypt::hash("x", 4).unwrap())
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    async fn users(&self) -> i64 {
        self.0.check_file().unwrap();
        let hashes: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT CAST(password_hash AS BLOB) FROM users WHERE username <> ?1 LIMIT 100",
        )
        .bind("")
        .fetch_all(self.0.readers())
        .await
        .unwrap();
        assert!(hashes.iter().all(|hash| hash.len() == 60));
        hashes.len() as i64
    }
}

#[tokio::test]
async fn a_file_of_the_first_version_opens_with_its_users_as_they_are() {
    let place = FilePlace::new();
    let old = Old::create(&place).await;
    old.add("bob").await;
    old.0.close().await.unwrap();
    let store = place.open().await;
    assert_eq!(store.list_long().await.unwrap(), [UserRecord::new(name("bob"))]);
    let login = store.verify("bob", "x").await.unwrap();
    assert!(login.is_some() && version(&store, "bob").await == login);
    store.disable(&name("bob")).await.unwrap();
    assert_eq!(store.verify("bob", "x").await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_has_it_open_meanwhile_goes_on_and_its_changes_arrive() {
    let place = FilePlace::new();
    let old = Old::create(&place).await;
    old.add("before").await;
    assert_eq!(old.users().await, 1);
    let store = place.open().await;
    assert_eq!(old.users().await, 1);
    old.add("after").await;
    assert_eq!(names(&store).await, ["before", "after"]);
    store.add(&name("new"), &password("x")).await.unwrap();
    store.disable(&name("before")).await.unwrap();
    assert_eq!(old.users().await, 3);
    assert!(store.verify("after", "x").await.unwrap().is_some());
    store.close().await;
    old.add("last").await;
    old.0.close().await.unwrap();
    let store = place.open().await;
    assert_eq!(names(&store).await, ["before", "after", "new", "last"]);
    assert_eq!(store.verify("before", "x").await.unwrap(), None, "still disabled");
    // Once upgraded, it is not opened by the first version, which would let the disabled in.
    let again = ipc_sqlite::open(&place.path, &SCHEMA_1, &ipc_sqlite::Options::new()).await;
    assert!(matches!(again, Err(DatabaseError::Newer { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_upgrade_one_file_at_the_same_time_all_succeed() {
    let place = FilePlace::new();
    let old = Old::create(&place).await;
    old.add("bob").await;
    let openers: Vec<_> = (0..8)
        .map(|number| {
            let path = place.path.clone();
            tokio::spawn(async move {
                let store = options().open(path).await.unwrap();
                store.add(&name(&format!("user{number}")), &password("x")).await.unwrap();
            })
        })
        .collect();
    for opener in openers {
        opener.await.unwrap();
    }
    assert_eq!(names(&place.open().await).await.len(), 9);
    assert_eq!(old.users().await, 9);
}

#[tokio::test]
async fn a_copy_of_a_file_of_the_first_version_is_one_too_and_leaves_it_as_it_is() {
    let place = FilePlace::new();
    let old = Old::create(&place).await;
    old.add("bob").await;
    let copy = place.dir.path().join("copy.db");
    ipc_store::copy(&place.path, &copy).await.unwrap();
    assert_eq!(names(&options().open(&copy).await.unwrap()).await, ["bob"]);
    let options = ipc_sqlite::Options::new();
    let still = ipc_sqlite::open(&place.path, &SCHEMA_1, &options).await;
    assert!(still.is_ok(), "the copy upgraded it");
}

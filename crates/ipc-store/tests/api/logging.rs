//! What is logged at the most verbose level.

use std::sync::Mutex;

use ipc_store::UserStore;

use crate::support::{FilePlace, name, password};

struct Collector(Mutex<String>);

static COLLECTOR: Collector = Collector(Mutex::new(String::new()));

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push_str(&format!("{} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Other tests of this binary also log while this one runs, which only makes it stricter.
#[tokio::test]
async fn neither_a_password_nor_a_hash_is_logged_at_any_level() {
    log::set_logger(&COLLECTOR).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let place = FilePlace::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("pass-that-nobody-may-see")).await.unwrap();
    store.add(&name("bob"), &password("pass-that-nobody-may-see")).await.unwrap_err();
    store.change_password(&name("bob"), &password("pass-that-nobody-may-see-2")).await.unwrap();
    store.verify("bob", "pass-that-nobody-may-see").await.unwrap();
    store.list().await.unwrap();
    store.delete("bob").await.unwrap();
    drop(
        place
            .raw("INSERT INTO users (username, password_hash) VALUES ('eve', '$2b$no'), (' x', '$2b$no')")
            .await,
    );
    store.verify("eve", "pass-that-nobody-may-see").await.unwrap();
    store.list().await.unwrap();
    store.close().await;

    let log = COLLECTOR.0.lock().unwrap();
    // The two warnings prove that the log is captured.
    assert!(log.contains("of user eve is not a bcrypt hash"), "{log}");
    assert!(log.contains("1 of 2 entries left out, whose names cannot log in: ` x`"), "{log}");
    // sqlx logs the statements that the tests run beside the store, with their text. The store's
    // own statements are not logged.
    let own = log
        .lines()
        .filter(|line| !line.contains("INSERT INTO users (username, password_hash) VALUES"));
    for line in own {
        assert!(!line.contains("pass-that-nobody") && !line.contains("$2b$"), "{line}");
    }
}

//! No log has a secret, at any level, of this crate or of the libraries below it.
#![allow(clippy::unwrap_used)]

use ipc_client::ProblemCode;
use serde_json::json;

use crate::fake::{Answer, Fake, TOKEN, counted, problem, success};
use crate::fixture::{KEY, PASSWORD, Place};
use crate::logged;

#[test]
fn no_secret_is_logged_at_any_level() {
    logged::watch();
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => Answer::Close,
            1 => problem(ProblemCode::InboxFull, ""),
            _ => success(),
        }),
    );
    place.client(&fake).send(&json!({"text": "what-the-message-says"})).wait().unwrap();
    let error = place
        .builder(&fake)
        .credentials("test1", "another-password")
        .plaintext_bytes_max(100)
        .build()
        .unwrap()
        .blocking()
        .send(&json!({"text": "what-the-message-says"}))
        .wait()
        .unwrap_err();
    let log = format!("{}{error:?}", logged::so_far());
    assert!(
        log.contains(
            "INFO ipc_client::exchange::login [419] Authentication timeout, re-authenticating"
        ),
        "{log}"
    );
    assert!(log.contains("TRACE"), "the libraries below log here too");
    for secret in [PASSWORD, TOKEN, KEY, "another-password", "what-the-message-says"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

//! Tests the `tracing` spans and events of a request and of a channel.
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ipc_client::Client;
use ipc_server::Server;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Records spans and events of the server, one line for each.
#[derive(Clone, Default)]
struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
}

impl Notes {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn has(&self, parts: &[&str]) -> bool {
        let lines = self.lines.lock().unwrap();
        lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

/// Fields as `name=value`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "web_ipc::server"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text(format!("span {}", span.metadata().name()));
        span.record(&mut text);
        self.note(text.0);
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        let mut text = Text("record".to_owned());
        values.record(&mut text);
        self.note(text.0);
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text("event".to_owned());
        event.record(&mut text);
        self.note(text.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[tokio::test]
async fn requests_and_channels_have_a_span_each_and_no_body_is_in_any() {
    let notes = Notes::default();
    tracing::subscriber::set_global_default(notes.clone()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let options = ipc_setup::InitOptions::now();
    let init = move || ipc_setup::init(&path, &options).unwrap().home;
    let home = tokio::task::spawn_blocking(init).await.unwrap();
    let server =
        Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await.unwrap();
    let client = Client::builder(&home).server("localhost", server.address()).build().unwrap();
    // The client sends the first message by POST, the second over a channel.
    for secret in ["one secret", "another secret"] {
        client.send(&json!({ "text": secret })).await.unwrap();
    }
    server.stop().await;

    assert!(notes.has(&["span request", "method=\"POST\"", "path=\"/message/submit\"", "peer="]));
    assert!(notes.has(&["record", "status=200"]));
    assert!(notes.has(&["span channel", "peer="]));
    assert!(notes.has(&["frame admitted", "user=\"ipc-admin\"", "entries=1", "requests=0"]));
    assert!(notes.has(&["channel closed", "code=1001"]));
    assert!(!notes.has(&["secret"]));
}

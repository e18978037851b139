//! Tests the inbox on nats-server processes of their own, with the suite of all inboxes and with
//! what only this one does. Where nats-server is not installed, they are ignored.
#![allow(clippy::unwrap_used)]

mod cluster;
mod nats;
mod outages;
mod sharing;
#[path = "../../../ipc-inbox/tests/api/suite.rs"]
mod suite;
#[allow(dead_code)]
#[path = "../../../ipc-inbox/tests/api/support.rs"]
mod support;

use support::Both;

suite::whole_suite!(
    cfg_attr(no_nats_server, ignore = "nats-server is not installed"),
    on_jetstream,
    super::jetstream
);

/// An inbox of its own on the server that these tests share.
async fn jetstream(messages_max: usize) -> Both {
    let options = nats::shared().options(&nats::name());
    options.messages_max(messages_max as u64).open().await.unwrap().into()
}

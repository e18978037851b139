//! The web-ipc client: delivers JSON objects to a server's inbox over HTTPS with mutual TLS,
//! encrypted and exactly once.
//!
//! A program that sends needs this crate and a [`Home`](ipc_home::Home), and no other crate of the
//! workspace. This crate does not depend on the server. It knows no passwords but the one for its
//! own login.
//!
//! | you want | take |
//! |---|---|
//! | to send from async code, on any runtime | [`Client::send`] |
//! | to get a reply from the application | [`Client::request`], which gives a [`Reply`] |
//! | to send many messages, fast and in order | [`Client::send_all`], or [`Client::send_all_stream`] |
//! | to send from code that runs on actix, or in a tokio `LocalSet` | [`LocalClient`], which has no thread of its own |
//! | to send from code that is not async | [`blocking::Client`] |
//! | to send from the home of an enrolled client | [`Client::builder`], without naming a server |
//! | another user, certificate, timeout … | [`ClientBuilder`], from [`Client::builder`] |
//! | to renew the certificate of an enrolled client | [`Client::renew`], which gives a [`Renewal`] |
//! | to send to a server of the Python tool | `ClientBuilder::python_compat`, with the feature `python-compat` |
//! | to know what became of a message that failed | [`SendError::outcome`] |
//! | to tell a person what to do about it | [`SendError::remedy`], [`BuildError::remedy`] |
//!
//! A client has one thread of its own, one channel (a WebSocket) that carries its messages, a few
//! connections for messages that are too large for the channel, and one session, which it renews
//! when the server says that it has expired (status 419). It speaks HTTP/1.1 over TLS 1.2 or 1.3.
//! It connects to the given address and verifies the given name. `docs/protocol.md` specifies the
//! wire format.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("home");
//! # let home = ipc_setup::init(&path, &ipc_setup::InitOptions::now())?.home;
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # let server = ipc_server::Server::builder(&home).name("localhost").bind("127.0.0.1:0");
//! # let server = runtime.block_on(server.start())?;
//! # let address = server.address();
//! use ipc_client::Client;
//! use serde_json::json;
//!
//! # runtime.block_on(async {
//! // `Home::open_default()` finds the user's own home; the address is often "127.0.0.1:3000".
//! let client = Client::builder(&home).server("localhost", address).build()?;
//! let sent = client.send(&json!({"test": 1})).await?;
//! println!("the server has message {}", sent.id);
//!
//! // A failure says what became of the message and what to do about it.
//! if let Err(error) = client.send(&json!(["no", "object"])).await {
//!     println!("{error}: {:?}, {:?}", error.outcome(), error.remedy());
//!     assert_eq!(error.outcome(), ipc_client::Outcome::Refused);
//! }
//!
//! // Many messages: a batch at a time, in order.
//! let report = client.send_all((2..=4).map(|n| json!({"test": n}))).await?;
//! println!("{} sent, {} refused", report.sent, report.refused);
//! # for test in 1..=4 {
//! #     let delivery = server.inbox().recv().await.ok_or("nothing arrived")?;
//! #     assert_eq!(delivery.body(), format!(r#"{{"test":{test}}}"#));
//! #     delivery.ack().await?;
//! # }
//!
//! // A message that asks for a reply.
//! # let inbox = server.inbox().clone();
//! # tokio::spawn(async move {
//! #     if let Some(delivery) = inbox.recv().await {
//! #         delivery.reply(&json!({"time": "noon"})).await.ok();
//! #     }
//! # });
//! let reply = client.request(&json!({"what": "time"})).await?;
//! println!("the reply is {}", reply.body());
//! # assert_eq!(reply.body(), r#"{"time":"noon"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//!
//! // The same without async.
//! # let client = Client::builder(&home).server("localhost", address).build()?;
//! let client = client.blocking();
//! client.send(&json!({"test": 5})).wait()?;
//! client.send_all([json!({"test": 6})]).wait()?;
//! # runtime.block_on(async {
//! #     let mut inbox = server.inbox();
//! #     for test in [5, 6] {
//! #         let delivery = inbox.recv().await.ok_or("nothing arrived")?;
//! #         assert_eq!(delivery.body(), format!(r#"{{"test":{test}}}"#));
//! #         delivery.ack().await?;
//! #     }
//! #     server.stop().await;
//! #     Ok::<(), Box<dyn std::error::Error>>(()) })
//! # }
//! ```

#[cfg(feature = "blocking")]
pub mod blocking;
mod build_error;
mod builder;
mod call;
mod channel;
mod client;
mod clock;
mod config;
mod engine;
mod error;
mod exchange;
mod local;
mod log_throttle;
#[cfg(test)]
mod logged;
mod random;
mod receipt;
mod renew_call;
mod renewal;
mod sealer;
mod send_all;
mod source;
mod transport;
mod worker;

pub use build_error::BuildError;
pub use builder::{CONNECTIONS_MAX_DEFAULT, ClientBuilder, IntoAddresses, TIMEOUT_DEFAULT};
pub use client::{Client, REPLY_TIMEOUT_DEFAULT, RequestCall, SendCall};
pub use error::{CredentialsOrigin, NoReply, Outcome, PythonFault, SendError, Speaks};
pub use ipc_base::{CertificateProblem, ModeChange, Place, Remedy};
pub use ipc_home::{Home, HomeError, NameError, PeerName};
pub use ipc_protocol::{
    BATCH_MESSAGES_MAX_DEFAULT, BodyError, DEADLINE_SECS_MAX as TIMEOUT_SECS_MAX, MessageId,
    ProblemCode, Protocol,
};
pub use local::LocalClient;
pub use receipt::{ParseError, Probe, Reply, Sent};
pub use renew_call::RenewCall;
pub use renewal::{NodeRenewal, Renewal};
pub use send_all::{
    BATCH_BYTES_DEFAULT, BATCH_MESSAGES_DEFAULT, Items, Progress, REFUSALS_KEPT_MAX, Refusal,
    Report, SendAll, SendAllError,
};
pub use source::IDENTITY_DEFAULT;

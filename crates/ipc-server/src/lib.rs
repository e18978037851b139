//! The receiving end of web-ipc: an HTTPS server with mutual TLS. It opens the sealed messages of
//! known users and puts each message into the application's inbox exactly once.
//!
//! * [`Server::builder`] configures a server with a [`Home`](ipc_home::Home), and
//!   [`ServerBuilder::start`] starts it
//! * [`Server::inbox`] returns the inbox from which the application takes its messages
//! * [`Server::observer`] returns a handle that reads the server's figures
//! * [`blocking::Server`] is the same for programs that are not async
//!
//! The server runs on threads of its own, so the application may use any async runtime or none. No
//! type of the libraries underneath (actix-web, rustls, sqlx) is in the public API. The server
//! makes neither certificates nor users; `ipc-setup` does.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("home");
//! # ipc_setup::init(&path, &ipc_setup::InitOptions::now())?;
//! # let home = ipc_home::Home::open(&path)?;
//! # let runtime = tokio::runtime::Runtime::new()?;
//! use ipc_server::Server;
//!
//! # runtime.block_on(async {
//! let server = Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await?;
//! println!("listening on {}", server.address());
//! # let (address, task) = (server.address().to_string(), home.clone());
//! # let sender = tokio::spawn(async move {
//! #     let client = ipc_client::Client::builder(&task).server("localhost", &address).build().unwrap();
//! #     client.send(&serde_json::json!({"test": 1})).await.unwrap();
//! # });
//! while let Some(delivery) = server.inbox().recv().await {
//!     println!("{} from {}", delivery.body(), delivery.user());
//! #   assert_eq!((delivery.body(), delivery.user()), (r#"{"test":1}"#, "ipc-admin"));
//!     delivery.ack().await?;
//! #   break;
//! }
//! # sender.await?;
//! server.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })
//! # }
//! ```

mod admit;
mod answer;
mod answer_body;
mod authenticate;
#[cfg(feature = "blocking")]
pub mod blocking;
mod builder;
mod channel;
mod clock;
mod connection_slots;
mod error;
mod following;
mod framing;
mod gate;
mod handshake;
mod http;
mod inbox_refusal;
mod listen;
mod login_ids;
mod login_notes;
mod login_permits;
mod login_slowdown;
mod login_throttle;
mod memory_budget;
mod observer;
mod oldest;
mod open_files;
mod peer;
mod prefer;
#[cfg(feature = "python-compat")]
mod python;
#[cfg(feature = "python-compat")]
mod python_ids;
#[cfg(feature = "python-compat")]
mod python_sessions;
mod rate_limited_log;
mod recent_ids;
mod refusal;
mod renewal;
mod reply_body;
mod request_body;
mod request_head;
mod routes;
mod sealed_body;
mod server;
mod session;
mod spans;
mod state;
mod statistics;
mod stopping;
mod timeouts;
mod trust;
mod users;
mod validity;
mod write_progress;

pub use builder::ServerBuilder;
pub use error::StartError;
pub use ipc_base::{
    CertificateIssuer, ModeChange, Place, Remedy, RenewalError, RenewalQuery, Renewed, RenewedPeer,
};
pub use ipc_home::{Home, HomeError, NameError, PeerName};
pub use ipc_inbox::{
    AckError, DeadLetter, DeadLetterId, DeadReason, Delivery, DurableOptions, Histogram, Inbox,
    InboxBackend, InboxChoice, InboxSender, InboxStatistics, InboxStatus, MemoryOptions, Message,
    NoReply, NotifyGuard, OpenError, ParseError, Pending, Put, PutError, Replies, ReplyError,
    StorageError, Taken,
};
pub use ipc_protocol::{Fingerprint, MessageId, ProblemCode, Protocol};
pub use ipc_store::{
    BoxFuture, CredentialVersion, DatabaseError, Password, PasswordError, SqliteUserStore,
    StoreError, UserStore, Username, UsernameError,
};
pub use observer::{NotReady, Observer};
pub use open_files::open_files_needed;
pub use server::Server;
pub use statistics::{RecentRefusal, SeenPeer, ServerStatistics};

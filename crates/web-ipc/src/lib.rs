//! Delivers JSON messages between processes over HTTPS with mutual TLS.
//!
//! This is the one crate that a program depends on. It has no code of its own: it re-exports the
//! home and both ends.
//!
//! ```console
//! $ cargo add web-ipc
//! ```
//!
//! | you want | take | feature |
//! |---|---|---|
//! | the directory with keys and certificates | [`Home`], [`home`] | always there |
//! | to send messages and requests | [`Client`], [`LocalClient`], [`client`] | `client` (default) |
//! | to renew the certificate of an enrolled client | [`Client::renew`], [`client::Renewal`] | `client` (default) |
//! | to receive them | [`Server`], [`Inbox`], [`Delivery`], [`server`] | `server` (default) |
//! | an inbox that several servers share | `jetstream::JetStreamOptions` | `jetstream` |
//! | users that several servers share | `postgres::PostgresUserStore` | `postgres` |
//! | the same without async | `blocking` | `blocking` (default) |
//! | to make a home, certificates and users | `setup` | `setup` |
//! | metrics and a status page of a server | `monitor::Monitor` | `monitor` |
//! | messages of the unmodified Python tool | `ServerBuilder::python_compat` | `python-compat` |
//! | certificates that are renewed while a program runs | `renewal::Renewing` | `renewal` |
//!
//! A home is made once, with `web-ipc --init --run` on the command line or with `setup::init`. The
//! receiving program and the sending programs open it:
//!
//! ```
//! use serde_json::json;
//! use web_ipc::{Client, Home, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let (path, options) = (directory.path().join("home"), ipc_setup::InitOptions::now());
//! # let home = ipc_setup::init(&path, &options)?.home;
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // `Home::open_default()` opens the home of this user.
//! let server = Server::builder(&home).name("localhost").bind("127.0.0.1:0").start().await?;
//!
//! let client = Client::builder(&home).server("localhost", server.address()).build()?;
//! client.send(&json!({"job": "nightly", "ok": true})).await?;
//!
//! let delivery = server.inbox().recv().await.ok_or("the inbox is closed")?;
//! assert_eq!(delivery.body(), r#"{"job":"nightly","ok":true}"#);
//! delivery.ack().await?;
//! server.stop().await;
//! # Ok(()) })
//! # }
//! ```
//!
//! `docs/delivery.md` says what is promised for a message, `docs/protocol.md` specifies what goes
//! over the wire. The programs in `examples/` are ten lines each.
//!
//! # Features
//! - `client` (default): the sending end. It builds neither a database nor OpenSSL.
//! - `server` (default): the receiving end.
//! - `blocking` (default): both ends for programs that are not async.
//! - `jetstream`: an inbox on NATS JetStream, which several servers share. `docs/jetstream.md` has
//!   a program.
//! - `postgres`: users in PostgreSQL, for several servers. `docs/postgresql.md` has a program. With
//!   `setup` too, homes whose users are there can be made and managed.
//! - `setup`: makes homes, certificates and users. It links OpenSSL.
//! - `renewal`: keeps the certificates of a home renewed, also of an enrolled client's. It has
//!   `client` and `setup` with it.
//! - `monitor`: metrics for Prometheus, health checks and a status page of a server.
//! - `python-compat`: a server that is told to takes messages of the unmodified Python tool too.
//! - `tracing`: the server's spans and events for a subscriber of `tracing`. Its `log` lines
//!   remain.
//! - `vendored`: builds this OpenSSL from source, with `make` and `perl`.

pub use ipc_home::Home;

/// The home: its paths, keys and certificates. Re-exports all of `ipc-home`.
pub mod home {
    pub use ipc_home::*;
}

#[cfg(feature = "client")]
pub use ipc_client::{Client, LocalClient};

/// The sending end. Re-exports all of `ipc-client`.
#[cfg(feature = "client")]
pub mod client {
    pub use ipc_client::*;
}

#[cfg(feature = "server")]
pub use ipc_server::{Delivery, Inbox, Server};

/// The receiving end. Re-exports all of `ipc-server`.
#[cfg(feature = "server")]
pub mod server {
    pub use ipc_server::*;
}

/// An inbox on NATS JetStream. Re-exports all of `ipc-inbox-jetstream`.
#[cfg(feature = "jetstream")]
pub mod jetstream {
    pub use ipc_inbox_jetstream::*;
}

/// Users in PostgreSQL. Re-exports all of `ipc-store-postgres`.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use ipc_store_postgres::*;
}

/// Makes homes, certificates and users. Re-exports all of `ipc-setup`.
#[cfg(feature = "setup")]
pub mod setup {
    pub use ipc_setup::*;
}

/// Keeps the certificates of a home renewed. Re-exports all of `ipc-renewal`.
#[cfg(feature = "renewal")]
pub mod renewal {
    pub use ipc_renewal::*;
}

/// Metrics, health checks and a status page of a server. Re-exports all of `ipc-monitor`.
#[cfg(feature = "monitor")]
pub mod monitor {
    pub use ipc_monitor::*;
}

/// Clients and servers for programs that are not async.
#[cfg(feature = "blocking")]
pub mod blocking {
    #[cfg(feature = "client")]
    pub use ipc_client::blocking::Client;
    #[cfg(feature = "server")]
    pub use ipc_server::blocking::Server;
}

/// The programs in the pages of this repository, which `cargo test --doc` compiles.
#[cfg(all(doctest, feature = "client", feature = "server"))]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/delivery.md")]
    struct Delivery;

    #[cfg(feature = "jetstream")]
    #[doc = include_str!("../../../docs/jetstream.md")]
    struct JetStream;

    #[cfg(feature = "postgres")]
    #[doc = include_str!("../../../docs/postgresql.md")]
    struct PostgreSql;
}

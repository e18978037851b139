//! Shows what a web-ipc server does: metrics for Prometheus, health checks for those who start and
//! balance servers, and a status page for people.
//!
//! A [`Monitor`] listens on plain HTTP, on a thread of its own:
//!
//! * `/metrics` has the figures in the text format of OpenMetrics 1.0, which Prometheus reads
//! * `/healthz` answers 200 while the process runs
//! * `/readyz` answers 200 if the server should get clients, and 503 with the reasons if not
//! * `/` is a page with rates, latencies, peers, certificates, refusals and dead letters; it gets
//!   its numbers from `/events`, as server-sent events
//!
//! Nothing of it shows a message's body, a key or a password. It does show the names of peers and
//! users, and their addresses, to everybody who can connect. It therefore listens on loopback,
//! unless [`MonitorBuilder::allow_remote`] says otherwise. There a request whose `Host` is not an
//! address or `localhost` is refused, so that no web site can read the page through a visitor's
//! browser.
//!
//! ```no_run
//! # async fn example(server: &ipc_server::Server) -> Result<(), ipc_monitor::MonitorError> {
//! use ipc_monitor::Monitor;
//!
//! let monitor = Monitor::builder().bind("127.0.0.1:9464").start(server.observer())?;
//! println!("http://{}/", monitor.address());
//! # Ok(())
//! # }
//! ```

mod certificates;
mod http;
mod metrics;
mod monitor;
mod snapshot;
mod wire;

pub use certificates::MonitoredCertificate;
pub use monitor::{Monitor, MonitorBuilder, MonitorError, MonitorListener};

//! The compared workloads behind one interface.
//!
//! The client uses it. A new workload needs a new [`Workload`], a new [`Sender`], and an arm in
//! each function.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipc_client::{Client, LocalClient};
use ipc_home::Home;
use rustls::ClientConfig;
use tokio::time::Interval;

use crate::body::Body;
use crate::failure::Failure;
use crate::gauge::Gauge;
use crate::raw_client::RawClient;
use crate::raw_server;
use crate::tls::Material;

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// The bare client, to the bare server.
    Raw,
    /// `LocalClient::send`.
    Local,
    /// `Client::send`.
    Send,
    /// `Client::send` without a channel: each message goes by POST.
    Post,
    /// `Client::send_all`, which never ends.
    SendAll,
    /// `Client::request`, answered by the application.
    Request,
}

impl FromStr for Workload {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "raw" => Ok(Workload::Raw),
            "local" => Ok(Workload::Local),
            "send" => Ok(Workload::Send),
            "post" => Ok(Workload::Post),
            "send_all" => Ok(Workload::SendAll),
            "request" => Ok(Workload::Request),
            _ => Err(()),
        }
    }
}

/// How each message is sent: the connection it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cold {
    /// A new client, which makes a full handshake.
    Full,
    /// A new client that resumes the TLS session of the one before.
    Resumed,
}

impl FromStr for Cold {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "full" => Ok(Cold::Full),
            "resumed" => Ok(Cold::Resumed),
            _ => Err(()),
        }
    }
}

/// Everything that is needed to make senders.
pub(crate) struct SenderConfig {
    pub(crate) workload: Workload,
    pub(crate) home: Home,
    pub(crate) address: SocketAddr,
    pub(crate) bytes: usize,
    pub(crate) in_flight: usize,
    /// Messages in a batch.
    pub(crate) batch: usize,
    /// The number of connections of web-ipc's client, if not its default. The bare client has one
    /// for each message in flight.
    pub(crate) connections: Option<usize>,
    pub(crate) cold: Option<Cold>,
}

/// A client that sends one of the workloads.
pub(crate) enum Sender {
    Raw { client: RawClient, body: Bytes },
    Local { client: LocalClient, body: Body },
    Send { client: Client, body: Body },
    SendAll { client: Client, body: Body, batch: usize },
    Request { client: Client, body: Body },
}

/// Makes senders.
pub(crate) struct SenderFactory {
    config: SenderConfig,
    material: Material,
    body: Body,
    text: Bytes,
    /// The TLS configuration, with its sessions, of the bare clients that resume.
    resumable_config: Arc<ClientConfig>,
}

impl SenderFactory {
    /// Reads the files that a sender needs.
    pub(crate) fn new(config: SenderConfig) -> Result<Self, Failure> {
        let ipc_resumes = config.cold == Some(Cold::Resumed) && config.workload != Workload::Raw;
        if ipc_resumes {
            return Err("a new client of web-ipc has no TLS session to resume".into());
        }
        let material = Material::read(&config.home, "localhost")?;
        let body = Body::of_bytes(config.bytes)?;
        let text = Bytes::from(serde_json::to_vec(&body)?);
        let resumable_config = material.client_config()?;
        Ok(SenderFactory { config, material, body, text, resumable_config })
    }

    /// A new sender, without a connection.
    pub(crate) fn make(&self) -> Result<Sender, Failure> {
        let SenderConfig { workload, home, address, in_flight, batch, connections, cold, .. } =
            &self.config;
        let builder = || {
            let builder = Client::builder(home).server("localhost", address);
            match connections {
                Some(connections) => builder.connections_max(*connections),
                None => builder,
            }
        };
        let client = || builder().build();
        Ok(match workload {
            Workload::Raw => {
                let config = match cold {
                    Some(Cold::Full) => self.material.client_config()?,
                    Some(Cold::Resumed) | None => Arc::clone(&self.resumable_config),
                };
                let client = RawClient::new(*address, raw_server::PATH, config, *in_flight)?;
                Sender::Raw { client, body: self.text.clone() }
            }
            Workload::Local => {
                Sender::Local { client: builder().build_local()?, body: self.body.clone() }
            }
            Workload::Send => Sender::Send { client: client()?, body: self.body.clone() },
            Workload::Post => {
                let client = builder().channel(false).build()?;
                Sender::Send { client, body: self.body.clone() }
            }
            Workload::SendAll => {
                Sender::SendAll { client: client()?, body: self.body.clone(), batch: *batch }
            }
            Workload::Request => Sender::Request { client: client()?, body: self.body.clone() },
        })
    }
}

impl Sender {
    /// Sends one message and waits for its answer.
    pub(crate) async fn once(&self) -> Result<(), Failure> {
        match self {
            Sender::Raw { client, body } => match client.post(body.clone()).await? {
                200 => Ok(()),
                status => Err(format!("the server answered {status}").into()),
            },
            Sender::Send { client, body } | Sender::SendAll { client, body, .. } => {
                client.send(body).await?;
                Ok(())
            }
            Sender::Local { client, body } => {
                client.send(body).await?;
                Ok(())
            }
            Sender::Request { client, body } => {
                client.request(body).await?;
                Ok(())
            }
        }
    }

    /// Sends one message after the other until the gauge is over, with a pace one at each of its
    /// ticks. A batch has no pace.
    pub(crate) async fn keep_sending(
        &self,
        gauge: &Gauge,
        mut pace: Option<Interval>,
    ) -> Result<(), Failure> {
        let Sender::SendAll { client, body, batch } = self else {
            while !gauge.is_over() {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                let sent_at = Instant::now();
                self.once().await?;
                gauge.note(sent_at, 1);
            }
            return Ok(());
        };
        // One batch is in flight at a time: a batch takes from one answer to the next.
        let mut answered_at = Instant::now();
        let messages = std::iter::from_fn(|| (!gauge.is_over()).then_some(body));
        let sending = client.send_all(messages).batch_messages(*batch).on_progress(|answered| {
            gauge.note(answered_at, answered.end - answered.first);
            answered_at = Instant::now();
        });
        let report = sending.await?;
        match report.refusals.into_iter().next() {
            None => Ok(()),
            Some(refusal) => Err(refusal.error.into()),
        }
    }

    /// How many handshakes resumed an earlier session, if known.
    pub(crate) fn resumed(&self) -> u64 {
        match self {
            Sender::Raw { client, .. } => client.resumed(),
            _ => 0,
        }
    }
}

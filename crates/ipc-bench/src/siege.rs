//! A peer that takes what a server has: connections on which nothing comes, or a byte a second, and
//! logins with wrong passwords at a fixed rate, all with one certificate.
//!
//! A connection that the server closes is opened again at once. Logins do not wait for the answers
//! of those before them. They are of users that exist and of users that do not, in turn.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipc_home::Home;
use ipc_protocol::{MessageId, Route};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;
use crate::flood::login;
use crate::options::Options;
use crate::raw_client::RawClient;
use crate::tls::Material;

/// The pause between two bytes of a slow connection.
const BYTE_EVERY: Duration = Duration::from_secs(1);

/// The pause before another attempt, where no connection could be made.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How many logins wait for their answers at most. Beyond that a login is skipped, and counted.
const LOGINS_MAX: usize = 128;

/// A user that every home has.
const EXISTING_USER: &str = "ipc-admin";

/// What has happened so far.
#[derive(Default)]
struct Counts {
    /// Connections that are open now.
    open: Cell<usize>,
    /// Connections that were opened.
    opened: Cell<u64>,
    /// Channels among them.
    channels: Cell<u64>,
    /// Attempts at a connection that failed.
    failed: Cell<u64>,
    wrong: Cell<u64>,
    too_many: Cell<u64>,
    other: Cell<u64>,
    skipped: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// What comes on a connection after its handshake.
#[derive(Clone, Copy)]
enum Kind {
    Nothing,
    /// A request's head, a byte a second.
    SlowHead,
    /// A request's body, a byte a second.
    SlowBody,
    /// A channel's message, a byte a second.
    SlowChannel,
}

impl Kind {
    fn of(number: usize) -> Self {
        [Kind::Nothing, Kind::SlowHead, Kind::SlowBody, Kind::SlowChannel][number % 4]
    }

    /// What comes at once, and what comes slowly after it.
    fn bytes(self, host: &str) -> (String, Vec<u8>) {
        let post = format!("POST {} HTTP/1.1\r\nHost: {host}\r\n", Route::MessageSubmit.path());
        match self {
            Kind::Nothing => (String::new(), Vec::new()),
            Kind::SlowHead => (String::new(), format!("{post}X-Slow: {}", "a".repeat(1000)).into()),
            Kind::SlowBody => {
                let head = format!(
                    "{post}Content-Type: application/octet-stream\r\nContent-Length: 8192\r\n\r\n"
                );
                (head, vec![0x80; 8192])
            }
            Kind::SlowChannel => {
                let head = format!(
                    "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: web-ipc.1\r\n\r\n",
                    Route::MessageChannel.path()
                );
                // A masked binary message of 8192 bytes.
                let mut message = vec![0x82, 0x80 | 126, 0x20, 0, 1, 2, 3, 4];
                message.resize(message.len() + 8192, 0x80);
                (head, message)
            }
        }
    }
}

/// Besieges until SIGTERM, then prints what became of it. Prints `besieging` once all connections
/// are open.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let identity: String = options.get("identity")?.unwrap_or_else(|| "localhost".to_owned());
    let address: SocketAddr = options.required("address")?;
    let connections: usize = options.get("connections")?.unwrap_or(250);
    let logins: u32 = options.get("logins")?.unwrap_or(50);
    options.refuse_unused()?;
    let ring = Arc::new(home.envelope_keys()?);
    let material = Material::read(&home, &identity)?;
    actix_rt::Runtime::new()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let (counts, is_complete) = (Rc::new(Counts::default()), Rc::new(Notify::new()));
        for number in 0..connections {
            // Each has no TLS session to resume.
            let connector = TlsConnector::from(material.client_config()?);
            let (counts, is_complete) = (Rc::clone(&counts), Rc::clone(&is_complete));
            actix_rt::spawn(async move {
                loop {
                    match connect(address, &connector).await {
                        Ok(stream) => {
                            add(&counts.opened);
                            counts.open.set(counts.open.get() + 1);
                            if counts.open.get() == connections {
                                is_complete.notify_one();
                            }
                            hold(stream, Kind::of(number), address, &counts).await;
                            counts.open.set(counts.open.get() - 1);
                        }
                        Err(_) => {
                            add(&counts.failed);
                            actix_rt::time::sleep(AGAIN_AFTER).await;
                        }
                    }
                }
            });
        }
        if connections > 0 {
            is_complete.notified().await;
        }
        println!("besieging");
        let path = Route::ClientAuth.path();
        let client = Rc::new(RawClient::new(address, path, material.client_config()?, LOGINS_MAX)?);
        let waiting = Rc::new(Cell::new(0));
        let mut clock = actix_rt::time::interval(Duration::from_secs(1) / logins.max(1));
        let mut is_known = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = clock.tick(), if logins > 0 => {}
            }
            if waiting.get() >= LOGINS_MAX {
                add(&counts.skipped);
                continue;
            }
            is_known = !is_known;
            let known = |id: MessageId| match is_known {
                true => EXISTING_USER.to_owned(),
                false => format!("nobody-{id}"),
            };
            let login = login(&ring, known)?;
            let (client, counts, waiting) =
                (Rc::clone(&client), Rc::clone(&counts), Rc::clone(&waiting));
            waiting.set(waiting.get() + 1);
            actix_rt::spawn(async move {
                match client.post(login).await {
                    Ok(401) => add(&counts.wrong),
                    Ok(429) => add(&counts.too_many),
                    Ok(_) | Err(_) => add(&counts.other),
                }
                waiting.set(waiting.get() - 1);
            });
        }
        println!(
            "{}",
            json!({
                "open": counts.open.get(), "opened": counts.opened.get(), "failed": counts.failed.get(),
                "channels": counts.channels.get(), "wrong": counts.wrong.get(),
                "too_many": counts.too_many.get(), "other": counts.other.get(),
                "skipped": counts.skipped.get(),
            })
        );
        Ok(())
    })
}

async fn connect(
    address: SocketAddr,
    connector: &TlsConnector,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(connector.connect(ServerName::try_from("localhost")?, tcp).await?)
}

/// Uses a connection until the server ends it.
async fn hold(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kind: Kind,
    address: SocketAddr,
    counts: &Counts,
) {
    let (at_once, slowly) = kind.bytes(&format!("localhost:{}", address.port()));
    // An error is the end of the connection.
    if stream.write_all(at_once.as_bytes()).await.is_err() {
        return;
    }
    let mut slowly = slowly.into_iter();
    let mut clock = actix_rt::time::interval(BYTE_EVERY);
    let mut buffer = [0; 1024];
    loop {
        let byte = tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    if buffer[..read].starts_with(b"HTTP/1.1 101 ") {
                        add(&counts.channels);
                    }
                    continue;
                }
            },
            _ = clock.tick(), if slowly.len() > 0 => slowly.next(),
        };
        if let Some(byte) = byte
            && (stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err())
        {
            return;
        }
    }
}

//! A client of a channel that writes its own WebSocket frames, valid and invalid ones.

use std::time::Duration;

use ipc_envelope::Freshness;
use ipc_protocol::{
    ChannelLimits, Frame, MessageId, Route, write_channel_entry, write_channel_frame,
    write_frame_around,
};
use ipc_server::Server;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::fixture::*;

/// How long a test waits for a frame before it fails.
const SOON: Duration = Duration::from_secs(20);

pub(crate) const BINARY: u8 = 0x2;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
pub(crate) const CLOSE: u8 = 0x8;

/// The headers of a valid handshake.
pub(crate) const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: web-ipc.1\r\n";

/// A frame that was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WsFrame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// The server's answers to entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The first number, the last number and the code.
    pub(crate) settled: Vec<(u64, u64, String)>,
    /// The entry's number and the reason.
    pub(crate) reasons: Vec<(u64, String)>,
    pub(crate) refused: Option<(u64, String)>,
    /// The entry's number, whether it is a duplicate, and the body.
    pub(crate) replies: Vec<(u64, bool, String)>,
}

/// An entry of a frame. With a duration it is a request that waits so long for its reply.
pub(crate) type Entry<'a> = (MessageId, &'a str, Option<Duration>);

pub(crate) struct Channel<S = TlsStream<TcpStream>> {
    pub(crate) connection: Connection<S>,
    pub(crate) limits: ChannelLimits,
    pub(crate) id: MessageId,
    /// The number of the next entry.
    pub(crate) next: u64,
    /// The session of the next frame.
    pub(crate) session: Option<String>,
}

/// Opens a channel whose first frame has the default admin's session.
pub(crate) async fn open(server: &Server) -> Channel {
    let session = admin_session(server).await;
    open_with(connect(server).await, Some(&session)).await
}

/// Opens a channel on a connection.
pub(crate) async fn open_with<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S>,
    session: Option<&str>,
) -> Channel<S> {
    let head =
        format!("GET {} HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}\r\n", Route::MessageChannel.path());
    connection.write(head.as_bytes()).await.unwrap();
    let answer = connection.read_head().await.unwrap();
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("sec-websocket-protocol"), Some("web-ipc.1"));
    assert_eq!(
        (answer.header("connection"), answer.header("upgrade")),
        (Some("upgrade"), Some("websocket"))
    );
    let limits = answer.header("web-ipc-limits").unwrap().parse().unwrap();
    Channel { connection, limits, id: new_id(), next: 0, session: session.map(str::to_owned) }
}

/// A WebSocket frame of a client with this first byte.
pub(crate) fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..126 => bytes.push(0x80 | short as u8),
        medium @ ..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The plaintext of a client's frame.
pub(crate) fn channel_frame(
    id: MessageId,
    session: Option<&str>,
    first: u64,
    resume: Option<u64>,
    entries: &[Entry<'_>],
) -> Vec<u8> {
    let mut plaintext = Vec::new();
    write_frame_around(&mut plaintext, Route::MessageChannel.path(), id, session, |buffer| {
        write_channel_frame(buffer, first, resume, |buffer| {
            for (index, (id, body, reply_wait)) in entries.iter().enumerate() {
                if index > 0 {
                    buffer.push(b',');
                }
                write_channel_entry(buffer, *id, body, *reply_wait);
            }
        });
    });
    plaintext
}

/// Seals a plaintext with the present time.
pub(crate) fn envelope(plaintext: &[u8]) -> Vec<u8> {
    HOME.keys.seal(plaintext, now_secs(), [7; 16])
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// Writes one WebSocket frame, which ends its message.
    pub(crate) async fn write(&mut self, opcode: u8, payload: &[u8]) {
        self.connection.write(&ws_frame(0x80 | opcode, payload)).await.unwrap();
    }

    /// The envelope of the next frame with these entries.
    pub(crate) fn sealed(&mut self, resume: Option<u64>, entries: &[Entry<'_>]) -> Vec<u8> {
        let session = self.session.take();
        let plaintext = channel_frame(self.id, session.as_deref(), self.next, resume, entries);
        self.next += entries.len() as u64;
        envelope(&plaintext)
    }

    pub(crate) async fn send(&mut self, entries: &[Entry<'_>]) {
        let sealed = self.sealed(None, entries);
        self.write(BINARY, &sealed).await;
    }

    pub(crate) async fn resume(&mut self, from: u64, entries: &[Entry<'_>]) {
        let sealed = self.sealed(Some(from), entries);
        self.write(BINARY, &sealed).await;
    }

    /// Reads the next frame. Returns `None` at the end of the connection.
    pub(crate) async fn read(&mut self) -> Option<WsFrame> {
        tokio::time::timeout(SOON, self.read_frame()).await.expect("the server says something").ok()
    }

    async fn read_frame(&mut self) -> std::io::Result<WsFrame> {
        let stream = &mut self.connection.stream;
        let first = stream.read_u8().await?;
        assert_eq!(first & 0xf0, 0x80, "one frame a message, without extensions");
        let length = match stream.read_u8().await? {
            126 => stream.read_u16().await?.into(),
            127 => stream.read_u64().await?,
            short => {
                assert!(short < 126, "a server's frame has no mask");
                short.into()
            }
        };
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        Ok(WsFrame { opcode: first & 0xf, payload })
    }

    /// Reads the next frame, which must hold answers.
    pub(crate) async fn answer(&mut self) -> Answer {
        let frame = self.read().await.expect("the channel is open");
        assert_eq!(frame.opcode, BINARY, "{:?}", close_of(&frame));
        self.opened(&frame.payload)
    }

    pub(crate) fn opened(&self, envelope: &[u8]) -> Answer {
        let plaintext = HOME.keys.open(envelope, Some(Freshness::at(now_secs()))).unwrap();
        let frame = Frame::parse(&plaintext).unwrap().reply_to(self.id).unwrap();
        assert_eq!(frame.session(), None);
        let answer = frame.channel_answer().unwrap();
        Answer {
            settled: answer
                .settled
                .iter()
                .map(|run| (run.first, run.last, run.code.to_owned()))
                .collect(),
            reasons: answer.reasons.iter().map(|one| (one.entry, one.reason.to_string())).collect(),
            refused: answer.refused.map(|refused| (refused.from, refused.code.to_owned())),
            replies: answer
                .replies
                .iter()
                .map(|reply| (reply.entry, reply.is_duplicate, reply.body.to_owned()))
                .collect(),
        }
    }

    /// Sends entries and waits for one frame of answers.
    pub(crate) async fn ask(&mut self, entries: &[Entry<'_>]) -> Answer {
        self.send(entries).await;
        self.answer().await
    }

    /// The code and the reason with which the server closes the channel. Frames before the close
    /// frame are skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.read().await.expect("a close frame comes before the end");
            if frame.opcode == CLOSE {
                return close_of(&frame);
            }
        }
    }

    /// Checks the code with which the server closes the channel, and that the connection ends after
    /// the client's close frame.
    pub(crate) async fn is_closed(&mut self, code: u16, reason: &str) {
        assert_eq!(self.closed().await, (code, reason.to_owned()));
        // The server may have ended the connection already.
        let _ = self.connection.write(&ws_frame(0x80 | CLOSE, &code.to_be_bytes())).await;
        let _ = self.connection.stream.shutdown().await;
        assert_eq!(self.read().await, None, "no frame follows a close frame");
    }
}

pub(crate) fn close_of(frame: &WsFrame) -> (u16, String) {
    match frame.payload.split_first_chunk() {
        Some((code, reason)) => {
            (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
        }
        None => (1005, String::new()),
    }
}

/// A message without a reply.
pub(crate) fn message(body: &str) -> Entry<'_> {
    (new_id(), body, None)
}

/// A request that waits an hour for its reply.
pub(crate) fn request(body: &str) -> Entry<'_> {
    (new_id(), body, Some(Duration::from_secs(3600)))
}

/// An answer that only settles entries.
pub(crate) fn settled(runs: &[(u64, u64, &str)]) -> Answer {
    let settled =
        runs.iter().map(|(first, last, code)| (*first, *last, (*code).to_owned())).collect();
    Answer { settled, ..Answer::default() }
}

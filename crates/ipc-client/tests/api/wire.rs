//! The server's end of a channel: opens the client's frames, and sends what a test says. It
//! enforces no rules.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use actix_codec::{Decoder, Encoder};
use actix_http::ws::{CloseCode, CloseReason, Codec, Frame as WsFrame, Message, hash_key};
use bytes::BytesMut;
use ipc_protocol::{Frame, MessageId, REPLY_ADDRESS, Route, write_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::keys::{now_secs, ring};

/// The limits that a server announces by default.
pub(crate) const LIMITS: &str = "message-bytes=73728, entries=1000, requests=4096";

/// A frame as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// The number of the channel, from 0.
    pub(crate) channel: usize,
    pub(crate) id: MessageId,
    pub(crate) session: Option<String>,
    pub(crate) first: u64,
    pub(crate) resume: Option<u64>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) envelope: Vec<u8>,
}

/// An entry of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) reply_wait_ms: Option<u64>,
}

impl Said {
    /// The number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub(crate) fn bodies(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.body.as_str()).collect()
    }
}

/// Handles frames.
pub(crate) type Peer = Box<dyn FnMut(&Said, &Speaker) + Send>;

enum Word {
    Message(Message),
    Cut,
}

/// Sends on a channel, at once or later.
#[derive(Clone)]
pub(crate) struct Speaker {
    words: mpsc::UnboundedSender<Word>,
    id: Arc<OnceLock<MessageId>>,
}

impl Speaker {
    pub(crate) fn say(&self, message: Message) {
        // The channel may be closed already.
        let _ = self.words.send(Word::Message(message));
    }

    /// The client's id of the channel, from its first frame.
    pub(crate) fn id(&self) -> MessageId {
        *self.id.get().unwrap()
    }

    /// Sends `body` in a correct frame.
    pub(crate) fn answer(&self, body: &str) {
        self.say(Message::Binary(
            ring().seal(&answer_frame(self.id(), body), now_secs(), [7; 16]).into(),
        ));
    }

    pub(crate) fn settle(&self, first: u64, last: u64, code: &str) {
        self.answer(&format!(r#"{{"settled":[[{first},{last},"{code}"]]}}"#));
    }

    /// Settles entries as requests that have no reply, some of them with a reason.
    pub(crate) fn decline(&self, first: u64, last: u64, reasons: &[(u64, &str)]) {
        let reasons = reasons
            .iter()
            .map(|(entry, reason)| serde_json::json!({"entry": entry, "reason": reason}));
        let reasons = serde_json::Value::Array(reasons.collect());
        self.answer(&format!(
            r#"{{"reasons":{reasons},"settled":[[{first},{last},"not_answered"]]}}"#
        ));
    }

    /// Accepts all entries of a frame.
    pub(crate) fn accept(&self, said: &Said) {
        if !said.entries.is_empty() {
            self.settle(said.first, said.last(), "accepted");
        }
    }

    pub(crate) fn reply(&self, entry: u64, body: &str) {
        self.answer(&format!(r#"{{"replies":[{{"entry":{entry},"body":{body}}}]}}"#));
    }

    pub(crate) fn refuse(&self, from: u64, code: &str) {
        self.answer(&format!(r#"{{"refused":{{"from":{from},"code":"{code}"}}}}"#));
    }

    pub(crate) fn close(&self, code: u16, reason: &str) {
        let reason =
            CloseReason { code: CloseCode::from(code), description: Some(reason.to_owned()) };
        self.say(Message::Close(Some(reason)));
    }

    /// Ends the connection without a close frame.
    pub(crate) fn cut(&self) {
        let _ = self.words.send(Word::Cut);
    }
}

/// The plaintext of an answer.
pub(crate) fn answer_frame(id: MessageId, body: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, REPLY_ADDRESS, id, None, body);
    frame
}

/// What arrived over channels.
#[derive(Default)]
pub(crate) struct ChannelLog {
    pub(crate) frames: Mutex<Vec<Said>>,
    /// The close frames of the client: code and reason.
    pub(crate) closes: Mutex<Vec<(u16, String)>>,
    pub(crate) pings: Mutex<usize>,
    pub(crate) pongs: Mutex<Vec<Vec<u8>>>,
}

/// The response 101 to an opening handshake.
pub(crate) fn switching(key: &str, limits: &str) -> String {
    let accept = hash_key(key.as_bytes());
    let accept = std::str::from_utf8(&accept).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: web-ipc.1\r\nWeb-IPC-Limits: {limits}\r\n\r\n"
    )
}

/// Serves an open channel until the client ends it. The error says that it ended without a TLS
/// closure alert.
pub(crate) async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    number: usize,
    greeting: fn(&Speaker),
    mut peer: Peer,
    log: &ChannelLog,
) -> io::Result<()> {
    let (words, mut to_say) = mpsc::unbounded_channel();
    let speaker = Speaker { words, id: Arc::default() };
    greeting(&speaker);
    let mut codec = Codec::new().max_size(64 << 20);
    let (mut arrived, mut outgoing) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(frame) = codec.decode(&mut arrived).map_err(io::Error::other)? {
            match frame {
                WsFrame::Binary(envelope) => {
                    let said = open(number, &envelope);
                    let _ = speaker.id.set(said.id);
                    log.frames.lock().unwrap().push(said.clone());
                    peer(&said, &speaker);
                }
                WsFrame::Ping(_) => *log.pings.lock().unwrap() += 1,
                WsFrame::Pong(payload) => log.pongs.lock().unwrap().push(payload.to_vec()),
                WsFrame::Close(reason) => {
                    let CloseReason { code, description } = reason.unwrap();
                    log.closes.lock().unwrap().push((code.into(), description.unwrap_or_default()));
                }
                other => panic!("a client never sends {other:?}"),
            }
        }
        tokio::select! {
            // Send what is queued before reading more.
            biased;
            word = to_say.recv() => match word.unwrap() {
                Word::Message(message) => {
                    codec.encode(message, &mut outgoing).map_err(io::Error::other)?;
                    stream.write_all(&outgoing).await?;
                    stream.flush().await?;
                    outgoing.clear();
                }
                Word::Cut => return Ok(()),
            },
            read = stream.read_buf(&mut arrived) => if read? == 0 { return Ok(()) },
        }
    }
}

fn open(channel: usize, envelope: &[u8]) -> Said {
    let plaintext = ring().open(envelope, None).unwrap();
    let frame = Frame::parse(&plaintext).unwrap().addressed_to(Route::MessageChannel).unwrap();
    let body = frame.channel(usize::MAX).unwrap();
    let numbered = (body.first..).zip(body.entries);
    let entries = numbered.map(|(number, entry)| {
        let entry = entry.unwrap();
        Entry {
            number,
            id: entry.id.to_string(),
            body: entry.body.to_owned(),
            reply_wait_ms: entry.reply_wait.map(|wait| u64::try_from(wait.as_millis()).unwrap()),
        }
    });
    Said {
        channel,
        id: frame.id(),
        session: frame.session().map(str::to_owned),
        first: body.first,
        resume: body.resume,
        entries: entries.collect(),
        envelope: envelope.to_vec(),
    }
}

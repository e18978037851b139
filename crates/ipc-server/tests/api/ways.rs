//! The two ways to send a message, POST and channel, behind one interface, so that one test checks
//! both.

use std::time::Duration;

use ipc_protocol::{MessageId, Problem, ProblemCode, Route, reason_of_detail};
use ipc_server::Server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::channel_fixture::{
    BINARY, CLOSE, Channel, Entry, WsFrame, channel_frame, close_of, open_with,
};
use crate::fixture::*;

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `POST /message/submit` and `POST /message/request`.
    Post,
    /// A channel.
    Channel,
}

/// The outcome of a message or a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Duplicate,
    /// The reply, and whether the request was a duplicate.
    Reply(String, bool),
    Refused(ProblemCode),
    /// No reply, for this reason.
    Declined(String),
}

/// A connection that sends messages in one of the ways.
pub(crate) enum Line<S = TlsStream<TcpStream>> {
    Post(Connection<S>, String),
    Channel(Box<Channel<S>>, Option<u64>),
}

impl Way {
    pub(crate) const BOTH: [Way; 2] = [Way::Post, Way::Channel];

    /// Opens a connection to the server, with a session.
    pub(crate) async fn open(self, server: &Server, session: &str) -> Line {
        self.open_on(connect(server).await, session).await
    }

    pub(crate) async fn open_on<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        connection: Connection<S>,
        session: &str,
    ) -> Line<S> {
        match self {
            Way::Post => Line::Post(connection, session.to_owned()),
            Way::Channel => {
                Line::Channel(Box::new(open_with(connection, Some(session)).await), None)
            }
        }
    }

    /// The route for a message.
    pub(crate) fn route(self) -> Route {
        match self {
            Way::Post => Route::MessageSubmit,
            Way::Channel => Route::MessageChannel,
        }
    }

    /// The plaintext of a frame with one message. On a channel it is the first frame.
    pub(crate) fn plaintext(self, session: Option<&str>, body: &str) -> Vec<u8> {
        match self {
            Way::Post => frame(Route::MessageSubmit, new_id(), session, body),
            Way::Channel => channel_frame(new_id(), session, 0, None, &[(new_id(), body, None)]),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Sends a message and waits for its outcome.
    pub(crate) async fn send(&mut self, id: MessageId, body: &str) -> Outcome {
        match self {
            Line::Post(connection, session) => {
                submitted(&connection.submit(id, session, body).await)
            }
            Line::Channel(channel, resume) => entry(channel, resume, (id, body, None)).await,
        }
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn request(&mut self, id: MessageId, body: &str, wait: Duration) -> Outcome {
        match self {
            Line::Post(connection, session) => {
                let route = Route::MessageRequest;
                let headers = format!(
                    "content-type: application/octet-stream\r\nprefer: wait={}\r\n",
                    wait.as_secs()
                );
                let envelope = sealed(route, id, Some(session), body);
                let answer = connection.request("POST", route.path(), &headers, &envelope).await;
                match answer.status {
                    200 => {
                        let is_duplicate = answer.header("web-ipc-duplicate") == Some("true");
                        Outcome::Reply(reply_in(&answer), is_duplicate)
                    }
                    _ => refused(&answer),
                }
            }
            Line::Channel(channel, resume) => entry(channel, resume, (id, body, Some(wait))).await,
        }
    }

    /// Sends this envelope, as the first of the connection.
    pub(crate) async fn put(&mut self, envelope: &[u8]) -> Outcome {
        match self {
            Line::Post(connection, _) => {
                submitted(&connection.post(Route::MessageSubmit, envelope).await)
            }
            Line::Channel(channel, resume) => {
                channel.write(BINARY, envelope).await;
                let frame = channel.read().await.expect("the server gives a reason");
                if frame.opcode == CLOSE { closed(&frame) } else { told(channel, &frame, resume) }
            }
        }
    }

    /// Whether the connection has ended.
    pub(crate) async fn has_ended(mut self) -> bool {
        match &mut self {
            Line::Post(connection, _) => connection.read_response().await.is_err(),
            Line::Channel(channel, _) => {
                channel.closed().await;
                channel.read().await.is_none()
            }
        }
    }
}

fn submitted(answer: &Response) -> Outcome {
    match (answer.status, answer.header("web-ipc-duplicate")) {
        (200, None) => Outcome::Accepted,
        (200, Some("true")) => Outcome::Duplicate,
        _ => refused(answer),
    }
}

fn refused(answer: &Response) -> Outcome {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
    let code = ProblemCode::from_code(&problem.code).unwrap();
    answer.is_refusal(code);
    if let Some(reason) = reason_of_detail(&problem.detail) {
        assert_eq!(code, ProblemCode::NotAnswered);
        return Outcome::Declined(reason);
    }
    Outcome::Refused(code)
}

async fn entry<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &mut Channel<S>,
    resume: &mut Option<u64>,
    entry: Entry<'_>,
) -> Outcome {
    match resume.take() {
        Some(from) => channel.resume(from, &[entry]).await,
        None => channel.send(&[entry]).await,
    }
    let frame = channel.read().await.expect("the server answers the entry");
    if frame.opcode == CLOSE { closed(&frame) } else { told(channel, &frame, resume) }
}

/// The outcome in an answer to one entry.
fn told<S: AsyncRead + AsyncWrite + Unpin>(
    channel: &Channel<S>,
    frame: &WsFrame,
    resume: &mut Option<u64>,
) -> Outcome {
    let answer = channel.opened(&frame.payload);
    let last = channel.next - 1;
    if let [(entry, reason)] = answer.reasons.as_slice() {
        let code = ProblemCode::NotAnswered.to_string();
        assert_eq!((*entry, &answer.settled), (last, &vec![(last, last, code)]));
        return Outcome::Declined(reason.clone());
    }
    match (answer.settled.as_slice(), &answer.refused, answer.replies.as_slice()) {
        ([(first, end, code)], None, []) => {
            assert_eq!((*first, *end), (last, last));
            match code.as_str() {
                "accepted" => Outcome::Accepted,
                "duplicate" => Outcome::Duplicate,
                code => Outcome::Refused(ProblemCode::from_code(code).unwrap()),
            }
        }
        ([], Some((from, code)), []) => {
            assert_eq!(*from, last);
            *resume = Some(*from);
            Outcome::Refused(ProblemCode::from_code(code).unwrap())
        }
        ([], None, [(entry, is_duplicate, body)]) => {
            assert_eq!(*entry, last);
            Outcome::Reply(body.clone(), *is_duplicate)
        }
        _ => panic!("{answer:?}"),
    }
}

/// The refusal in a close frame.
fn closed(frame: &WsFrame) -> Outcome {
    let (status, reason) = close_of(frame);
    let code = ProblemCode::from_code(&reason).unwrap_or_else(|| panic!("{status} {reason}"));
    assert_eq!(status, ipc_protocol::close_code_of(code));
    Outcome::Refused(code)
}

//! What both ends of web-ipc agree on: routes, statuses, frames, problem codes and limits.
//!
//! The server and the client come here so that neither can drift from the other. Nothing here opens
//! a socket, reads a file, uses a key or reads the clock.
//!
//! * a route and its method: [`Route`]
//! * the JSON inside an envelope: [`Frame`] to read one, [`write_frame`] to write one
//! * the frames of the two ends of a channel: [`Frame::parse_channel_frame`] and
//!   [`Frame::parse_channel_answer`] to read, [`write_channel_frame`] and [`write_channel_answer`]
//!   to write
//! * an application's value as the body of a frame: [`to_body`]
//! * a refusal on the wire: [`ProblemCode`] and [`Problem`] (RFC 9457)
//!
//! `docs/protocol.md` specifies the same in words. `cargo xtask tidy` fails when this source
//! changes and that page does not.
//!
//! ```
//! use ipc_protocol::{Frame, MessageId, Route, to_body, write_frame};
//!
//! let id = MessageId::from_random([7; 16]);
//! let body = to_body(&serde_json::json!({"test": 1}))?;
//! let mut plaintext = Vec::new();
//! write_frame(&mut plaintext, Route::MessageSubmit.path(), id, None, &body);
//!
//! let frame = Frame::parse(&plaintext)?.addressed_to(Route::MessageSubmit)?;
//! assert_eq!(frame.id(), id);
//! assert_eq!(frame.object()?, r#"{"test":1}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod batch;
mod body;
mod channel;
mod entry;
mod fingerprint;
mod frame;
mod json;
mod json_error;
mod message_id;
mod normal_form;
mod problem;
mod reason;
mod renewal;
mod route;
mod scanner;
mod transport;

pub use auth::{AuthReply, AuthRequest};
pub use batch::{BATCH_MESSAGES_MAX_DEFAULT, BatchEntry, BatchOutcome, BatchReply, write_batch};
pub use body::{BodyError, to_body};
pub use channel::{
    CHANNEL_ENTRIES_MAX_DEFAULT, CHANNEL_LIMITS_HEADER, CHANNEL_MESSAGE_BYTES_MAX_DEFAULT,
    CHANNEL_PING_AFTER, CHANNEL_REQUESTS_MAX_DEFAULT, CHANNEL_RETRY_AFTER, CHANNEL_SILENCE_MAX,
    CHANNEL_SUBPROTOCOL, ChannelAnswer, ChannelFrame, ChannelLimits, ChannelLimitsError,
    ChannelReason, ChannelReply, RefusedFrom, Settled, close_code_of, fits_an_entry,
    write_channel_answer, write_channel_frame,
};
pub use entry::{ChannelEntry, ChannelEntryResult, write_channel_entry};
pub use fingerprint::Fingerprint;
pub use frame::{
    ChannelMessage, Frame, FrameError, FrameHead, PROTOCOL_VERSION, REPLY_ADDRESS, write_frame,
    write_frame_around,
};
pub use json::{check_body, check_json};
pub use json_error::{DEPTH_MAX, JsonError, JsonErrorKind, NAMES_MAX};
pub use message_id::{MessageId, MessageIdError};
pub use normal_form::{secret_to_nfc, secret_to_nfd, to_nfc, to_nfd};
pub use problem::{Problem, ProblemCode, Retry};
pub use reason::{REASON_BYTES_MAX, detail_of_reason, reason_of_detail, to_reason};
pub use renewal::{CSR_PEM_BYTES_MAX, NodeReply, RenewalReply, RenewalRequest};
pub use route::Route;
pub use transport::{Protocol, ProtocolError, is_loopback};

/// How long a session lasts, in seconds: one hour from the login. Use does not extend it.
pub const SESSION_SECS: u64 = 3600;

/// How long a server remembers the ids it has accepted, at least, in seconds. See
/// [`DEADLINE_SECS_MAX`].
pub const REMEMBERED_SECS: u64 = 600;

/// The longest timeout a client may set for a call, in seconds. It is two minutes shorter than
/// [`REMEMBERED_SECS`], so that no retry of a message arrives after the server has forgotten its
/// id.
pub const DEADLINE_SECS_MAX: u64 = REMEMBERED_SECS - 120;

/// The longest plaintext (the frame as JSON text) in bytes, unless an end is configured otherwise:
/// 16 MiB.
pub const PLAINTEXT_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// The longest plaintext of a login in bytes: 16 KiB. Name and password need a few hundred bytes,
/// and the limit is low because the sender is not authenticated yet.
pub const AUTH_PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

/// `Content-Type` of a raw envelope. With any other type, or none, a body is canonical base64url
/// text.
pub const RAW_ENVELOPE_TYPE: &str = "application/octet-stream";

/// `Content-Type` of a refusal (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The response header, with value `true`, that marks the response to a message whose id was
/// accepted before.
pub const DUPLICATE_HEADER: &str = "web-ipc-duplicate";

/// How long a client waits for a reply unless it is configured otherwise, in seconds.
pub const REPLY_WAIT_SECS_DEFAULT: u64 = 30;

/// The body of the response 200 of [`Route::IsRunning`].
pub const IS_RUNNING_TEXT: &str = "Web-Server is running";

/// The body of the response 200 of [`Route::MessageSubmit`].
pub const SUBMIT_TEXT: &str = "success";

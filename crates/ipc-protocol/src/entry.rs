//! An entry: a message or a request among others, in a batch or in a frame of a channel.

use std::time::Duration;

use crate::json_error::JsonError;
use crate::message_id::MessageId;
use crate::problem::ProblemCode;
use crate::scanner::{Scanner, unescape};

/// An entry as it was read, or the code that refuses it.
pub type ChannelEntryResult<'a> = Result<ChannelEntry<'a>, ProblemCode>;

/// A message or a request on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelEntry<'a> {
    /// The message's id.
    pub id: MessageId,
    /// Its body, a JSON object as text.
    pub body: &'a str,
    /// How long the sender waits for a reply. `None` makes the entry a message, any value a
    /// request.
    pub reply_wait: Option<Duration>,
}

/// Appends an entry, whose body is a JSON object as text. Without `reply_wait` it may be an entry
/// of a batch too.
pub fn write_channel_entry(
    buffer: &mut Vec<u8>,
    id: MessageId,
    body: &str,
    reply_wait: Option<Duration>,
) {
    buffer.extend_from_slice(br#"{"id":""#);
    id.write_text(buffer);
    buffer.extend_from_slice(br#"","body":"#);
    buffer.extend_from_slice(body.as_bytes());
    if let Some(wait) = reply_wait {
        buffer.extend_from_slice(br#","reply_wait_ms":"#);
        write_number(buffer, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    buffer.push(b'}');
}

pub(crate) fn write_number(buffer: &mut Vec<u8>, number: u64) {
    use std::io::Write as _;
    write!(buffer, "{number}").expect("writing into memory cannot fail");
}

/// Reads the value that begins here as an entry.
///
/// # Errors
/// The value breaks a rule for JSON. A value that is not an entry is no error of this function: the
/// inner result reports it.
pub(crate) fn read<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<ChannelEntryResult<'a>, JsonError> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(Err(ProblemCode::MalformedFrame));
    }
    let mut members = Members::default();
    scanner.object(depth, |scanner, name| {
        let value = scanner.text(depth + 1)?;
        match name {
            "id" => members.id = Some(value),
            "body" => members.body = Some(value),
            "reply_wait_ms" => members.reply_wait_ms = Some(value),
            _ => members.has_others = true,
        }
        Ok(())
    })?;
    Ok(members.entry())
}

/// The members of an entry, as text.
#[derive(Default)]
struct Members<'a> {
    id: Option<&'a str>,
    body: Option<&'a str>,
    reply_wait_ms: Option<&'a str>,
    has_others: bool,
}

impl<'a> Members<'a> {
    fn entry(self) -> ChannelEntryResult<'a> {
        let Members { id, body, reply_wait_ms, has_others } = self;
        let id = id.filter(|id| id.starts_with('"')).and_then(|id| unescape(id).parse().ok());
        let reply_wait =
            reply_wait_ms.map(|wait| wait.parse().map(Duration::from_millis)).transpose();
        match (id, body, reply_wait) {
            (Some(id), Some(body), Ok(reply_wait)) if !has_others => {
                let is_object = body.starts_with('{');
                is_object
                    .then_some(ChannelEntry { id, body, reply_wait })
                    .ok_or(ProblemCode::NotAnObject)
            }
            _ => Err(ProblemCode::MalformedFrame),
        }
    }
}

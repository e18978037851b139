//! Reads the body of a request and opens its envelope, within the limits of size, memory and time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use ipc_envelope::{Freshness, Incoming, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_protocol::{AUTH_PLAINTEXT_BYTES_MAX, ProblemCode, RAW_ENVELOPE_TYPE, Route};

use crate::memory_budget::{MemoryBudget, Reservation};
use crate::refusal::{RETRY_AFTER, Refusal};
use crate::timeouts::ConnectionState;

/// How many bytes of a body take nothing from the memory budget. Most bodies are shorter, and each
/// connection may have as much.
pub(crate) const FREE_BYTES: usize = 64 * 1024;

/// An envelope longer than this (a message of 64 KiB and the frame around it) is opened, and its
/// JSON checked, on a thread that may block. 16 MiB take milliseconds to open and, if they are full
/// of member names, 0.3 s to check. Other connections would wait that long.
pub(crate) const INLINE_BYTES_MAX: usize = 72 * 1024;

/// The limits of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum size of the plaintext in bytes.
    pub(crate) plaintext_bytes_max: usize,
    /// The time from the end of the request's head to the end of its body. actix-web itself has no
    /// limit for a body.
    pub(crate) body_timeout: Duration,
}

impl Limits {
    /// The length of a body with the longest allowed plaintext.
    fn body_bytes_max(&self, is_raw: bool) -> usize {
        let raw = self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
        if is_raw { raw } else { raw.div_ceil(3).saturating_mul(4) }
    }

    /// The limits of a route. That of a login is low, because its sender is not authenticated yet.
    pub(crate) fn of(self, path: &str) -> Self {
        let bytes_max = self.plaintext_bytes_max;
        let is_login = path == Route::ClientAuth.path();
        Limits {
            plaintext_bytes_max: if is_login {
                bytes_max.min(AUTH_PLAINTEXT_BYTES_MAX)
            } else {
                bytes_max
            },
            ..self
        }
    }

    /// The refusal if the announced length of a body is too long.
    pub(crate) fn announced_too_long(&self, headers: &HeaderMap) -> Option<Refusal> {
        let bytes_max = self.body_bytes_max(is_raw(headers));
        (announced(headers) > bytes_max).then(|| too_long(bytes_max))
    }
}

/// Whether a body is raw bytes, not base64url text. Parameters of the content type are ignored.
fn is_raw(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(RAW_ENVELOPE_TYPE.as_bytes())
}

/// The length that the head gives. 0 for a chunked body.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    // actix-http has already refused a length that is not a number, so this one is beyond 64 bits.
    length.map_or(0, |length| length.parse().unwrap_or(usize::MAX))
}

fn too_long(bytes_max: usize) -> Refusal {
    Refusal::new(
        ProblemCode::TooLarge,
        format!("a request's body may have at most {bytes_max} bytes"),
    )
}

/// The body of a request. It is wiped when it is dropped.
pub(crate) struct SealedBody {
    token: Incoming,
    /// The memory that the bytes take from the budget.
    reservation: Reservation,
}

/// Reads a request's body.
///
/// # Errors
/// 413 if it is too long, 503 if there is no memory for it, 408 if it takes too long, 400 if it has
/// a content coding.
pub(crate) async fn receive(
    request: &HttpRequest,
    payload: web::Payload,
    limits: Limits,
    budget: &Arc<MemoryBudget>,
    keys: &Arc<KeyRing>,
) -> Result<SealedBody, Refusal> {
    let headers = request.headers();
    let is_raw = is_raw(headers);
    let mut body = Body {
        token: if is_raw { Incoming::raw(keys) } else { Incoming::base64url(keys) },
        received: 0,
        announced: announced(headers),
        bytes_max: limits.body_bytes_max(is_raw),
        no_room: false,
        reservation: Reservation::none(budget),
    };
    body.token.reserve_exact(body.announced.min(body.bytes_max).min(FREE_BYTES));
    let ending = in_time(body.read(payload), limits.body_timeout).await.transpose()?;
    if let (Some(Ending::Whole), Some(connection)) =
        (&ending, request.conn_data::<Rc<ConnectionState>>())
    {
        connection.body_is_read();
    }
    if let Some(refusal) = body.refusal() {
        // This comes before the timeout: a client that sends too much, and slowly, learns the
        // reason that will not change.
        return Err(refusal);
    }
    if ending.is_none() {
        return Err(Refusal::new(
            ProblemCode::RequestTimeout,
            "the request's body did not arrive in time",
        ));
    }
    if is_encoded(headers) {
        return Err(Refusal::new(
            ProblemCode::MalformedEnvelope,
            "the body has a Content-Encoding; the server supports none",
        ));
    }
    Ok(SealedBody { token: body.token, reservation: body.reservation })
}

/// Awaits a future. Returns `None` if it takes too long.
async fn in_time<F: Future>(future: F, time: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    // Most bodies arrive with their head and need no timer.
    let at_once = poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    });
    match at_once.await {
        Some(result) => Some(result),
        None => tokio::time::timeout(time, future).await.ok(),
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// A body that is being read.
struct Body {
    token: Incoming,
    received: usize,
    announced: usize,
    bytes_max: usize,
    no_room: bool,
    reservation: Reservation,
}

/// How the reading of a body ended.
enum Ending {
    Whole,
    /// The body was still going on when it was far too long.
    CutOff,
}

impl Body {
    async fn read(&mut self, mut payload: web::Payload) -> Result<Ending, Refusal> {
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Refusal::new(ProblemCode::MalformedEnvelope, "the request's body broke off")
                    .because(ipc_base::chain(&error))
            })?;
            self.received = self.received.saturating_add(chunk.len());
            if !self.is_refused() {
                self.no_room = !self.make_room(chunk.len());
            }
            if !self.is_refused() {
                self.token.extend(&chunk);
                continue;
            }
            // A client reads no response while it still writes. Therefore the rest of its body is
            // read and dropped, so that it learns the reason. A client that does not stop even then
            // is cut off.
            self.token.clear();
            self.reservation.release();
            if self.received > self.bytes_max.saturating_mul(2) {
                return Ok(Ending::CutOff);
            }
        }
        Ok(Ending::Whole)
    }

    fn is_too_long(&self) -> bool {
        self.announced.max(self.received) > self.bytes_max
    }

    fn is_refused(&self) -> bool {
        self.no_room || self.is_too_long()
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.is_too_long() {
            return Some(too_long(self.bytes_max));
        }
        let detail = "the server has no memory for a body of this length at the moment";
        self.no_room
            .then(|| Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER))
    }

    /// Makes room for `more` bytes. The capacity doubles, up to what the body can need. The
    /// announced length alone reserves nothing: memory is for bytes that arrived.
    fn make_room(&mut self, more: usize) -> bool {
        let needed = self.token.len() + more;
        if needed <= self.token.capacity() {
            return true;
        }
        let most = if self.announced > 0 { self.announced } else { self.bytes_max };
        let capacity = self.token.capacity().saturating_mul(2).min(most).max(needed);
        let has_room = self.reservation.grow_to(capacity.saturating_sub(FREE_BYTES));
        if has_room {
            self.token.reserve_exact(capacity - self.token.len());
        }
        has_room
    }
}

impl SealedBody {
    /// Whether the envelope is so long that processing it would delay other connections.
    pub(crate) fn is_long(&self) -> bool {
        self.token.len() > INLINE_BYTES_MAX
    }

    /// Whether the envelope is raw bytes, not base64url text.
    pub(crate) fn is_raw(&self) -> bool {
        self.token.is_raw()
    }

    /// Opens the envelope in place, unless it is open already, and returns its plaintext.
    ///
    /// # Errors
    /// 400. The refusal does not say which check failed, except for the time.
    pub(crate) fn open(&mut self, freshness: Freshness) -> Result<&[u8], Refusal> {
        self.token.open(Some(freshness)).map_err(|error| not_opened(&error, freshness))
    }

    /// Which key of the peer's ring opened the envelope.
    pub(crate) fn key_index(&self) -> usize {
        self.token.key_index()
    }

    /// The envelope's MAC, once it is open.
    #[cfg(feature = "python-compat")]
    pub(crate) fn mac(&self) -> Option<[u8; 32]> {
        self.token.mac()
    }

    /// Reserves memory for what is made of the body, beside the body itself. Returns `false` if the
    /// budget does not have so much.
    #[cfg(feature = "python-compat")]
    #[must_use]
    pub(crate) fn reserve_more(&mut self, bytes: usize) -> bool {
        self.reservation.grow_by(bytes)
    }

    /// Wipes the body and returns its reservation. The memory stays reserved for what was made from
    /// the body.
    pub(crate) fn into_reservation(self) -> Reservation {
        self.reservation
    }
}

/// The refusal of an envelope that does not open. It does not say which check failed, except for
/// the time.
pub(crate) fn not_opened(error: &OpenError, freshness: Freshness) -> Refusal {
    match *error {
        OpenError::Stale { sealed_at_secs, now_secs } => Refusal::new(
            ProblemCode::StaleEnvelope,
            stale_detail(sealed_at_secs, now_secs, freshness),
        ),
        _ => Refusal::new(
            ProblemCode::MalformedEnvelope,
            "the body is not an envelope that this server's keys open",
        ),
    }
}

fn stale_detail(sealed_at_secs: u64, now_secs: u64, freshness: Freshness) -> String {
    let (age, ahead) =
        (now_secs.saturating_sub(sealed_at_secs), sealed_at_secs.saturating_sub(now_secs));
    if age > 0 {
        let age_max = freshness.age_secs_max;
        format!(
            "the envelope was sealed {age} s ago by the server's clock; {age_max} s are allowed"
        )
    } else {
        let ahead_max = freshness.ahead_secs_max;
        format!(
            "the envelope was sealed {ahead} s ahead of the server's clock; {ahead_max} s are allowed"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_plaintext_fits_in_either_form() {
        let limits = Limits { plaintext_bytes_max: 1000, body_timeout: Duration::from_secs(1) };
        let keys = KeyRing::new(ipc_envelope::Key::from_bytes([1; 32]));
        assert!(keys.seal(&[b'x'; 1000], 0, [0; 16]).len() <= limits.body_bytes_max(true));
        assert!(
            keys.seal_base64url(&[b'x'; 1000], 0, [0; 16]).len() <= limits.body_bytes_max(false)
        );
    }

    #[test]
    fn parameters_of_the_content_type_mean_nothing() {
        let headers = |content_type: &'static str| {
            let value = header::HeaderValue::from_static(content_type);
            HeaderMap::from_iter([(header::CONTENT_TYPE, value)])
        };
        for raw in [
            "application/octet-stream",
            "Application/Octet-Stream",
            "application/octet-stream; charset=utf-8",
            "application/octet-stream ;",
        ] {
            assert!(is_raw(&headers(raw)), "{raw}");
        }
        for text in ["", "text/plain", "application/octet-streams", "x; application/octet-stream"] {
            assert!(!is_raw(&headers(text)), "{text}");
        }
        assert!(!is_raw(&HeaderMap::new()));
    }

    fn body(announced: usize, budget: &Arc<MemoryBudget>) -> Body {
        let reservation = Reservation::none(budget);
        let token = Incoming::raw(&Arc::new(KeyRing::new(ipc_envelope::Key::from_bytes([1; 32]))));
        Body { token, received: 0, announced, bytes_max: 1 << 20, no_room: false, reservation }
    }

    #[test]
    fn room_is_made_for_what_came_and_never_beyond_what_is_announced() {
        let budget = MemoryBudget::new(1 << 20);
        let mut announced = body(300_000, &budget);
        assert!(announced.make_room(100_000));
        announced.token.extend(&vec![0; 100_000 - announced.token.len()]);
        assert_eq!(announced.token.capacity(), 100_000);
        assert!(announced.make_room(100_001));
        announced.token.extend(&vec![0; 200_001 - announced.token.len()]);
        assert!(announced.make_room(1));
        assert!(announced.token.capacity() <= 300_000);
        assert!(announced.make_room(99_999));
    }

    #[test]
    fn long_bodies_share_the_budget_and_short_ones_need_none() {
        let budget = MemoryBudget::new(100_000);
        let mut first = body(0, &budget);
        assert!(first.make_room(FREE_BYTES + 100_000));
        let mut second = body(0, &budget);
        assert!(second.make_room(FREE_BYTES));
        second.token.extend(&vec![0; FREE_BYTES - second.token.len()]);
        assert!(!second.make_room(1));
        drop(first);
        assert!(second.make_room(1));
    }

    #[test]
    fn a_stale_envelope_is_told_which_way_the_clock_is_off() {
        let freshness = Freshness::at(1000);
        assert!(stale_detail(900, 1000, freshness).contains("100 s ago"));
        assert!(stale_detail(1100, 1000, freshness).contains("100 s ahead"));
        assert!(stale_detail(u64::MAX, 0, freshness).contains("clock"));
    }
}

//! From the bytes of a request to the plaintext of its envelope, within the limits of size and time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use ipc_envelope::{Freshness, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_protocol::{ProblemCode, RAW_ENVELOPE_TYPE};

use crate::answer::Refusal;

/// The body of a request.
pub(crate) struct Envelope {
    bytes: Vec<u8>,
    /// Raw bytes, or base64url text.
    pub(crate) is_raw: bool,
}

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of plaintext.
    pub(crate) plaintext_bytes_max: usize,
    /// From the end of the request's head to the end of its body. actix-web itself lets a body take for ever.
    pub(crate) body_timeout: Duration,
}

impl Limits {
    /// How long the body of an envelope may be that holds the longest plaintext.
    fn body_bytes_max(&self, is_raw: bool) -> usize {
        let raw = self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
        if is_raw { raw } else { raw.div_ceil(3).saturating_mul(4) }
    }
}

/// Reads a request's body.
///
/// # Errors
/// 413 if it is too long, 408 if it takes too long.
pub(crate) async fn receive(
    request: &HttpRequest,
    payload: web::Payload,
    limits: Limits,
) -> Result<Envelope, Refusal> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_raw =
        content_type.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(RAW_ENVELOPE_TYPE.as_bytes()));
    let body_bytes_max = limits.body_bytes_max(is_raw);
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);

    let mut reading = pin!(read(payload, announced, body_bytes_max));
    // Most bodies are there with the head: those need no timer.
    let at_once = poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    });
    let bytes = match at_once.await {
        Some(result) => result?,
        None => tokio::time::timeout(limits.body_timeout, reading).await.map_err(|_| {
            Refusal::new(ProblemCode::RequestTimeout, "the request's body did not arrive in time")
        })??,
    };
    Ok(Envelope { bytes, is_raw })
}

async fn read(mut payload: web::Payload, announced: usize, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    // What is announced is not believed beyond a page or so: memory is for bytes that came.
    let mut bytes = Vec::with_capacity(announced.min(bytes_max).min(64 * 1024));
    let mut received = 0_usize;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Refusal::new(ProblemCode::MalformedEnvelope, "the request's body broke off").because(error)
        })?;
        received = received.saturating_add(chunk.len());
        if announced.max(received) <= bytes_max {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        // A client reads no answer while it still writes: what comes is dropped, so that it learns why. One that
        // does not end even so is cut off.
        bytes = Vec::new();
        if received > bytes_max.saturating_mul(2) {
            break;
        }
    }
    if announced.max(received) > bytes_max {
        return Err(Refusal::new(
            ProblemCode::TooLarge,
            format!("a request's body may be {bytes_max} bytes long"),
        ));
    }
    Ok(bytes)
}

impl Envelope {
    /// Opens the envelope in place and returns its plaintext.
    ///
    /// # Errors
    /// 400, without saying what of it is wrong unless it is the time.
    pub(crate) fn open(&mut self, keys: &KeyRing, freshness: Freshness) -> Result<&[u8], Refusal> {
        let opened = if self.is_raw {
            keys.open_in_place(&mut self.bytes, Some(freshness))
        } else {
            keys.open_base64url_in_place(&mut self.bytes, Some(freshness))
        };
        opened.map(|opened| opened.plaintext()).map_err(|error| match error {
            OpenError::Stale { sealed_at_secs, now_secs } => {
                Refusal::new(ProblemCode::StaleEnvelope, stale_detail(sealed_at_secs, now_secs, freshness))
            }
            _ => Refusal::new(
                ProblemCode::MalformedEnvelope,
                "the body is no envelope that this server's keys open",
            ),
        })
    }

    /// Wipes what the request held.
    pub(crate) fn wipe(mut self) {
        zeroize::Zeroize::zeroize(&mut self.bytes);
    }
}

fn stale_detail(sealed_at_secs: u64, now_secs: u64, freshness: Freshness) -> String {
    let (age, ahead) = (now_secs.saturating_sub(sealed_at_secs), sealed_at_secs.saturating_sub(now_secs));
    if age > 0 {
        let age_max = freshness.age_secs_max;
        format!(
            "the envelope was sealed {age} s ago by the server's clock, which takes {age_max} s: set both clocks"
        )
    } else {
        let ahead_max = freshness.ahead_secs_max;
        format!(
            "the envelope was sealed {ahead} s ahead of the server's clock, which takes {ahead_max} s: set both clocks"
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
        assert!(keys.seal_base64url(&[b'x'; 1000], 0, [0; 16]).len() <= limits.body_bytes_max(false));
    }

    #[test]
    fn a_stale_envelope_is_told_which_way_the_clock_is_off() {
        let freshness = Freshness::at(1000);
        assert!(stale_detail(900, 1000, freshness).contains("100 s ago"));
        assert!(stale_detail(1100, 1000, freshness).contains("100 s ahead"));
        assert!(stale_detail(u64::MAX, 0, freshness).contains("clock"));
    }
}

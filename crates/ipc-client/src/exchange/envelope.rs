//! The body of a request: an envelope that is sealed while it is sent, in a buffer that is used
//! again.
//!
//! `exchange` makes one for each request, `http` posts it. The first part is sent while the next is
//! sealed, so that client, network and server work on a long message at the same time.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use awc::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};
use ipc_envelope::{KeyRing, Sealing};
use ipc_protocol::RAW_ENVELOPE_TYPE;
use zeroize::Zeroize as _;

/// How many bytes are sealed and passed to awc at a time: as many as a TLS record holds (RFC 8446,
/// section 5.1).
const PIECE_BYTES: usize = 16 * 1024;

/// The body of a request: none, or an envelope.
pub(crate) struct Envelope(Option<Unsent>);

/// The part of an envelope that awc does not have yet, and the state of its sealing.
struct Unsent {
    rest: BytesMut,
    /// `None` where all of it is sealed.
    sealing: Option<Sealing>,
}

/// The memory of an envelope that is being sent.
pub(crate) struct ReclaimableBuffer(BytesMut);

impl Envelope {
    /// The length of the body.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |body| body.rest.len())
    }

    /// No body.
    pub(crate) fn none() -> Self {
        Envelope(None)
    }

    /// An envelope that was sealed before, as text.
    #[cfg(feature = "python-compat")]
    pub(crate) fn complete(text: Vec<u8>) -> Self {
        Envelope(Some(Unsent { rest: BytesMut::from(Bytes::from(text)), sealing: None }))
    }

    /// The media type of the body: that of a raw envelope. Text has none.
    pub(crate) fn content_type(&self) -> Option<&'static str> {
        let is_raw = self.0.as_ref().is_some_and(|unsent| unsent.sealing.is_some());
        is_raw.then_some(RAW_ENVELOPE_TYPE)
    }

    /// Begins the envelope of the plaintext in `buffer`, laid out as for [`KeyRing::begin_seal`].
    /// Returns it with its memory.
    pub(crate) fn seal(
        ring: &KeyRing,
        mut buffer: Vec<u8>,
        now_secs: u64,
        iv: [u8; 16],
    ) -> (Self, ReclaimableBuffer) {
        let sealing = ring.begin_seal(&mut buffer, now_secs, iv);
        let bytes = Bytes::from(buffer);
        // The bytes have one owner, so this does not copy them.
        let mut rest = bytes.try_into_mut().unwrap_or_else(|bytes| BytesMut::from(&bytes[..]));
        let memory = ReclaimableBuffer(rest.split_off(rest.len()));
        (Envelope(Some(Unsent { rest, sealing: Some(sealing) })), memory)
    }
}

impl Drop for Unsent {
    /// Wipes the rest, which is still plaintext if the envelope was not sent to its end.
    fn drop(&mut self) {
        self.rest.zeroize();
    }
}

impl ReclaimableBuffer {
    /// Returns the buffer, empty, if no part of the envelope is in use any more.
    pub(crate) fn reclaim(mut self, bytes: usize) -> Option<Vec<u8>> {
        self.0.try_reclaim(bytes).then(|| Vec::from(self.0))
    }
}

impl MessageBody for Envelope {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0.as_ref().map_or(BodySize::None, |unsent| BodySize::Sized(unsent.rest.len() as u64))
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let unsent = self.get_mut().0.as_mut().filter(|unsent| !unsent.rest.is_empty());
        let Some(Unsent { rest, sealing }) = unsent else { return Poll::Ready(None) };
        let sealed = match sealing {
            Some(sealing) => sealing.advance(rest, PIECE_BYTES),
            None => rest.len(),
        };
        Poll::Ready(Some(Ok(rest.split_to(sealed).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_envelope::{HEADER_BYTES, Key};
    use std::task::Waker;

    fn pieces(mut envelope: Envelope) -> Vec<Bytes> {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| match Pin::new(&mut envelope).poll_next(&mut cx) {
            Poll::Ready(Some(Ok(piece))) => Some(piece),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn the_pieces_are_the_envelope_and_none_is_long() {
        let ring = KeyRing::new(Key::from_bytes([1; 32]));
        for plaintext_bytes in [0, 100, PIECE_BYTES, 100_000] {
            let plaintext = vec![7; plaintext_bytes];
            let buffer = [&[0; HEADER_BYTES], &plaintext[..]].concat();
            let (envelope, _memory) = Envelope::seal(&ring, buffer, 5, [3; 16]);
            let size = envelope.size();
            let pieces = pieces(envelope);
            assert!(pieces.iter().all(|piece| piece.len() < PIECE_BYTES + 128));
            let sent = pieces.concat();
            assert_eq!(sent, ring.seal(&plaintext, 5, [3; 16]));
            assert_eq!(size, BodySize::Sized(sent.len() as u64));
        }
    }

    #[test]
    fn the_buffer_comes_back_when_nothing_of_it_is_on_its_way() {
        let ring = KeyRing::new(Key::from_bytes([1; 32]));
        let mut buffer = Vec::with_capacity(100_000);
        buffer.resize(90_000, 0);
        let at = buffer.as_ptr().addr();
        let (envelope, memory) = Envelope::seal(&ring, buffer, 5, [3; 16]);
        drop(pieces(envelope));
        let buffer = memory.reclaim(100_000).unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr().addr()), (0, at), "the same memory, not a copy");
        assert!(buffer.capacity() >= 100_000);

        let (envelope, memory) = Envelope::seal(&ring, vec![0; 50_000], 5, [3; 16]);
        let on_their_way = pieces(envelope);
        assert!(memory.reclaim(50_000).is_none());
        drop(on_their_way);
    }
}

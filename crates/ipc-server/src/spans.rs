//! Spans and events for the crate `tracing`, if the feature `tracing` is enabled. Otherwise
//! nothing.
//!
//! `http` comes here with each request, `channel` with each channel. Without a subscriber a span
//! costs a load and a comparison. The log lines are the same with and without the feature: a
//! subscriber that wants those too takes them from the crate `log`.

pub(crate) use self::with_or_without::{RequestSpan, channel, channel_closed, frame};

#[cfg(feature = "tracing")]
mod with_or_without {
    use std::future::Future;
    use std::net::SocketAddr;

    use actix_web::dev::RequestHead;
    use tracing::field::Empty;
    use tracing::{Instrument as _, Span, debug, info_span};

    /// The target of all spans and events.
    const TARGET: &str = "web_ipc::server";

    /// The maximum length of a method or a path in characters, since a peer chose them.
    const CHARS_MAX: usize = 200;

    /// The span `request` of one request.
    #[derive(Clone)]
    pub(crate) struct RequestSpan(Span);

    impl RequestSpan {
        /// Makes a span with the fields `method`, `path`, `peer` and, once it is known, `status`.
        pub(crate) fn new(head: &RequestHead, peer: Option<SocketAddr>) -> Self {
            RequestSpan(info_span!(
                target: TARGET,
                "request",
                method = short(head.method.as_str()),
                path = short(head.uri.path()),
                peer = peer.map(display),
                status = Empty
            ))
        }

        /// Runs the future in the span.
        pub(crate) fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
            future.instrument(self.0)
        }

        /// Records the status of the response.
        pub(crate) fn answered(&self, status: u16) {
            self.0.record("status", status);
        }
    }

    fn short(text: &str) -> &str {
        text.char_indices().nth(CHARS_MAX).map_or(text, |(end, _)| &text[..end])
    }

    /// Runs the future in a span `channel` with the field `peer`.
    pub(crate) fn channel<F: Future>(
        peer: Option<SocketAddr>,
        future: F,
    ) -> impl Future<Output = F::Output> {
        future.instrument(info_span!(target: TARGET, "channel", peer = peer.map(display)))
    }

    /// Records that a frame's entries go into the inbox.
    pub(crate) fn frame(user: &str, entries: usize, requests: usize) {
        debug!(target: TARGET, user, entries, requests, "frame admitted");
    }

    /// Records the end of a channel, with the close code (RFC 6455, section 7.4) if one was sent.
    pub(crate) fn channel_closed(code: Option<u16>) {
        debug!(target: TARGET, code, "channel closed");
    }
}

#[cfg(not(feature = "tracing"))]
mod with_or_without {
    use std::net::SocketAddr;

    use actix_web::dev::RequestHead;

    #[derive(Clone)]
    pub(crate) struct RequestSpan;

    impl RequestSpan {
        pub(crate) fn new(_head: &RequestHead, _peer: Option<SocketAddr>) -> Self {
            RequestSpan
        }

        pub(crate) fn run<F>(self, future: F) -> F {
            future
        }

        pub(crate) fn answered(&self, _status: u16) {}
    }

    pub(crate) fn channel<F>(_peer: Option<SocketAddr>, future: F) -> F {
        future
    }

    pub(crate) fn frame(_user: &str, _entries: usize, _requests: usize) {}

    pub(crate) fn channel_closed(_code: Option<u16>) {}
}

//! What a channel may cost, see the setters of [`ServerBuilder`](crate::ServerBuilder).

use std::time::Duration;

use ipc_protocol::{CHANNEL_SILENCE_MAX, ChannelLimits};

/// The limits of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelSettings {
    /// Those that the client is told.
    pub(crate) announced: ChannelLimits,
    /// Fragments of a message.
    pub(crate) fragments_max: u32,
    /// Control frames at once; a third of them come back each second.
    pub(crate) control_frames_max: u32,
    /// Bytes of answers that wait to be taken by the peer; with more, nothing is read.
    pub(crate) answers_bytes_max: usize,
    /// How long the peer may take for what was handed to its connection.
    pub(crate) answer: Duration,
    /// How long nothing may be heard of the peer. A ping goes out after half of it.
    pub(crate) silence_max: Duration,
    /// How long it may be without an entry and without a request that waits.
    pub(crate) idle: Duration,
    /// How long a server that stops waits for replies.
    pub(crate) stop: Duration,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        ChannelSettings {
            announced: ChannelLimits::default(),
            fragments_max: 128,
            control_frames_max: 32,
            answers_bytes_max: 64 * 1024,
            answer: Duration::from_secs(30),
            silence_max: CHANNEL_SILENCE_MAX,
            idle: Duration::from_secs(600),
            stop: Duration::from_secs(9),
        }
    }
}

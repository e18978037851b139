//! The limits of a channel. See the setters of [`ServerBuilder`](crate::ServerBuilder).

use std::time::Duration;

use ipc_protocol::{CHANNEL_SILENCE_MAX, ChannelLimits};

/// The limits of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelSettings {
    /// The limits that the client is told.
    pub(crate) announced: ChannelLimits,
    /// How many fragments a message may have.
    pub(crate) fragments_max: u32,
    /// How many control frames may arrive in a burst. A third of them is allowed again each second.
    pub(crate) control_frames_max: u32,
    /// How many bytes of answers may wait for the peer. Above that nothing is read.
    pub(crate) answers_bytes_max: usize,
    /// How long the peer may take to take data that were handed to its connection.
    pub(crate) answer: Duration,
    /// How long the peer may be silent. A ping is sent after half of that time.
    pub(crate) silence_max: Duration,
    /// How long the channel may be without an entry and without a waiting request.
    pub(crate) idle: Duration,
    /// How long a stopping server waits for replies.
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

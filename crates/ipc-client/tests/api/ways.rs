//! The two ways that a message can go, for tests that apply to both.

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Post,
    Channel,
}

/// Makes two tests of each function that takes a [`Way`].
macro_rules! both_ways {
    ($($name:ident,)*) => {
        mod by_post {
            $(#[test]
            fn $name() {
                super::$name(crate::ways::Way::Post);
            })*
        }
        mod over_a_channel {
            $(#[test]
            fn $name() {
                super::$name(crate::ways::Way::Channel);
            })*
        }
    };
}

/// Like `both_ways`, for async functions.
macro_rules! both_ways_async {
    ($($name:ident,)*) => {
        mod by_post {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::ways::Way::Post).await;
            })*
        }
        mod over_a_channel {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::ways::Way::Channel).await;
            })*
        }
    };
}

pub(crate) use {both_ways, both_ways_async};

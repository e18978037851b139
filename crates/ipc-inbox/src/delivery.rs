//! A message in the application's hands.

use std::time::SystemTime;

use ipc_protocol::{Fingerprint, MessageId};
use serde::Deserialize;

use crate::Message;

/// A message handed to the application, with its sender, to be acknowledged when it has been dealt with.
///
/// A message from the memory inbox is the application's from the moment it is taken: dropping its delivery loses
/// it, acknowledged or not. Programs that call [`ack`](Delivery::ack) when they are done need no change for an
/// inbox that gives an unacknowledged message again.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
}

/// An acknowledgement that did not succeed. The memory inbox gives none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {}

/// The body is not of the type it was asked for as.
#[derive(Debug, thiserror::Error)]
#[error("the message is not of the expected form: {0}")]
pub struct BodyError(#[source] serde_json::Error);

impl Delivery {
    /// Hands over a message.
    pub fn new(message: Message) -> Self {
        Delivery { message }
    }

    /// The JSON object as text, exactly as it was sent.
    pub fn body(&self) -> &str {
        &self.message.body
    }

    /// The JSON object as a value: `serde_json::Value`, or a type of the application's own.
    ///
    /// # Errors
    /// [`BodyError`] if the object is not of the form that `T` asks for. A `serde_json::Value` takes any.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BodyError> {
        serde_json::from_str(self.body()).map_err(BodyError)
    }

    /// The user who sent it.
    pub fn user(&self) -> &str {
        &self.message.user
    }

    /// The certificate it came with; `None` over plain http.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.message.certificate
    }

    /// The id its sender gave it, the same however often it was sent.
    pub fn id(&self) -> MessageId {
        self.message.id
    }

    /// When the server had it.
    pub fn received_at(&self) -> SystemTime {
        self.message.received_at
    }

    /// Says that the message has been dealt with.
    ///
    /// # Errors
    /// None from the memory inbox.
    pub async fn ack(self) -> Result<(), AckError> {
        Ok(())
    }

    /// [`ack`](Delivery::ack) for code that is not async.
    ///
    /// # Errors
    /// As `ack`.
    pub fn ack_blocking(self) -> Result<(), AckError> {
        futures_executor::block_on(self.ack())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(body: &str) -> Delivery {
        Delivery::new(Message {
            id: MessageId::from_random([1; 16]),
            user: "u".into(),
            certificate: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: body.into(),
        })
    }

    #[test]
    fn a_body_is_text_until_it_is_asked_for_as_more() {
        #[derive(Deserialize)]
        struct Reading {
            celsius: f64,
        }
        let delivery = delivery(r#"{"celsius": 21.50}"#);
        assert_eq!(delivery.body(), r#"{"celsius": 21.50}"#);
        assert_eq!(delivery.parse::<Reading>().unwrap().celsius, 21.5);
        assert_eq!(delivery.parse::<serde_json::Value>().unwrap()["celsius"], 21.5);
        assert!(delivery.parse::<Vec<u8>>().is_err());
        delivery.ack_blocking().unwrap();
    }

    #[test]
    fn debug_does_not_show_the_body() {
        assert!(!format!("{:?}", delivery(r#"{"a":"hunter2"}"#)).contains("hunter2"));
    }
}

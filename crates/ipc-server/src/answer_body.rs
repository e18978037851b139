//! Wraps the body of any response, together with a value that is dropped when actix-http has taken
//! all of the body.
//!
//! `http` wraps each response, because a connection has to know where its response ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

/// A body and a value that is dropped with it. actix-http drops a body after it has taken the last
/// byte, or when the connection ends.
#[derive(Debug)]
pub(crate) struct AnswerBody<B, E> {
    body: B,
    _end: E,
}

impl<B, E> AnswerBody<B, E> {
    pub(crate) fn new(body: B, end: E) -> Self {
        AnswerBody { body, _end: end }
    }
}

impl<B: MessageBody + Unpin, E: Unpin> MessageBody for AnswerBody<B, E> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}

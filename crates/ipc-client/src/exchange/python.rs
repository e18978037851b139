//! Posts messages and logins to a server of the unmodified Python tool.
//!
//! `exchange` comes here where the client was told that its server is one. A body is the text of an
//! envelope with a pickled dict, without frame, id and session: that server knows a client by its
//! address. Its statuses alone count. It knows no duplicates, so that nothing which may have
//! arrived is sent again.

use std::rc::Rc;

use ipc_pickle::from_json;
use ipc_protocol::{AuthReply, Route};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::error::{Outcome, PythonFault, SendError};
use crate::exchange::envelope::Envelope;
use crate::exchange::refusal::{AttemptError, Recovery, give_up};
use crate::exchange::session::Generation;
use crate::exchange::{AttemptLimits, Exchange};
use crate::sealer::unix_now_secs;
use crate::transport::attempt::Attempt;
use crate::transport::http::Response;

/// How long a login lasts there.
const SESSION_SECS: u64 = 3600;

/// What that server answers to a body that it cannot read.
const FAILED_TEXT: &[u8] = b"failed";

impl Exchange {
    /// Posts one message. Sets `used` to the generation of the login that counts for it.
    pub(super) async fn submit_pickled(
        &self,
        body: &str,
        limits: AttemptLimits,
        used: &mut Generation,
        attempt: &Rc<Attempt>,
    ) -> Result<(), AttemptError> {
        *used = self.session.generation();
        let pickle = from_json(body).map_err(|error| {
            let fault = PythonFault::NotPickled { reason: error.to_string() };
            give_up(SendError::PythonTool { fault })
        })?;
        let response = self
            .post_pickle(Route::MessageSubmit, &Zeroizing::new(pickle), limits, attempt)
            .await
            .map_err(|error| once(error, attempt))?;
        match response.status {
            200 => Ok(()),
            401 | 419 => Err(AttemptError {
                error: SendError::Refused {
                    status: response.status,
                    code: None,
                    detail: "the server of the Python tool knows no login from this address"
                        .to_owned(),
                },
                recovery: Recovery::LogIn,
            }),
            500 if *response.body == *FAILED_TEXT => {
                Err(give_up(SendError::PythonTool { fault: PythonFault::NotRead }))
            }
            _ => Err(once(self.refusal(&response), attempt)),
        }
    }

    /// Logs in. There is no session token.
    pub(super) async fn log_in_pickled(&self, ends_at: Instant) -> Result<AuthReply, AttemptError> {
        let body = self.login_body();
        let body = std::str::from_utf8(&body).expect("serde_json writes UTF-8");
        let pickle = Zeroizing::new(from_json(body).expect("two strings can always be pickled"));
        let limits = AttemptLimits::until(ends_at);
        let route = Route::ClientAuth;
        let response = self.post_pickle(route, &pickle, limits, &Rc::default()).await?;
        match response.status {
            200 => Ok(AuthReply { session: Zeroizing::default(), expires_in: SESSION_SECS }),
            500 => {
                let detail = "the server of the Python tool failed in the login".to_owned();
                Err(give_up(SendError::Unexpected { status: 500, detail }))
            }
            _ => Err(self.refusal(&response)),
        }
    }

    async fn post_pickle(
        &self,
        route: Route,
        pickle: &[u8],
        limits: AttemptLimits,
        attempt: &Rc<Attempt>,
    ) -> Result<Response, AttemptError> {
        let (bytes, bytes_max) = (pickle.len(), self.config.plaintext_bytes_max);
        if bytes > bytes_max {
            return Err(give_up(SendError::TooLarge { bytes, bytes_max }));
        }
        let iv = self.sealer.draw_iv().map_err(give_up)?;
        let text = self.sealer.ring().seal_base64url(pickle, unix_now_secs(), iv);
        let envelope = Envelope::complete(text.into_bytes());
        self.send(route, envelope, None, limits, attempt)
            .await
            .map_err(AttemptError::without_answer)
    }
}

/// Gives up where the message may have arrived, since that server would take it twice.
fn once(error: AttemptError, attempt: &Attempt) -> AttemptError {
    let may_be_there = attempt.writing.get() && error.error.outcome() == Outcome::NotKnown;
    match error.recovery {
        Recovery::Wait(_) if may_be_there => give_up(error.error),
        _ => error,
    }
}

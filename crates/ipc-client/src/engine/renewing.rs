//! Renewals: they wait in no queue, and are tried again as a message is.
//!
//! `worker` comes here. What a request looks like is known in `exchange`.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::engine::backoff::Backoff;
use crate::engine::dispatch::Engine;
use crate::engine::recovery::{KEPT_TRIES_MAX, of_the_login};
use crate::error::SendError;
use crate::exchange::AttemptLimits;
use crate::exchange::login::Purpose;
use crate::exchange::refusal::{AttemptError, Recovery};
use crate::exchange::session::{Generation, Origin};
use crate::log_throttle::seconds;
use crate::random::random;
use crate::renewal::Renewal;

impl Engine {
    /// Asks for a renewal until there is an answer, or `timeout` after `begun_at` is over.
    pub(crate) async fn renew_certificate(
        self: &Rc<Self>,
        csr_pem: Option<&str>,
        begun_at: Instant,
        timeout: Duration,
    ) -> Result<Renewal, SendError> {
        self.config.refuse_beyond_messages("renewals of certificates")?;
        let ends_at = begun_at + timeout;
        let mut backoff = Backoff::new();
        let mut logins = Logins::default();
        let mut is_last_try = false;
        let mut has_told = false;
        loop {
            let mut used = 0;
            let epoch = self.exchange.epoch();
            let attempt = Rc::default();
            let limits = AttemptLimits::until(ends_at);
            let result =
                self.exchange.renew_certificate(csr_pem, limits, &mut used, &attempt).await;
            let error = match result {
                Ok(renewal) => return Ok(renewal),
                Err(error) => error,
            };
            self.leave_address(&error.error);
            let error = match error.recovery {
                Recovery::LogIn => match self.log_in_for(&mut logins, used, ends_at, error).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                _ => error,
            };
            let Recovery::Wait(told) = error.recovery else {
                if !std::mem::replace(&mut is_last_try, true)
                    && self.may_pass_now(&error.error, epoch, ends_at).await
                {
                    logins = Logins::default();
                    continue;
                }
                return Err(error.error);
            };
            let left = ends_at.saturating_duration_since(Instant::now());
            // Without random numbers pauses lose their jitter, and the next seal will say so.
            let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
            let Some(pause) = backoff.next(told, left, random) else {
                let outcome = error.error.outcome();
                return Err(SendError::Timeout { timeout, outcome, last: Box::new(error.error) });
            };
            // Said once: whoever waits knows by then why.
            let level = match std::mem::replace(&mut has_told, true) {
                false => log::Level::Info,
                true => log::Level::Debug,
            };
            log::log!(
                level,
                "asking for the renewal again in {} ms, giving up in {}: {}",
                pause.as_millis(),
                seconds(left),
                ipc_base::chain(&error.error)
            );
            // A session that ends meanwhile is not one that was never good.
            logins.fresh = None;
            sleep(pause).await;
        }
    }

    /// Sees to it that there is another session than that of generation `used`. `refusal` is why.
    async fn log_in_for(
        &self,
        logins: &mut Logins,
        used: Generation,
        ends_at: Instant,
        refusal: AttemptError,
    ) -> Result<(), AttemptError> {
        if logins.fresh == Some(used) {
            // It was made for this, and is refused: another one would be too.
            return Err(AttemptError { recovery: Recovery::GiveUp, ..refusal });
        }
        let may_take_kept = logins.kept < KEPT_TRIES_MAX;
        let session = self.exchange.renew(used, may_take_kept, ends_at, Purpose::Renewal).await;
        match session.map_err(of_the_login)? {
            Origin::Login => logins.fresh = Some(self.exchange.current_session().1),
            Origin::Kept => logins.kept += 1,
        }
        Ok(())
    }
}

/// The sessions that were got for one renewal.
#[derive(Default)]
struct Logins {
    /// The one of a login.
    fresh: Option<Generation>,
    /// How many that another process kept were taken.
    kept: u32,
}

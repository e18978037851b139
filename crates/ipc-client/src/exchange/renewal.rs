//! One POST that renews: a certificate signing request goes out, and what an enrolled client needs
//! comes back.
//!
//! `engine` comes here, and decides whether it is sent again.

use std::rc::Rc;

use ipc_protocol::{RenewalReply, RenewalRequest, Route};

use crate::exchange::refusal::{AttemptError, give_up};
use crate::exchange::session::Generation;
use crate::exchange::{AttemptLimits, Exchange, text};
use crate::renewal::Renewal;
use crate::transport::attempt::Attempt;

impl Exchange {
    /// Posts a request for a renewal. `used` is the session that it goes with.
    pub(crate) async fn renew_certificate(
        &self,
        csr_pem: Option<&str>,
        limits: AttemptLimits,
        used: &mut Generation,
        attempt: &Rc<Attempt>,
    ) -> Result<Renewal, AttemptError> {
        let route = Route::ClientRenew;
        let id = self.sealer.draw_id().map_err(give_up)?;
        let request = RenewalRequest { csr: csr_pem.map(str::to_owned) };
        let body = serde_json::to_string(&request).expect("a string always serialises");
        let sealed = self.seal_with_session(route, id, text(&body), used)?;
        let response = self.post(route, sealed, None, limits, attempt).await?;
        if response.status != 200 {
            return Err(self.refusal(&response));
        }
        self.read_reply(id, &response, |body| {
            let reply: RenewalReply = serde_json::from_str(body).ok()?;
            Renewal::of(reply, csr_pem.is_some())
        })
    }
}

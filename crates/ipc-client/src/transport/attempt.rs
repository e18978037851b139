//! Records how far one attempt to send a request got.

use std::cell::Cell;
use std::rc::Rc;

/// How far an attempt got. The connector and the stream set its fields.
#[derive(Default)]
pub(crate) struct Attempt {
    /// Whether a connection was made for the attempt. Otherwise it used an older one.
    pub(crate) connected: Cell<bool>,
    /// Whether the first bytes of the request were written. From then on the request may arrive.
    pub(crate) writing: Cell<bool>,
}

tokio::task_local! {
    /// The attempt of the running task. awc calls the connector from the request's own future, but
    /// passes only the URL.
    pub(crate) static ATTEMPT: Rc<Attempt>;
}

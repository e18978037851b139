//! How far one attempt to send a request got, told by those who make the connection and write to
//! it.

use std::cell::Cell;
use std::rc::Rc;

/// What is known of one attempt to send a request, told by those who do the work.
#[derive(Default)]
pub(crate) struct Attempt {
    /// A connection was made for it, rather than an older one used.
    pub(crate) connected: Cell<bool>,
    /// The request began to be written: from here on it may arrive.
    pub(crate) writing: Cell<bool>,
}

tokio::task_local! {
    /// The attempt that the running task makes. awc calls the connector from within the request's
    /// own future, but hands it only the URL.
    pub(crate) static ATTEMPT: Rc<Attempt>;
}

//! Another material for what is sent from now on: connections, keys, credentials.
//!
//! `engine` comes here with what was read of a home that has changed. What becomes of messages on
//! their way is not known here.

use std::rc::Rc;

use crate::exchange::Exchange;
use crate::source::{Epoch, Material, Seen, Source};
use crate::transport::http::Http;

/// What of a material is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Certificates, authorities, or the server's name or addresses.
    pub(crate) link: bool,
    pub(crate) keys: bool,
    pub(crate) credentials: bool,
}

impl Change {
    pub(crate) fn is_any(self) -> bool {
        self.link || self.keys || self.credentials
    }
}

impl Exchange {
    /// Which material is in use.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.get()
    }

    /// Where it is from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// What was read of that.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.borrow())
    }

    /// Sends with another material from now on. What is on its way over an old connection has its
    /// answer there; then that connection is closed.
    pub(crate) fn take(&self, material: Material) -> Change {
        let Material { name, connector, ring, credentials, credentials_origin, cache, seen } =
            material;
        let mut before = self.seen.borrow_mut();
        let mut own = self.credentials.borrow_mut();
        let change = Change {
            link: before.link != seen.link,
            keys: before.keys != seen.keys,
            credentials: own.username != credentials.username
                || own.password != credentials.password,
        };
        if change.link {
            let old = self.http();
            let http = Http::new(&name, connector, self.config.pool(), Some(&old));
            *self.http.borrow_mut() = Rc::new(http);
            self.has_probed.set(false);
        }
        if change.keys {
            self.sealer.set_ring(ring);
        }
        if change.link || own.username != credentials.username {
            // A session is that of a certificate and of a user.
            self.session.forget();
        }
        *own = credentials;
        self.credentials_origin.set(credentials_origin);
        *self.cache.borrow_mut() = cache;
        *before = seen;
        if change.is_any() {
            self.epoch.set(self.epoch.get() + 1);
        }
        change
    }
}

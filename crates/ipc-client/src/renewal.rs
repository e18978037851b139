//! What a renewal brings.
//!
//! `exchange` makes one of a server's reply, callers get it. A plain value: no file is written
//! here.

use std::fmt;

use ipc_protocol::RenewalReply;
use zeroize::Zeroizing;

/// What the server gave in answer to [`Client::renew`](crate::Client::renew): everything that an
/// enrolled client needs, whether it has changed or not.
///
/// Putting it into the home is up to `ipc-setup`. `Debug` shows no key.
#[derive(Clone)]
#[non_exhaustive]
pub struct Renewal {
    /// The new certificate in PEM, with any intermediate ones behind it; `None` where none was
    /// asked for, or where the server has given this client as many as it gives in 24 hours.
    pub certificate_pem: Option<String>,
    /// The certificates of all authorities that are trusted from now on, in PEM: one, or two while
    /// the authority is replaced.
    pub authorities_pem: String,
    /// The keys that this client seals and opens with, in their text form, at least one. The first
    /// seals. They are wiped on drop.
    pub envelope_keys: Vec<Zeroizing<String>>,
    /// The name that the server's certificate is for.
    pub server: String,
    /// Where the server is reached, `HOST:PORT` each, at least one.
    pub addresses: Vec<String>,
    /// What a further server of the installation gets beyond a client; `None` for a client.
    pub node: Option<NodeRenewal>,
}

/// What only a further server of the installation gets, which was enrolled as one. `Debug` shows no
/// key.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeRenewal {
    /// The keys of session tokens in their text form, at least one. The first seals. They are wiped
    /// on drop.
    pub session_keys: Vec<Zeroizing<String>>,
    /// The list of revoked certificates of each authority, in PEM; `None` where nothing was ever
    /// revoked.
    pub revocation_lists_pem: Option<String>,
    /// What a server sends behind its own certificate while the authority is replaced, in PEM.
    pub cross_certificates_pem: Option<String>,
}

impl fmt::Debug for NodeRenewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeRenewal")
            .field("session_keys", &self.session_keys.len())
            .field("revocation_lists", &self.revocation_lists_pem.is_some())
            .field("cross_certificates", &self.cross_certificates_pem.is_some())
            .finish()
    }
}

impl Renewal {
    /// What a reply says; `None` if it has a certificate that was not asked for, or leaves out what
    /// a client cannot be without. A server that issues no more for the time being leaves out the
    /// certificate alone.
    pub(crate) fn of(reply: RenewalReply, wants_certificate: bool) -> Option<Self> {
        let RenewalReply { certificate, authorities, envelope_keys, server, addresses, node } =
            reply;
        let is_whole = (wants_certificate || certificate.is_none())
            && !authorities.is_empty()
            && !envelope_keys.is_empty()
            && !addresses.is_empty()
            && node.as_ref().is_none_or(|node| !node.session_keys.is_empty());
        is_whole.then_some(Renewal {
            certificate_pem: certificate,
            authorities_pem: authorities,
            envelope_keys,
            server,
            addresses,
            node: node.map(|node| NodeRenewal {
                session_keys: node.session_keys,
                revocation_lists_pem: node.revocation_lists,
                cross_certificates_pem: node.cross_certificates,
            }),
        })
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal")
            .field("certificate", &self.certificate_pem.is_some())
            .field("envelope_keys", &self.envelope_keys.len())
            .field("server", &self.server)
            .field("addresses", &self.addresses)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::NodeReply;

    use super::*;

    fn reply() -> RenewalReply {
        RenewalReply {
            certificate: Some("C".into()),
            authorities: "A".into(),
            envelope_keys: vec![Zeroizing::new("the-key".into())],
            server: "localhost".into(),
            addresses: vec!["192.0.2.1:3000".into()],
            node: None,
        }
    }

    fn node(session_keys: Vec<Zeroizing<String>>) -> NodeReply {
        NodeReply { session_keys, revocation_lists: None, cross_certificates: None }
    }

    #[test]
    fn a_reply_without_what_a_client_needs_is_none_and_without_a_certificate_it_is_one() {
        let certificate = |reply, wants| Renewal::of(reply, wants).map(|one| one.certificate_pem);
        assert_eq!(certificate(reply(), true), Some(Some("C".to_owned())));
        assert_eq!(certificate(reply(), false), None);
        let without = RenewalReply { certificate: None, ..reply() };
        for wants in [true, false] {
            assert_eq!(certificate(without.clone(), wants), Some(None));
        }
        for bad in [
            RenewalReply { authorities: String::new(), ..reply() },
            RenewalReply { envelope_keys: Vec::new(), ..reply() },
            RenewalReply { addresses: Vec::new(), ..reply() },
            RenewalReply { node: Some(node(Vec::new())), ..reply() },
        ] {
            assert!(Renewal::of(bad, true).is_none());
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let node = Some(node(vec![Zeroizing::new("the-key".into())]));
        let shown = format!("{:?}", Renewal::of(RenewalReply { node, ..reply() }, true).unwrap());
        assert!(shown.contains("192.0.2.1:3000") && !shown.contains("the-key"), "{shown}");
        assert!(shown.contains("session_keys: 1"), "{shown}");
    }
}

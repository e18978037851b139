//! The frame bodies of `POST /client/renew`: the request of an enrolled client or server, and a
//! reply with all certificates, keys and addresses that it needs to follow a change of these.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest certificate signing request that a server reads, in bytes of PEM: a request for an
/// RSA key of 8,192 bits with a hundred names takes half of that.
pub const CSR_PEM_BYTES_MAX: usize = 16 * 1024;

/// The request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalRequest {
    /// A certificate signing request (PKCS#10, RFC 2986) in PEM (RFC 7468) for the client's new
    /// key. The server uses only the public key in it. With `None` the client gets no new
    /// certificate, but everything else that may have changed.
    #[serde(default)]
    pub csr: Option<String>,
}

/// The reply. Everything except the certificate is in each reply, whether it changed or not. A
/// client ignores members that it does not know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalReply {
    /// The new certificate in PEM. `None` if the request had no CSR, or if the client has got as
    /// many certificates as it may have for the time being.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The certificates of all trusted authorities, in PEM: one, or two while the authority is
    /// being replaced.
    pub authorities: String,
    /// The envelope keys of this client, in their text form. It seals with the first and opens with
    /// all.
    #[serde(with = "secrets")]
    pub envelope_keys: Vec<Zeroizing<String>>,
    /// The peer name in the server's certificate.
    pub server: String,
    /// The addresses that clients connect to, `HOST:PORT` each.
    pub addresses: Vec<String>,
    /// What a further server of the installation needs beyond a client. `None` for every client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeReply>,
}

/// The member of a [`RenewalReply`] that only a further server of the installation gets, which was
/// enrolled as one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReply {
    /// The keys of session tokens, in their text form. The server seals with the first and opens
    /// with all.
    #[serde(with = "secrets")]
    pub session_keys: Vec<Zeroizing<String>>,
    /// The list of revoked certificates of each authority (RFC 5280, section 5), in PEM. `None`
    /// where nothing was ever revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_lists: Option<String>,
    /// While the authority is being replaced, the certificates that a server sends behind its own,
    /// in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_certificates: Option<String>,
}

impl fmt::Debug for NodeReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeReply")
            .field("session_keys", &self.session_keys.len())
            .field("revocation_lists", &self.revocation_lists.is_some())
            .field("cross_certificates", &self.cross_certificates.is_some())
            .finish()
    }
}

impl fmt::Debug for RenewalReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewalReply")
            .field("certificate", &self.certificate.is_some())
            .field("envelope_keys", &self.envelope_keys.len())
            .field("server", &self.server)
            .field("addresses", &self.addresses)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

mod secrets {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        secrets: &[Zeroizing<String>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(secrets.iter().map(|secret| secret.as_str()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Zeroizing<String>>, D::Error> {
        let secrets = Vec::<String>::deserialize(deserializer)?;
        Ok(secrets.into_iter().map(Zeroizing::new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> RenewalReply {
        RenewalReply {
            certificate: Some("C".into()),
            authorities: "A".into(),
            envelope_keys: vec![Zeroizing::new("hunter2".into())],
            server: "localhost".into(),
            addresses: vec!["192.0.2.1:3000".into()],
            node: None,
        }
    }

    fn node() -> NodeReply {
        NodeReply {
            session_keys: vec![Zeroizing::new("hunter3".into())],
            revocation_lists: Some("L".into()),
            cross_certificates: None,
        }
    }

    #[test]
    fn the_wire_form_is_stable() {
        let request = RenewalRequest { csr: Some("R".into()) };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"csr":"R"}"#);
        let text = r#"{"certificate":"C","authorities":"A","envelope_keys":["hunter2"],"server":"localhost","addresses":["192.0.2.1:3000"]}"#;
        assert_eq!(serde_json::to_string(&reply()).unwrap(), text);
        assert_eq!(serde_json::from_str::<RenewalReply>(text).unwrap(), reply());

        let of_a_node = RenewalReply { node: Some(node()), ..reply() };
        let text = text.replace(
            r#"3000"]}"#,
            r#"3000"],"node":{"session_keys":["hunter3"],"revocation_lists":"L"}}"#,
        );
        assert_eq!(serde_json::to_string(&of_a_node).unwrap(), text);
        assert_eq!(serde_json::from_str::<RenewalReply>(&text).unwrap(), of_a_node);
    }

    #[test]
    fn without_a_request_there_is_no_certificate_and_what_is_not_known_is_refused_or_left() {
        for text in ["{}", r#"{"csr":null}"#] {
            let request: RenewalRequest = serde_json::from_str(text).unwrap();
            assert_eq!(request.csr, None, "{text}");
        }
        for text in [r#"{"csr":1}"#, r#"{"csr":"R","x":1}"#] {
            assert!(serde_json::from_str::<RenewalRequest>(text).is_err(), "{text}");
        }
        let later = r#"{"authorities":"A","envelope_keys":[],"server":"s","addresses":[],"x":1}"#;
        assert_eq!(serde_json::from_str::<RenewalReply>(later).unwrap().certificate, None);
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", RenewalReply { node: Some(node()), ..reply() });
        assert!(!shown.contains("hunter") && shown.contains("session_keys: 1"), "{shown}");
    }
}

//! The frame bodies of `POST /client/renew`: the request of an enrolled client, and a reply with
//! all certificates, keys and addresses that it needs to follow a change of these.

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
    /// The new certificate in PEM. `None` if the request had no CSR.
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
}

impl fmt::Debug for RenewalReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewalReply")
            .field("certificate", &self.certificate.is_some())
            .field("envelope_keys", &self.envelope_keys.len())
            .field("server", &self.server)
            .field("addresses", &self.addresses)
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
        }
    }

    #[test]
    fn the_wire_form_is_stable() {
        let request = RenewalRequest { csr: Some("R".into()) };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"csr":"R"}"#);
        let text = r#"{"certificate":"C","authorities":"A","envelope_keys":["hunter2"],"server":"localhost","addresses":["192.0.2.1:3000"]}"#;
        assert_eq!(serde_json::to_string(&reply()).unwrap(), text);
        assert_eq!(serde_json::from_str::<RenewalReply>(text).unwrap(), reply());
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
        assert!(!format!("{:?}", reply()).contains("hunter2"));
    }
}

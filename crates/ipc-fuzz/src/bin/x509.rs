//! Reads any bytes as a certificate and as a revocation list. The reader of server and client must
//! agree with OpenSSL on what both of them accept.

#![cfg_attr(fuzzing, no_main)]

use ipc_base::{CertificateFacts, PeerName, RevocationList};
use ipc_pki::{CertificateInfo, Usages, revocation_lists_from_pem};

ipc_fuzz::target!(x509);

const BEGIN: &str = "-----BEGIN X509 CRL-----\n";
const END: &str = "\n-----END X509 CRL-----\n";

fn x509(input: &[u8]) -> bool {
    let is_certificate = certificate(input);
    revocation_list(input) || is_certificate
}

fn certificate(der: &[u8]) -> bool {
    let Some(facts) = CertificateFacts::from_der(der) else { return false };
    if let Some(name) = &facts.name {
        assert_eq!(PeerName::parse(name.as_str()).as_ref(), Ok(name));
    }
    let Ok(info) = CertificateInfo::from_der(der) else { return true };
    assert_eq!(facts.serial, info.serial);
    assert_eq!(facts.not_before_secs, info.not_before_secs);
    assert_eq!(facts.not_after_secs, info.not_after_secs);
    if let Some(name) = &facts.name {
        let is_name = |text: &String| text == name.as_str();
        assert!(info.subject.as_ref().is_some_and(is_name) || info.alt_names.iter().any(is_name));
    }
    // OpenSSL leaves out an extension that it finds malformed, an object identifier with needless
    // bytes for example. It never sees a server where ours sees a client alone.
    if facts.is_client_only {
        assert!(matches!(info.usages, Some(Usages::Client) | None), "{:?}", info.usages);
    }
    if info.issuer_key_id.is_some() {
        assert_eq!(facts.issuer_key_id, info.issuer_key_id);
    }
    true
}

fn revocation_list(der: &[u8]) -> bool {
    let Some(list) = RevocationList::from_der(der) else { return false };
    for entry in &list.entries {
        let found = list.entry(&entry.serial).expect("it is in the list");
        assert_eq!(found.serial, entry.serial);
    }
    // A list that OpenSSL reads as well is written by it as it was.
    let pem = [BEGIN, &base64_simd::STANDARD.encode_to_string(der), END].concat();
    if let Ok(lists) = revocation_lists_from_pem(pem.as_bytes()) {
        assert_eq!(lists, [list]);
    }
    true
}

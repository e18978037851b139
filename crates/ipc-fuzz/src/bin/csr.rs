//! Reads any bytes as a certificate signing request, in PEM and as the DER within it. A certificate
//! that is issued for an accepted one must have the key of the request and nothing else of it.

#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use ipc_pki::{
    Authority, AuthorityOptions, CertificateInfo, CertificateRequest, LeafRequest,
    REQUEST_BYTES_MAX, RequestRefused, SubjectName, Usages,
};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

// Public keys are checked for each input, which takes long.
ipc_fuzz::target!(csr, 3_000);

const NOW_SECS: u64 = 1_750_000_000;
const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----\n";
const END: &str = "\n-----END CERTIFICATE REQUEST-----\n";

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    Authority::create(&AuthorityOptions::default(), NOW_SECS).expect("OpenSSL makes one")
});

fn csr(input: &[u8]) -> bool {
    let as_der = [BEGIN, &base64_simd::STANDARD.encode_to_string(input), END].concat();
    let is_accepted = is_accepted(as_der.as_bytes());
    self::is_accepted(input) || is_accepted
}

fn is_accepted(pem: &[u8]) -> bool {
    let request = match CertificateRequest::from_pem(pem) {
        Ok(request) => request,
        Err(RequestRefused::TooLong { length }) => {
            assert!(length == pem.len() && length > REQUEST_BYTES_MAX);
            return false;
        }
        Err(_) => return false,
    };
    assert!(pem.len() <= REQUEST_BYTES_MAX);
    let again = CertificateRequest::from_pem(pem).expect("the same bytes");
    assert_eq!(again.spki_sha256(), request.spki_sha256());

    let mut leaf = LeafRequest::new(SubjectName::parse("worker1").expect("a name"));
    leaf.usages = Usages::Client;
    let issued = AUTHORITY.issue_for_key(&leaf, &request, NOW_SECS).expect("its key is sound");
    let info = CertificateInfo::from_pem(&issued.certificate_pem).expect("our own");
    assert_eq!(info.subject.as_deref(), Some("worker1"));
    assert_eq!(info.alt_names, ["worker1"]);
    assert_eq!(info.usages, Some(Usages::Client));
    assert!(!info.is_ca);

    // Another parser than the one that read the request.
    let certificate = Certificate::from_der(&der(&issued.certificate_pem)).expect("our own");
    let key = certificate.tbs_certificate().subject_public_key_info().to_der().expect("a key");
    assert_eq!(<[u8; 32]>::from(Sha256::digest(key)), request.spki_sha256());
    true
}

/// The DER within the PEM of one certificate.
fn der(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).expect("PEM is ASCII");
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64_simd::STANDARD.decode_to_vec(body).expect("the body of PEM")
}

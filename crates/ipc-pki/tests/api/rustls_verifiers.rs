//! Verifies the certificates with rustls and the provider that server and client use.

use std::sync::Arc;
use std::time::Duration;

use ipc_pki::{Authority, IssuedPair, KeyType, LeafRequest, Usages};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::support::{NOW_SECS, authority, request};

const DAY_SECS: u64 = 86_400;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate_pem()).unwrap()).unwrap();
    Arc::new(roots)
}

/// Verifies the pair as that of a server that a client reaches by `name`.
fn as_server(
    authority: &Authority,
    pair: &IssuedPair,
    name: &str,
    now_secs: u64,
) -> Result<(), Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(authority), provider()).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&leaf, &[], &name, &[], time(now_secs)).map(|_| ())
}

/// Verifies the pair as that of a client.
fn as_client(authority: &Authority, pair: &IssuedPair, now_secs: u64) -> Result<(), Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(authority), provider()).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap();
    verifier.verify_client_cert(&leaf, &[], time(now_secs)).map(|_| ())
}

pub(crate) fn time(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

pub(crate) fn refusal(result: Result<(), Error>) -> CertificateError {
    match result.unwrap_err() {
        Error::InvalidCertificate(error) => error,
        error => panic!("not a matter of the certificate: {error}"),
    }
}

#[test]
fn a_leaf_is_accepted_from_both_ends_for_all_its_names() {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    for name in ["testServer1", "testserver1", "localhost", "a.example.com", "127.0.0.1", "::1"] {
        as_server(&authority, &pair, name, NOW_SECS).unwrap();
    }
    as_client(&authority, &pair, NOW_SECS).unwrap();
}

#[test]
fn an_rsa_leaf_is_accepted_from_both_ends() {
    let authority = authority(NOW_SECS);
    let pair =
        authority.issue(&request(Usages::ServerAndClient, KeyType::Rsa2048), NOW_SECS).unwrap();
    as_server(&authority, &pair, "localhost", NOW_SECS).unwrap();
    as_client(&authority, &pair, NOW_SECS).unwrap();
}

#[test]
fn an_internationalised_name_is_verified_in_its_a_label_form() {
    let authority = authority(NOW_SECS);
    let pair =
        authority.issue(&LeafRequest::new("bücher.example".parse().unwrap()), NOW_SECS).unwrap();
    as_server(&authority, &pair, "xn--bcher-kva.example", NOW_SECS).unwrap();
}

#[test]
fn rustls_loads_the_key_and_finds_that_it_belongs_to_the_certificate() {
    let authority = authority(NOW_SECS);
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let pair = authority.issue(&request(Usages::ServerAndClient, key_type), NOW_SECS).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
        assert!(matches!(key, PrivateKeyDer::Pkcs8(_)));
        let chain = vec![CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap()];
        CertifiedKey::from_der(chain, key, &provider()).unwrap().keys_match().unwrap();
    }
}

#[test]
fn another_name_is_refused() {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    for name in ["testServer2", "example.com", "a.b.example.com", "127.0.0.2", "::2"] {
        let error = refusal(as_server(&authority, &pair, name, NOW_SECS));
        assert!(
            matches!(error, CertificateError::NotValidForNameContext { .. }),
            "{name}: {error:?}"
        );
    }
}

#[test]
fn a_name_that_is_an_address_is_verified_as_an_address() {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&LeafRequest::new("10.1.2.3".parse().unwrap()), NOW_SECS).unwrap();
    as_server(&authority, &pair, "10.1.2.3", NOW_SECS).unwrap();
    assert!(as_server(&authority, &pair, "10.1.2.4", NOW_SECS).is_err());
}

#[test]
fn an_expired_leaf_is_refused_and_one_in_its_last_second_is_not() {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    let last = NOW_SECS + 365 * DAY_SECS;
    as_server(&authority, &pair, "localhost", last).unwrap();
    as_client(&authority, &pair, last).unwrap();
    for result in [
        as_server(&authority, &pair, "localhost", last + 1),
        as_client(&authority, &pair, last + 1),
    ] {
        assert!(matches!(refusal(result), CertificateError::ExpiredContext { .. }));
    }
}

#[test]
fn a_leaf_is_accepted_five_minutes_early_and_no_earlier() {
    let authority = authority(NOW_SECS - DAY_SECS);
    let pair = authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    as_server(&authority, &pair, "localhost", NOW_SECS - 300).unwrap();
    as_client(&authority, &pair, NOW_SECS - 300).unwrap();
    for result in [
        as_server(&authority, &pair, "localhost", NOW_SECS - 301),
        as_client(&authority, &pair, NOW_SECS - 301),
    ] {
        assert!(matches!(refusal(result), CertificateError::NotValidYetContext { .. }));
    }
}

#[test]
fn a_leaf_of_another_authority_is_refused() {
    let ours = authority(NOW_SECS);
    let theirs = authority(NOW_SECS);
    let pair = theirs.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    for result in
        [as_server(&ours, &pair, "localhost", NOW_SECS), as_client(&ours, &pair, NOW_SECS)]
    {
        let error = refusal(result);
        // Both authorities have the same name, so rustls finds an issuer, and then that the
        // signature does not match.
        assert!(
            matches!(error, CertificateError::BadSignature | CertificateError::UnknownIssuer),
            "{error:?}"
        );
    }
}

#[test]
fn a_leaf_for_one_end_is_refused_at_the_other() {
    let authority = authority(NOW_SECS);
    let server = authority.issue(&request(Usages::Server, KeyType::P256), NOW_SECS).unwrap();
    as_server(&authority, &server, "localhost", NOW_SECS).unwrap();
    let client = authority.issue(&request(Usages::Client, KeyType::P256), NOW_SECS).unwrap();
    as_client(&authority, &client, NOW_SECS).unwrap();
    for result in [
        as_client(&authority, &server, NOW_SECS),
        as_server(&authority, &client, "localhost", NOW_SECS),
    ] {
        let error = refusal(result);
        assert!(
            matches!(
                error,
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_certificate_with_a_flipped_bit_is_refused() {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(&authority), provider()).build().unwrap();
    let der = CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    for index in (0..der.len()).step_by(7) {
        let mut altered = der.to_vec();
        altered[index] ^= 1;
        let altered = CertificateDer::from(altered);
        assert!(
            verifier.verify_server_cert(&altered, &[], &name, &[], time(NOW_SECS)).is_err(),
            "{index}"
        );
    }
}

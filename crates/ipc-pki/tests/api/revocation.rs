//! A revocation list, as rustls and the openssl program see it.

use std::sync::Arc;

use ipc_pki::{
    Authority, CertificateInfo, IssuedPair, KeyType, RevocationReason, RevokedCertificate, Usages,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::openssl_program::{openssl, verify};
use crate::rustls_verifiers::{provider, refusal, time};
use crate::support::{Folder, NOW_SECS, authority, request};

const LATER_SECS: u64 = NOW_SECS + 3_650 * 86_400;

fn issue(authority: &Authority) -> IssuedPair {
    authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap()
}

fn entry(pair: &IssuedPair, reason: RevocationReason) -> RevokedCertificate {
    RevokedCertificate { serial: pair.serial.clone(), revoked_at_secs: NOW_SECS, reason }
}

fn list(authority: &Authority, entries: &[RevokedCertificate]) -> Vec<u8> {
    authority.revocation_list(entries, 1, NOW_SECS, LATER_SECS).unwrap()
}

/// A rustls verifier of clients that trusts these authorities and looks into these lists.
fn verifier(anchors: &[&Authority], lists: &[u8]) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(CertificateDer::from_pem_slice(anchor.certificate_pem()).unwrap()).unwrap();
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(lists).map(Result::unwrap);
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .unwrap()
}

fn check(
    verifier: &dyn ClientCertVerifier,
    pair: &IssuedPair,
    now_secs: u64,
) -> Result<(), rustls::Error> {
    let leaf = CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap();
    verifier.verify_client_cert(&leaf, &[], time(now_secs)).map(|_| ())
}

#[test]
fn rustls_refuses_a_revoked_leaf_and_accepts_the_others() {
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let mut options = ipc_pki::AuthorityOptions::default();
        options.key_type = key_type;
        let authority = Authority::create(&options, NOW_SECS).unwrap();
        let (good, bad, worse) = (issue(&authority), issue(&authority), issue(&authority));
        let entries = [
            entry(&bad, RevocationReason::Unspecified),
            entry(&worse, RevocationReason::KeyCompromise),
        ];
        let verifier = verifier(&[&authority], &list(&authority, &entries));
        check(&*verifier, &good, NOW_SECS).unwrap();
        for pair in [&bad, &worse] {
            assert_eq!(refusal(check(&*verifier, pair, NOW_SECS)), CertificateError::Revoked);
        }
        assert!(matches!(
            check(&*verifier, &good, LATER_SECS).unwrap_err(),
            rustls::Error::InvalidCertificate(_)
        ));
    }
}

#[test]
fn rustls_accepts_everybody_with_an_empty_list() {
    let authority = authority(NOW_SECS);
    let verifier = verifier(&[&authority], &list(&authority, &[]));
    check(&*verifier, &issue(&authority), NOW_SECS).unwrap();
}

#[test]
fn rustls_takes_a_verifier_for_each_of_two_authorities_of_one_name() {
    let (old, new) = (authority(NOW_SECS), authority(NOW_SECS));
    for authority in [&old, &new] {
        let (good, bad) = (issue(authority), issue(authority));
        let entries = [entry(&bad, RevocationReason::Superseded)];
        let verifier = verifier(&[authority], &list(authority, &entries));
        check(&*verifier, &good, NOW_SECS).unwrap();
        assert_eq!(refusal(check(&*verifier, &bad, NOW_SECS)), CertificateError::Revoked);
    }
}

#[test]
fn rustls_does_not_take_the_list_of_another_authority_of_that_name() {
    let (ours, theirs) = (authority(NOW_SECS), authority(NOW_SECS));
    let verifier = verifier(&[&ours], &list(&theirs, &[]));
    assert!(check(&*verifier, &issue(&ours), NOW_SECS).is_err());
}

#[test]
fn openssl_refuses_a_revoked_leaf_and_tells_the_lists_of_two_authorities_apart() {
    let (old, new) = (authority(NOW_SECS), authority(NOW_SECS));
    for (issuer, other) in [(&old, &new), (&new, &old)] {
        let (good, bad) = (issue(issuer), issue(issuer));
        let own = list(issuer, &[entry(&bad, RevocationReason::KeyCompromise)]);
        let others = list(other, &[entry(&issue(other), RevocationReason::Unspecified)]);
        for (pair, accepted) in [(&good, true), (&bad, false)] {
            let folder = Folder::new(issuer, pair);
            let anchors = [old.certificate_pem(), new.certificate_pem()].concat();
            std::fs::write(folder.file("both.crt"), anchors).unwrap();
            std::fs::write(folder.file("ca.crl"), [own.clone(), others.clone()].concat()).unwrap();
            let lists = folder.file("ca.crl");
            let further = ["-crl_check", "-CRLfile", lists.to_str().unwrap()];
            let Some((found, text)) = verify(&folder, "both.crt", &further) else { return };
            assert_eq!(found, accepted, "{text}");
            assert!(accepted || text.contains("certificate revoked"), "{text}");
        }
    }
}

#[test]
fn the_openssl_program_shows_the_list_as_it_was_asked_for() {
    let authority = authority(NOW_SECS);
    let bad = issue(&authority);
    let folder = Folder::new(&authority, &bad);
    let pem = authority
        .revocation_list(&[entry(&bad, RevocationReason::KeyCompromise)], 77, NOW_SECS, LATER_SECS)
        .unwrap();
    std::fs::write(folder.file("ca.crl"), pem).unwrap();
    let file = |name: &str| folder.file(name).to_str().unwrap().to_owned();
    let (list, anchor) = (file("ca.crl"), file("ca.crt"));
    let Some(output) =
        openssl(&["crl", "-in", &list, "-noout", "-text", "-verify", "-CAfile", &anchor])
    else {
        return;
    };
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && text.contains("verify OK"), "{text}");
    let serial = bad.serial.to_string().to_uppercase();
    for part in [
        "Version 2 (0x1)",
        "X509v3 CRL Number: \n                77\n",
        "X509v3 Authority Key Identifier:",
        "Key Compromise",
        &format!("Serial Number: {serial}\n"),
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let info = CertificateInfo::from_pem(&bad.certificate_pem).unwrap();
    assert_eq!(info.serial, bad.serial);
}

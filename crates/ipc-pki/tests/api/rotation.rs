//! An authority that is being replaced, as rustls and the openssl program see it.

use std::sync::Arc;

use ipc_pki::{Authority, IssuedPair, KeyType, LeafRequest, Usages};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::openssl_program::verify;
use crate::rustls_verifiers::{provider, refusal, time};
use crate::support::{Folder, NOW_SECS, authority, request};

fn certificate(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

fn roots(anchors: &[&Authority]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(certificate(anchor.certificate_pem())).unwrap();
    }
    Arc::new(roots)
}

fn as_server(
    anchors: &[&Authority],
    pair: &IssuedPair,
    sent: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(anchors), provider()).build().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let leaf = certificate(&pair.certificate_pem);
    verifier.verify_server_cert(&leaf, sent, &name, &[], time(NOW_SECS)).map(|_| ())
}

fn as_client(
    anchors: &[&Authority],
    pair: &IssuedPair,
    sent: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(anchors), provider()).build().unwrap();
    let leaf = certificate(&pair.certificate_pem);
    verifier.verify_client_cert(&leaf, sent, time(NOW_SECS)).map(|_| ())
}

fn issue(authority: &Authority) -> IssuedPair {
    authority.issue(&request(Usages::ServerAndClient, KeyType::P256), NOW_SECS).unwrap()
}

#[test]
fn rustls_that_trusts_the_old_authority_alone_accepts_a_leaf_of_the_new_one_with_the_cross_certificate()
 {
    let (old, new) = (authority(NOW_SECS), authority(NOW_SECS));
    let cross = [certificate(&old.cross_certify(&new).unwrap())];
    let (new_leaf, old_leaf) = (issue(&new), issue(&old));
    for anchors in [&[&old][..], &[&old, &new], &[&new, &old], &[&new]] {
        as_server(anchors, &new_leaf, &cross).unwrap();
        as_client(anchors, &new_leaf, &cross).unwrap();
    }
    // Those that trust both need no cross certificate, and one that is too many does no harm.
    for anchors in [&[&old, &new], &[&new, &old]] {
        for leaf in [&new_leaf, &old_leaf] {
            for sent in [&[][..], &cross] {
                as_server(anchors, leaf, sent).unwrap();
                as_client(anchors, leaf, sent).unwrap();
            }
        }
    }
    as_server(&[&old], &old_leaf, &cross).unwrap();
}

#[test]
fn rustls_refuses_the_new_leaf_without_the_cross_certificate_and_the_old_leaf_where_only_the_new_authority_is_trusted()
 {
    let (old, new, third) = (authority(NOW_SECS), authority(NOW_SECS), authority(NOW_SECS));
    let cross = [certificate(&old.cross_certify(&new).unwrap())];
    let foreign = [certificate(&third.cross_certify(&new).unwrap())];
    for result in [
        as_server(&[&old], &issue(&new), &[]),
        as_server(&[&old], &issue(&new), &foreign),
        as_server(&[&old], &issue(&third), &cross),
        as_server(&[&new], &issue(&old), &cross),
        as_client(&[&old], &issue(&new), &[]),
        as_client(&[&new], &issue(&old), &cross),
    ] {
        refusal(result);
    }
}

#[test]
fn openssl_verifies_a_leaf_of_the_new_authority_strictly_for_those_that_trust_either_or_both() {
    let (old, new) = (authority(NOW_SECS), authority(NOW_SECS));
    let folder = Folder::new(&new, &issue(&new));
    let write = |name: &str, pem: &[u8]| std::fs::write(folder.file(name), pem).unwrap();
    write("old.crt", old.certificate_pem());
    write("both.crt", &[new.certificate_pem(), old.certificate_pem()].concat());
    write("cross.crt", &old.cross_certify(&new).unwrap());
    write("foreign.crt", &authority(NOW_SECS).cross_certify(&new).unwrap());
    let file = |name: &str| folder.file(name).to_str().unwrap().to_owned();
    let (cross, foreign) = (file("cross.crt"), file("foreign.crt"));
    for (anchor, further, accepted) in [
        ("old.crt", &["-untrusted", &cross][..], true),
        ("both.crt", &["-untrusted", &cross], true),
        ("both.crt", &[], true),
        ("ca.crt", &["-untrusted", &cross], true),
        ("old.crt", &[], false),
        ("old.crt", &["-untrusted", &foreign], false),
    ] {
        for purpose in ["sslserver", "sslclient"] {
            let further = [further, &["-purpose", purpose]].concat();
            let Some((found, text)) = verify(&folder, anchor, &further) else { return };
            assert_eq!(found, accepted, "{anchor} {further:?}: {text}");
        }
    }
}

#[test]
fn rustls_follows_one_rotation_at_a_time() {
    let (old, new, third) = (authority(NOW_SECS), authority(NOW_SECS), authority(NOW_SECS));
    let chain = [
        certificate(&new.cross_certify(&third).unwrap()),
        certificate(&old.cross_certify(&new).unwrap()),
    ];
    let leaf = third.issue(&LeafRequest::new("localhost".parse().unwrap()), NOW_SECS).unwrap();
    // RFC 5280, section 4.2.1.9, does not count authorities of one name toward the path length;
    // rustls does.
    refusal(as_server(&[&old], &leaf, &chain));
    as_server(&[&new], &leaf, &chain).unwrap();
}

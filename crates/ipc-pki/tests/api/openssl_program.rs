//! Verifies the certificates with `openssl verify -x509_strict`, which applies RFC 5280 to the
//! letter.

use std::process::{Command, Output};

use ipc_pki::{KeyType, Usages};

use crate::support::{Folder, NOW_SECS, authority, request};

/// Runs the program, or reports that it is missing.
pub(crate) fn openssl(arguments: &[&str]) -> Option<Output> {
    match Command::new("openssl").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: the openssl program cannot be run ({error})");
            None
        }
    }
}

/// Verifies `leaf.crt` at `NOW_SECS` against a trust anchor; `None` without the program.
pub(crate) fn verify(folder: &Folder, anchor: &str, further: &[&str]) -> Option<(bool, String)> {
    let (anchor, leaf) = (folder.file(anchor), folder.file("leaf.crt"));
    let time = NOW_SECS.to_string();
    let mut arguments =
        vec!["verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-CAfile"];
    arguments.extend([anchor.to_str().unwrap(), "-attime", &time]);
    arguments.extend(further);
    arguments.push(leaf.to_str().unwrap());
    let output = openssl(&arguments)?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(text).unwrap()))
}

fn folder(usages: Usages, key_type: KeyType) -> Folder {
    let authority = authority(NOW_SECS);
    let pair = authority.issue(&request(usages, key_type), NOW_SECS).unwrap();
    Folder::new(&authority, &pair)
}

#[test]
fn it_accepts_a_leaf_strictly_for_both_purposes_and_all_names() {
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let folder = folder(Usages::ServerAndClient, key_type);
        for further in [
            &["-purpose", "sslserver", "-verify_hostname", "testServer1"][..],
            &["-purpose", "sslserver", "-verify_hostname", "a.example.com"],
            &["-purpose", "sslserver", "-verify_ip", "127.0.0.1"],
            &["-purpose", "sslserver", "-verify_ip", "::1"],
            &["-purpose", "sslclient"],
        ] {
            let Some((accepted, text)) = verify(&folder, "ca.crt", further) else { return };
            assert!(accepted, "{further:?}: {text}");
        }
    }
}

#[test]
fn it_refuses_another_name_another_authority_another_purpose_and_another_time() {
    let both = folder(Usages::ServerAndClient, KeyType::P256);
    let server = folder(Usages::Server, KeyType::P256);
    let late = (NOW_SECS + 366 * 86_400).to_string();
    for (folder, anchor, further) in [
        (&both, "ca.crt", &["-verify_hostname", "testServer2"][..]),
        (&both, "ca.crt", &["-verify_ip", "127.0.0.2"]),
        (&both, "other.crt", &[]),
        (&both, "ca.crt", &["-attime", &late]),
        (&server, "ca.crt", &["-purpose", "sslclient"]),
    ] {
        let Some((accepted, text)) = verify(folder, anchor, further) else { return };
        assert!(!accepted, "{anchor} {further:?}: {text}");
        assert!(text.contains("error "), "{text}");
    }
}

#[test]
fn it_finds_nothing_wrong_with_the_keys() {
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let folder = folder(Usages::ServerAndClient, key_type);
        let key = folder.file("leaf.key");
        let Some(output) = openssl(&["pkey", "-check", "-noout", "-in", key.to_str().unwrap()])
        else {
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

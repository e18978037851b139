//! Verifies the certificates with Python's strict flag, in a mutual TLS handshake in memory.

use std::process::Command;

use ipc_pki::{KeyType, Usages};

use crate::support::{Folder, authority, clock_secs, request};

/// Does a handshake with the pair in both roles, both verifying strictly: exit code 0. A refusal is
/// written to stderr: exit code 1. Without ssl: exit code 77. Arguments: trust anchor, certificate,
/// key, server name.
const HANDSHAKE: &str = r#"
import sys
try:
    import ssl
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)
anchor, certificate, key, name = sys.argv[1:]

def context(protocol):
    made = ssl.SSLContext(protocol)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(anchor)
    made.load_cert_chain(certificate, key)
    return made

def end(made, **options):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return made.wrap_bio(incoming, outgoing, **options), incoming, outgoing

client, client_in, client_out = end(context(ssl.PROTOCOL_TLS_CLIENT), server_hostname=name)
server, server_in, server_out = end(context(ssl.PROTOCOL_TLS_SERVER), server_side=True)
waiting = {client, server}
for _ in range(10):
    for one in (client, server):
        if one in waiting:
            try:
                one.do_handshake()
                waiting.discard(one)
            except ssl.SSLWantReadError:
                pass
        server_in.write(client_out.read())
        client_in.write(server_out.read())
if waiting:
    sys.exit("the handshake did not end")
for one in (client, server):
    subject = one.getpeercert()["subject"]
    if subject != ((("commonName", "testServer1"),),):
        sys.exit(f"the peer is {subject}")
"#;

/// Whether the handshake succeeded, and Python's output; `None` without a Python that has ssl.
fn handshake(folder: &Folder, anchor: &str, name: &str) -> Option<(bool, String)> {
    let files = [anchor, "leaf.crt", "leaf.key"].map(|file| folder.file(file));
    match Command::new("python3").args(["-c", HANDSHAKE]).args(files).arg(name).output() {
        Err(error) => eprintln!("skipped: python3 cannot be run ({error})"),
        Ok(output) if output.status.code() == Some(77) => {
            eprintln!("skipped: this python3 has no ssl module")
        }
        Ok(output) => {
            return Some((
                output.status.success(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
    }
    None
}

fn folder(usages: Usages, key_type: KeyType) -> Folder {
    let now_secs = clock_secs();
    let authority = authority(now_secs);
    let pair = authority.issue(&request(usages, key_type), now_secs).unwrap();
    Folder::new(&authority, &pair)
}

#[test]
fn it_shakes_hands_strictly_from_both_ends() {
    for key_type in [KeyType::P256, KeyType::Rsa2048] {
        let folder = folder(Usages::ServerAndClient, key_type);
        for name in ["testServer1", "localhost", "127.0.0.1", "::1"] {
            let Some((accepted, text)) = handshake(&folder, "ca.crt", name) else { return };
            assert!(accepted, "{key_type} {name}: {text}");
        }
    }
}

#[test]
fn it_refuses_another_name_another_authority_and_another_purpose() {
    let both = folder(Usages::ServerAndClient, KeyType::P256);
    let server = folder(Usages::Server, KeyType::P256);
    for (folder, anchor, name, reason) in [
        (&both, "ca.crt", "testServer2", "Hostname mismatch"),
        (&both, "ca.crt", "127.0.0.2", "IP address mismatch"),
        (&both, "other.crt", "localhost", "certificate verify failed"),
        (&server, "ca.crt", "localhost", "certificate verify failed"),
    ] {
        let Some((accepted, text)) = handshake(folder, anchor, name) else { return };
        assert!(!accepted && text.contains(reason), "{anchor} {name}: {text}");
    }
}

//! Follows the server in the home of an enrolled client, or of a further server: the key of the
//! next certificate is made here and never leaves, and what the server answers takes the place of
//! what was there.
//!
//! The command line comes here before and after it asks the server, which `ipc-client` does.
//! Nothing here knows the network.

use std::path::PathBuf;

use ipc_envelope::{Key, KeyRing};
use ipc_home::{ClientSettings, Enrolled, Home, HomeError, PeerName, read_secret};
use ipc_pki::{CertificateInfo, KeyType, RequestedPair, SubjectName, key_fits};
use zeroize::Zeroizing;

use crate::enrolments::EnrolmentKind;
use crate::lock::Lock;
use crate::node::{NodeAnswer, lines};
use crate::random::random_bytes;
use crate::{SetupError, directory, files, pair};

/// A certificate request whose key waits in the home for its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BegunRenewal {
    /// The name of the client.
    pub name: PeerName,
    /// The request (PKCS#10) in PEM, for the server.
    pub csr_pem: String,
}

/// What a server answered, as it came over the line.
#[derive(Clone, Copy)]
pub struct RenewalAnswer<'a> {
    /// The new certificate in PEM, where one was asked for.
    pub certificate_pem: Option<&'a str>,
    /// The certificates of all trusted authorities, in PEM.
    pub authorities_pem: &'a str,
    /// The client's envelope keys in their text form. The first seals.
    pub envelope_keys: &'a [Zeroizing<String>],
    /// The name that the server's certificate is for.
    pub server: &'a str,
    /// Where the server is reached, `HOST:PORT` each.
    pub addresses: &'a [String],
    /// What a further server got beyond that. `None` for a client.
    pub node: Option<NodeAnswer<'a>>,
}

/// Makes the key of the client's next certificate and a request for it.
///
/// The key is stored before this returns, and used again until its certificate has come: a renewal
/// that was interrupted asks for the same key, which the server knows.
///
/// # Errors
/// [`SetupError::NotEnrolled`] for any home but that of an enrolled client or server;
/// [`SetupError::RenewalKey`]; and what is wrong with the home.
pub fn begin_renewal(home: &Home) -> Result<BegunRenewal, SetupError> {
    let (_lock, _, settings) = lock(home)?;
    let name = settings.identity;
    let subject = SubjectName::parse(name.as_str())
        .map_err(|source| SetupError::Name { name: name.to_string(), source })?;
    let waiting = waiting_key_file(home, &name);
    let failed = |source| SetupError::RenewalKey { source };
    let requested = match read_secret(&waiting) {
        Ok(key) => RequestedPair::for_key(&subject, &key).map_err(failed)?,
        Err(HomeError::FileMissing { .. }) => {
            let made = RequestedPair::create(&subject, KeyType::default()).map_err(failed)?;
            files::write(&waiting, made.key_pem.as_bytes())?;
            made
        }
        Err(error) => return Err(error.into()),
    };
    let csr_pem = String::from_utf8_lossy(&requested.request_pem).into_owned();
    Ok(BegunRenewal { name, csr_pem })
}

/// Puts what the server answered into the home.
///
/// Each step leaves a home that works: first the new authorities, then the keys beside the old
/// ones, the credentials sealed with the new first key, the new keys alone, the pair, and the
/// settings. A renewal that was interrupted is completed by another one. What has not changed is
/// not written: whoever asks often disturbs nobody.
///
/// In the home of a further server, what is revoked comes first, then the session keys.
///
/// # Errors
/// [`SetupError::NotEnrolled`]; [`SetupError::BadRenewal`] if the answer cannot be used, and
/// nothing is changed then; and what is wrong with the home.
pub fn finish_renewal(
    home: &Home,
    answer: &RenewalAnswer<'_>,
    now_secs: u64,
) -> Result<ClientSettings, SetupError> {
    let (_lock, kind, settings) = lock(home)?;
    let name = settings.identity.clone();
    let keys = parse_keys(answer.envelope_keys)?;
    let ring = KeyRing::from_keys(keys).map_err(|_| bad("it has no envelope key"))?;
    check_authorities(answer.authorities_pem)?;
    let server = PeerName::parse(answer.server).map_err(|_| bad("it names no server"))?;
    if answer.addresses.is_empty() {
        return Err(bad("it names no address"));
    }
    match (kind, &answer.node) {
        (EnrolmentKind::Server, Some(node)) => node.check(answer.envelope_keys)?,
        (EnrolmentKind::Server, None) => return Err(bad("it has no session key")),
        // A client has no use for what servers share, and keeps nothing of it.
        (EnrolmentKind::Client, Some(_)) => return Err(bad("it is that to a server")),
        (EnrolmentKind::Client, None) => {}
    }
    let waiting = waiting_key_file(home, &name);
    let new_pair = match answer.certificate_pem {
        None => None,
        Some(certificate) => {
            let key = read_secret(&waiting)?;
            let info = CertificateInfo::from_pem(certificate.as_bytes())
                .map_err(|_| bad("its certificate cannot be read"))?;
            let is_own = info
                .subject
                .as_deref()
                .is_some_and(|subject| subject.eq_ignore_ascii_case(name.as_str()));
            if !is_own {
                return Err(bad("its certificate is for another name"));
            }
            if !key_fits(certificate.as_bytes(), &key) {
                return Err(bad("its certificate is not for the key that it was asked for"));
            }
            Some((certificate, key))
        }
    };

    let credentials = home.client_credentials()?;
    let admin = match kind {
        EnrolmentKind::Server => Some(home.admin_credentials()?),
        EnrolmentKind::Client => None,
    };
    let old = home.envelope_keys_one_by_one()?;
    let old: Vec<_> = old.iter().map(Key::to_base64url).collect();
    let new: Vec<_> = answer.envelope_keys.to_vec();
    let dropped = old.iter().filter(|key| !new.contains(key)).cloned();
    let both: Vec<_> = new.iter().cloned().chain(dropped).collect();
    if both.len() > ipc_envelope::KEYS_MAX {
        // So many were dropped at once that only a new bundle could carry the client over.
        return Err(bad("it has more new envelope keys than fit beside the old ones"));
    }
    // Nothing was changed up to here, and nothing of the answer is refused from here on.
    if let Some(node) = &answer.node {
        node.take(home)?;
    }
    files::write_if_changed(&home.ca_certificate_file(), answer.authorities_pem.as_bytes())?;
    // A ring that is the same leaves the credentials as they are sealed.
    if old != new {
        files::write(&home.envelope_keys_file(), lines(&both).as_bytes())?;
        let iv = random_bytes()?;
        files::commit(home.stage_client_credentials(&ring, &credentials, now_secs, iv)?)?;
        if let Some(admin) = admin {
            // Sealed with the first key of the file, which is the new one by now.
            files::commit(home.stage_admin_credentials(&admin, now_secs, random_bytes()?)?)?;
        }
        files::write(&home.envelope_keys_file(), lines(&new).as_bytes())?;
    }
    if let Some((certificate, key)) = new_pair {
        pair::write_pem(home, &name, certificate.as_bytes(), &key)?;
        files::remove(&waiting)?;
    }
    let before = settings.clone();
    let settings = ClientSettings { server, addresses: answer.addresses.to_vec(), ..settings };
    files::step();
    match kind {
        _ if settings == before => {}
        EnrolmentKind::Client => home.write_client_settings(&settings)?,
        EnrolmentKind::Server => home.write_node_settings(&settings)?,
    }
    Ok(settings)
}

/// The lock of an enrolled home, with what it is and its settings; an interrupted replacement of
/// its pair is finished.
fn lock(home: &Home) -> Result<(Lock, EnrolmentKind, ClientSettings), SetupError> {
    let enrolled = || match home.enrolled()? {
        Some(Enrolled::Server(node)) => Ok((EnrolmentKind::Server, node)),
        Some(Enrolled::Client(client)) => Ok((EnrolmentKind::Client, client)),
        None => Err(SetupError::NotEnrolled { path: home.root().to_owned() }),
    };
    loop {
        home.check_directory()?;
        enrolled()?;
        if let Some(lock) = Lock::acquire(home)? {
            directory::clean(home)?;
            pair::recover(home)?;
            let (kind, settings) = enrolled()?;
            return Ok((lock, kind, settings));
        }
    }
}

/// `.NAME.key.next`: the key that waits for its certificate.
fn waiting_key_file(home: &Home, name: &PeerName) -> PathBuf {
    home.root().join(format!(".{name}.key.next"))
}

fn parse_keys(texts: &[Zeroizing<String>]) -> Result<Vec<Key>, SetupError> {
    let keys: Result<Vec<_>, _> = texts.iter().map(|text| Key::from_base64url(text)).collect();
    keys.map_err(|_| bad("an envelope key cannot be read"))
}

fn check_authorities(pem: &str) -> Result<(), SetupError> {
    let authorities = CertificateInfo::all_from_pem(pem.as_bytes())
        .map_err(|_| bad("the certificate of the authority cannot be read"))?;
    match !authorities.is_empty() && authorities.iter().all(|one| one.is_ca) {
        true => Ok(()),
        false => Err(bad("it has no certificate of an authority")),
    }
}

fn bad(reason: &'static str) -> SetupError {
    SetupError::BadRenewal { reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use ipc_base::{CertificateIssuer, RenewalError, RenewalQuery, Renewed, RenewedPeer};
    use ipc_pki::RevocationReason;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{
        EnrolRequest, HomeIssuer, InitOptions, Ring, accept_enrolment, cancel_enrolment,
        create_enrolment, drop_key, drop_old_authority, list_keys, revoke_certificates,
        rotate_authority, rotate_keys,
    };

    fn now_secs() -> u64 {
        InitOptions::now().now_secs
    }

    /// A server's home, and the home of a client that was enrolled there.
    fn enrolled() -> (tempfile::TempDir, Home, Home) {
        let (directory, server) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        let bundle =
            create_enrolment(&server, &EnrolRequest::new("worker1", &addresses, now_secs()))
                .unwrap();
        let path = directory.path().join("client");
        let client = accept_enrolment(&path, &bundle.text, &bundle.code, now_secs()).unwrap().home;
        (directory, server, client)
    }

    /// What a server says to the client's present certificate.
    fn ask(server: &Home, client: &Home, csr_pem: Option<&str>) -> Renewed {
        let name = PeerName::parse("worker1").unwrap();
        let pem = std::fs::read(client.certificate_file(&name)).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        let issuer = HomeIssuer::new(server.clone(), PeerName::parse("localhost").unwrap());
        issuer.renew(&RenewalQuery::new(&certificate, "worker1", csr_pem, now_secs())).unwrap()
    }

    fn keys_of(server: &Home) -> Vec<Zeroizing<String>> {
        let keys = server.envelope_keys_one_by_one().unwrap();
        keys.iter().map(|key| key.derive_for("worker1").to_base64url()).collect()
    }

    /// One whole renewal.
    fn renew(server: &Home, client: &Home) -> Result<ClientSettings, SetupError> {
        let begun = begin_renewal(client)?;
        let renewed = ask(server, client, Some(&begun.csr_pem));
        let authorities = std::fs::read_to_string(server.ca_certificate_file()).unwrap();
        let keys = keys_of(server);
        let answer = RenewalAnswer {
            certificate_pem: renewed.certificate_pem.as_deref(),
            authorities_pem: &authorities,
            envelope_keys: &keys,
            server: &renewed.server,
            addresses: &renewed.addresses,
            node: None,
        };
        finish_renewal(client, &answer, now_secs())
    }

    fn assert_good(client: &Home) {
        let name = PeerName::parse("worker1").unwrap();
        client.identity(&name).unwrap();
        assert_eq!(client.client_credentials().unwrap().username, "worker1");
        client.ca_certificates().unwrap();
        assert!(client.client_settings().unwrap().is_some());
        let certificate = std::fs::read(client.certificate_file(&name)).unwrap();
        assert!(key_fits(&certificate, &std::fs::read(client.key_file(&name)).unwrap()));
    }

    #[test]
    fn a_renewal_replaces_the_key_that_travelled_and_follows_the_keys() {
        let (_directory, server, client) = enrolled();
        let name = PeerName::parse("worker1").unwrap();
        let key = || std::fs::read(client.key_file(&name)).unwrap();
        let travelled = key();
        let settings = renew(&server, &client).unwrap();
        assert_eq!(settings.addresses, ["192.0.2.1:3000"]);
        let first = key();
        assert_ne!(first, travelled);
        rotate_keys(&server, Ring::Envelope, now_secs()).unwrap();
        renew(&server, &client).unwrap();
        assert_ne!(key(), first, "each certificate has a key of its own");
        let keys = client.envelope_keys_one_by_one().unwrap();
        let keys: Vec<_> = keys.iter().map(Key::to_base64url).collect();
        assert_eq!(keys, keys_of(&server));
        assert_eq!(keys.len(), list_keys(&server, Ring::Envelope).unwrap().len());
        assert_good(&client);
        assert!(!waiting_key_file(&client, &name).exists());
    }

    #[test]
    fn a_renewal_that_was_interrupted_asks_for_the_same_key() {
        let (_directory, _server, client) = enrolled();
        let key = || {
            let name = PeerName::parse("worker1").unwrap();
            std::fs::read(waiting_key_file(&client, &name)).unwrap()
        };
        let first = begin_renewal(&client).unwrap();
        let waiting = key();
        assert_eq!(begin_renewal(&client).unwrap().name, first.name);
        assert_eq!(key(), waiting);
    }

    #[test]
    fn an_answer_that_cannot_be_used_changes_nothing() {
        let (_directory, server, client) = enrolled();
        let begun = begin_renewal(&client).unwrap();
        let renewed = ask(&server, &client, Some(&begun.csr_pem));
        let authorities = std::fs::read_to_string(server.ca_certificate_file()).unwrap();
        let (keys, none, broken) =
            (keys_of(&server), Vec::new(), vec![Zeroizing::new("x".to_owned())]);
        let good = RenewalAnswer {
            certificate_pem: renewed.certificate_pem.as_deref(),
            authorities_pem: &authorities,
            envelope_keys: &keys,
            server: &renewed.server,
            addresses: &renewed.addresses,
            node: None,
        };
        // As many keys as a ring has room for, and none of them is the one that is there.
        let many: Vec<_> = (1..=ipc_envelope::KEYS_MAX as u8)
            .map(|number| Key::from_bytes([number; 32]).to_base64url())
            .collect();
        let twice = authorities.repeat(2);
        let localhost = std::fs::read_to_string(server.root().join("localhost.crt")).unwrap();
        let travelled = std::fs::read_to_string(client.root().join("worker1.crt")).unwrap();
        let snapshot = || {
            let mut files: Vec<_> = std::fs::read_dir(client.root())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .map(|path| (path.clone(), std::fs::read(path).unwrap()))
                .collect();
            files.sort();
            files
        };
        let before = snapshot();
        for bad in [
            RenewalAnswer { certificate_pem: Some("x"), ..good },
            RenewalAnswer { certificate_pem: Some(&localhost), ..good },
            RenewalAnswer { certificate_pem: Some(&travelled), ..good },
            RenewalAnswer { authorities_pem: "x", ..good },
            RenewalAnswer { authorities_pem: &localhost, ..good },
            RenewalAnswer { envelope_keys: &none, ..good },
            RenewalAnswer { envelope_keys: &broken, ..good },
            RenewalAnswer { envelope_keys: &many, authorities_pem: &twice, ..good },
            RenewalAnswer { server: "../x", ..good },
            RenewalAnswer { addresses: &[], ..good },
        ] {
            let error = finish_renewal(&client, &bad, now_secs()).unwrap_err();
            assert!(matches!(error, SetupError::BadRenewal { .. }), "{error:?}");
            assert_eq!(snapshot(), before);
        }
        finish_renewal(&client, &good, now_secs()).unwrap();
    }

    #[test]
    fn only_the_home_of_an_enrolled_client_is_renewed_so() {
        let (_directory, server, _client) = enrolled();
        let error = begin_renewal(&server).unwrap_err();
        assert!(matches!(error, SetupError::NotEnrolled { .. }), "{error:?}");
    }

    #[test]
    fn a_renewal_that_is_killed_anywhere_leaves_a_home_that_works_and_can_be_repeated() {
        let server_of = |client: &std::path::Path| Home::at(client.with_file_name("home"));
        if let Some(client) = kills::home_of_child() {
            let server = server_of(&client);
            rotate_keys_once(&server);
            renew(&server, &Home::at(client)).unwrap();
            return;
        }
        let killed = kills::at_each_step(
            "follow::tests::a_renewal_that_is_killed_anywhere_leaves_a_home_that_works_and_can_be_repeated",
            || {
                let (directory, _server, client) = enrolled();
                let path = client.root().to_owned();
                (directory, path)
            },
            |path| {
                let (client, server) = (Home::at(path), server_of(path));
                // The reader finishes nothing: between the last two renames it waits.
                begin_renewal(&client).unwrap();
                assert_good(&client);
                renew(&server, &client).unwrap();
                assert_good(&client);
            },
        );
        assert!(killed > 10, "{killed}");
    }

    /// In a child that is killed at its first steps the rotation may be what is cut short.
    fn rotate_keys_once(server: &Home) {
        if list_keys(server, Ring::Envelope).unwrap().len() == 1 {
            rotate_keys(server, Ring::Envelope, now_secs()).unwrap();
        }
    }

    /// A first server's home, and that of a further one.
    fn with_node() -> (tempfile::TempDir, Home, Home) {
        let (directory, first) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        let request = EnrolRequest {
            kind: EnrolmentKind::Server,
            ..EnrolRequest::new("node2", &addresses, now_secs())
        };
        let bundle = create_enrolment(&first, &request).unwrap();
        let path = directory.path().join("node2");
        let node = accept_enrolment(&path, &bundle.text, &bundle.code, now_secs()).unwrap().home;
        (directory, first, node)
    }

    fn ask_as_node(
        first: &Home,
        node: &Home,
        csr_pem: Option<&str>,
    ) -> Result<Renewed, RenewalError> {
        let name = PeerName::parse("node2").unwrap();
        let pem = std::fs::read(node.certificate_file(&name)).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        let issuer = HomeIssuer::new(first.clone(), PeerName::parse("localhost").unwrap());
        issuer.renew(&RenewalQuery::new(&certificate, "node2", csr_pem, now_secs()))
    }

    fn texts(keys: &[Key]) -> Vec<Zeroizing<String>> {
        keys.iter().map(Key::to_base64url).collect()
    }

    /// Puts what the first server says into the further one's home, as the two ends of the line do.
    fn take_as_node(first: &Home, node: &Home, renewed: &Renewed) -> Result<(), SetupError> {
        assert_eq!(renewed.peer, RenewedPeer::Server);
        let text = |path: PathBuf| std::fs::read_to_string(path).ok();
        let authorities = text(first.ca_certificate_file()).unwrap();
        let keys = texts(&first.envelope_keys_one_by_one().unwrap());
        let session_keys = texts(&first.session_keys_one_by_one().unwrap());
        let (lists, cross) =
            (text(first.revocation_list_file()), text(first.cross_certificate_file()));
        let answer = RenewalAnswer {
            certificate_pem: renewed.certificate_pem.as_deref(),
            authorities_pem: &authorities,
            envelope_keys: &keys,
            server: &renewed.server,
            addresses: &renewed.addresses,
            node: Some(NodeAnswer {
                session_keys: &session_keys,
                revocation_lists_pem: lists.as_deref(),
                cross_certificates_pem: cross.as_deref(),
            }),
        };
        finish_renewal(node, &answer, now_secs()).map(drop)
    }

    fn renew_node(first: &Home, node: &Home) {
        let begun = begin_renewal(node).unwrap();
        let renewed = ask_as_node(first, node, Some(&begun.csr_pem)).unwrap();
        take_as_node(first, node, &renewed).unwrap();
        let followed = ask_as_node(first, node, None).unwrap();
        take_as_node(first, node, &followed).unwrap();
    }

    /// That the further server's home works, and has what the first one's has.
    fn assert_followed(first: &Home, node: &Home) {
        let read = |home: &Home, file: fn(&Home) -> PathBuf| std::fs::read(file(home)).ok();
        for file in
            [Home::ca_certificate_file, Home::revocation_list_file, Home::cross_certificate_file]
        {
            assert_eq!(read(node, file), read(first, file), "{}", file(node).display());
        }
        for keys in [Home::envelope_keys_one_by_one, Home::session_keys_one_by_one] {
            assert_eq!(texts(&keys(node).unwrap()), texts(&keys(first).unwrap()));
        }
        assert_node_works(node);
    }

    fn assert_node_works(node: &Home) {
        let node = Home::open(node.root()).unwrap();
        node.session_keys().unwrap();
        node.admin_credentials().unwrap();
        assert_eq!(node.client_credentials().unwrap().username, "node2");
        node.identity(&PeerName::parse("node2").unwrap()).unwrap();
        node.revocation_lists().unwrap();
    }

    /// What follows never looks at the users: they are in the database that `users.url` names.
    #[test]
    fn a_server_whose_users_are_elsewhere_follows_without_users_of_its_own() {
        let (_directory, first, node) = with_node();
        std::fs::remove_file(node.users_db()).unwrap();
        node.write_users_url("postgres://ipc:pass321@db.example/ipc").unwrap();
        let url = || {
            let file = node.users_url_file();
            (std::fs::read(&file).unwrap(), file.metadata().unwrap().ino())
        };
        let before = url();
        renew_node(&first, &node);
        rotate_keys(&first, Ring::Envelope, now_secs()).unwrap();
        rotate_authority(&first, now_secs()).unwrap();
        renew_node(&first, &node);
        assert_followed(&first, &node);
        assert_eq!(url(), before);
        assert!(!node.users_db().exists());
    }

    #[test]
    fn a_further_server_follows_keys_authorities_and_what_is_revoked() {
        let (_directory, first, node) = with_node();
        let key = || std::fs::read(node.root().join("node2.key")).unwrap();
        let travelled = key();
        renew_node(&first, &node);
        assert_ne!(key(), travelled);
        assert_followed(&first, &node);
        for ring in [Ring::Envelope, Ring::Session] {
            let old = list_keys(&first, ring).unwrap().remove(0).id;
            rotate_keys(&first, ring, now_secs()).unwrap();
            renew_node(&first, &node);
            assert_followed(&first, &node);
            drop_key(&first, ring, old, &[], false, now_secs()).unwrap();
            renew_node(&first, &node);
            assert_followed(&first, &node);
        }
        rotate_authority(&first, now_secs()).unwrap();
        renew_node(&first, &node);
        assert_followed(&first, &node);
        assert!(node.cross_certificate_file().exists() && !node.old_ca_key_file().exists());
        // By force, since certificates of one second cannot be told apart by their age.
        drop_old_authority(&first, true, now_secs()).unwrap();
        renew_node(&first, &node);
        assert_followed(&first, &node);
    }

    #[test]
    fn what_has_not_changed_is_not_written() {
        let (_directory, first, node) = with_node();
        renew_node(&first, &node);
        let stamps = || {
            let entries = std::fs::read_dir(node.root()).unwrap().map(Result::unwrap);
            let mut stamps: Vec<_> = entries
                .filter(|entry| entry.path().is_file())
                .map(|entry| (entry.path(), entry.metadata().unwrap().ino()))
                .collect();
            stamps.sort();
            stamps
        };
        let before = stamps();
        take_as_node(&first, &node, &ask_as_node(&first, &node, None).unwrap()).unwrap();
        assert_eq!(stamps(), before);
    }

    #[test]
    fn only_a_server_that_is_enrolled_gets_what_servers_share() {
        // A client's answer is that to a client, and a client's home takes no other.
        let (_directory, server, client) = enrolled();
        let renewed = ask(&server, &client, None);
        assert_eq!(renewed.peer, RenewedPeer::Client);
        let answer = renewed.for_server();
        let error = take_as_node(&server, &client, &answer).unwrap_err();
        assert!(matches!(error, SetupError::BadRenewal { .. }), "{error:?}");
        assert!(!client.session_key_file().exists());

        let reason = |refused: Result<Renewed, RenewalError>| match refused {
            Err(RenewalError::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        };
        // A server that was cancelled, and one whose certificate was revoked.
        let (_directory, first, node) = with_node();
        renew_node(&first, &node);
        cancel_enrolment(&first, "node2", now_secs()).unwrap();
        let told = reason(ask_as_node(&first, &node, None));
        assert_eq!(told, "the certificate was revoked");
        let (_directory, first, node) = with_node();
        revoke_certificates(&first, "node2", RevocationReason::Unspecified, now_secs()).unwrap();
        let csr = begin_renewal(&node).unwrap().csr_pem;
        for csr in [None, Some(&*csr)] {
            let told = reason(ask_as_node(&first, &node, csr));
            assert_eq!(told, "the certificate was revoked");
        }
        // A further server issues nothing and says nothing of others.
        let (_directory, _first, node) = with_node();
        let asked = ask_as_node(&node, &node, None);
        assert!(matches!(asked, Err(RenewalError::Unavailable)), "{asked:?}");
    }

    #[test]
    fn an_answer_to_a_server_that_cannot_be_used_changes_nothing() {
        let (_directory, first, node) = with_node();
        let authorities = std::fs::read_to_string(first.ca_certificate_file()).unwrap();
        let keys = texts(&first.envelope_keys_one_by_one().unwrap());
        let session_keys = texts(&first.session_keys_one_by_one().unwrap());
        let broken = [Zeroizing::new("x".to_owned())];
        let whole = NodeAnswer {
            session_keys: &session_keys,
            revocation_lists_pem: None,
            cross_certificates_pem: None,
        };
        let before = std::fs::read(node.session_key_file()).unwrap();
        for bad in [
            None,
            Some(NodeAnswer { session_keys: &[], ..whole }),
            Some(NodeAnswer { session_keys: &broken, ..whole }),
            Some(NodeAnswer { session_keys: &keys, ..whole }),
            Some(NodeAnswer { revocation_lists_pem: Some("x"), ..whole }),
        ] {
            let answer = RenewalAnswer {
                certificate_pem: None,
                authorities_pem: &authorities,
                envelope_keys: &keys,
                server: "localhost",
                addresses: &["192.0.2.1:3000".to_owned()],
                node: bad,
            };
            let error = finish_renewal(&node, &answer, now_secs()).unwrap_err();
            assert!(matches!(error, SetupError::BadRenewal { .. }), "{error:?}");
            assert_eq!(std::fs::read(node.session_key_file()).unwrap(), before);
            assert!(!node.revocation_list_file().exists());
        }
    }

    #[test]
    fn a_renewal_of_a_server_that_is_killed_anywhere_leaves_one_that_works() {
        let first_of = |node: &std::path::Path| Home::at(node.with_file_name("home"));
        if let Some(node) = kills::home_of_child() {
            renew_node(&first_of(&node), &Home::at(node));
            return;
        }
        let killed = kills::at_each_step(
            "follow::tests::a_renewal_of_a_server_that_is_killed_anywhere_leaves_one_that_works",
            || {
                let (directory, first, node) = with_node();
                for ring in [Ring::Envelope, Ring::Session] {
                    rotate_keys(&first, ring, now_secs()).unwrap();
                }
                let path = node.root().to_owned();
                (directory, path)
            },
            |path| {
                let (node, first) = (Home::at(path), first_of(path));
                begin_renewal(&node).unwrap();
                assert_node_works(&node);
                renew_node(&first, &node);
                assert_followed(&first, &node);
            },
        );
        assert!(killed > 20, "{killed}");
    }
}

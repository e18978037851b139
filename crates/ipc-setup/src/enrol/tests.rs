//! Enrolling: created, accepted, refused, cancelled, interrupted. Codes cost little here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use ipc_base::Remedy;

use super::*;
use crate::files::kills;
use crate::testing::new_home;
use crate::{InitOptions, list_enrolments};

fn now_secs() -> u64 {
    InitOptions::now().now_secs
}

fn addresses() -> Vec<String> {
    vec!["server1.example:3000".to_owned(), "192.0.2.1:3001".to_owned()]
}

fn create(home: &Home, name: &str) -> Result<Bundle, SetupError> {
    create_enrolment(home, &EnrolRequest::new(name, &addresses(), now_secs()))
}

fn accept(path: &Path, bundle: &Bundle) -> Result<Accepted, SetupError> {
    accept_enrolment(path, &bundle.text, &bundle.code, now_secs())
}

/// Every file with its content and mode.
fn files_of(directory: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let content = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            (path.file_name().unwrap().to_str().unwrap().to_owned(), (content, mode))
        })
        .collect()
}

/// That a client's home is whole, and fits the server's.
fn assert_good(home: &Home, server: &Home, name: &str) {
    let home = Home::open_client(home.root()).unwrap();
    let settings = home.client_settings().unwrap().unwrap();
    assert_eq!(settings.identity.as_str(), name);
    assert_eq!((settings.server.as_str(), &settings.addresses), ("localhost", &addresses()));
    let credentials = home.client_credentials().unwrap();
    assert_eq!(credentials.username, settings.username);
    let users = users(server).unwrap();
    assert!(users.verify(&credentials.username, &credentials.password).unwrap());
    assert_eq!(home.identity(&settings.identity).unwrap().chain.len(), 1);
    assert_eq!(home.ca_certificates().unwrap(), server.ca_certificates().unwrap());
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let certificate = read(home.certificate_file(&settings.identity));
    let key = read(home.key_file(&settings.identity));
    assert!(load_authority(server).unwrap().has_issued(&certificate, &key));
    let info = CertificateInfo::from_pem(&certificate).unwrap();
    assert_eq!((info.subject.as_deref(), info.usages), (Some(name), Some(Usages::Client)));
    let derived: Vec<_> = server
        .envelope_keys_one_by_one()
        .unwrap()
        .iter()
        .map(|key| key.derive_for(name).to_base64url())
        .collect();
    let own: Vec<_> =
        home.envelope_keys_one_by_one().unwrap().iter().map(|key| key.to_base64url()).collect();
    assert_eq!(own, derived);
    assert_eq!(home.root().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    let names: Vec<_> = files_of(home.root())
        .into_iter()
        .map(|(file, (_, mode))| {
            assert_eq!(mode, if file == "sessions" { 0o700 } else { 0o600 }, "{file}");
            file
        })
        .collect();
    let mut expected =
        [".lock", "client.cred", "client.json", "envelope.keys", "sessions", "web-ipc-ca.crt"]
            .map(str::to_owned)
            .to_vec();
    expected.extend([format!("{name}.crt"), format!("{name}.key")]);
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn an_enrolled_client_has_what_it_needs_and_nothing_else() {
    let (directory, server) = new_home();
    let bundle = create(&server, "worker1").unwrap();
    assert!(!bundle.replaced);
    let [noted] = &list_enrolments(&server).unwrap()[..] else { panic!() };
    assert_eq!(*noted, bundle.enrolment);
    assert_eq!(
        (&*noted.name, &*noted.user, noted.state),
        ("worker1", "worker1", EnrolmentState::Pending)
    );
    assert_eq!(noted.expires_at_secs - noted.created_at_secs, 86_400);
    assert!(server.issued_dir().join(format!("{}.crt", noted.serial)).is_file());
    let accepted = accept(&directory.path().join("below/client"), &bundle).unwrap();
    assert_good(&accepted.home, &server, "worker1");
    // Nothing of the server's and nothing of the ring itself.
    let opened = bundle::open(&bundle.text, &bundle.code, now_secs()).unwrap();
    let opened = String::from_utf8(opened.to_vec()).unwrap();
    for file in ["envelope.keys", "session.key", "web-ipc-ca.key", "localhost.key"] {
        let secret = std::fs::read_to_string(server.root().join(file)).unwrap();
        let line = secret.lines().find(|line| !line.starts_with("---")).unwrap();
        assert!(!opened.contains(line), "{file}");
    }
    assert_eq!(opened.matches("PRIVATE KEY").count(), 2);
}

#[test]
fn what_one_client_seals_another_does_not_open() {
    let (directory, server) = new_home();
    let ring = |name: &str| {
        let bundle = create(&server, name).unwrap();
        accept(&directory.path().join(name), &bundle).unwrap().home.envelope_keys().unwrap()
    };
    let (one, other) = (ring("worker1"), ring("worker2"));
    let token = one.seal(b"secret", now_secs(), [7; 16]);
    assert!(one.open(&token, None).is_ok());
    assert!(other.open(&token, None).is_err());
    assert!(server.envelope_keys().unwrap().open(&token, None).is_err());
}

#[test]
fn each_refusal_of_a_bundle_has_its_sentence_and_makes_nothing() {
    let (directory, server) = new_home();
    let (bundle, other) =
        (create(&server, "worker1").unwrap(), create(&server, "worker2").unwrap());
    let path = directory.path().join("client");
    let refused = |text: &str, code: &Code, now_secs: u64| {
        let error = accept_enrolment(&path, text, code, now_secs).unwrap_err();
        assert!(error.remedy().is_some(), "{error}");
        assert!(!path.exists(), "{error}");
        error.to_string()
    };
    let mut lines: Vec<_> = bundle.text.lines().map(str::to_owned).collect();
    let swapped = lines[3].chars().rev().collect();
    lines[3] = swapped;
    for (text, code, now_secs, says) in [
        (bundle.text.as_str(), &other.code, now_secs(), "the code does not open this bundle"),
        (
            &lines.join("\n"),
            &bundle.code,
            now_secs(),
            "the bundle was changed or damaged on its way",
        ),
        (&bundle.text, &bundle.code, now_secs() + 90_000, "the bundle expired after 24 hours"),
        (
            "-----BEGIN",
            &bundle.code,
            now_secs(),
            "this is not an enrolment bundle, or only a part of one",
        ),
    ] {
        assert_eq!(refused(text, code, now_secs), says);
    }
    let told = refused(&bundle.text, &bundle.code, now_secs() - 3600);
    assert!(told.ends_with("s after the time that this host's clock shows"), "{told}");
}

#[test]
fn a_bundle_whose_content_does_not_fit_together_is_refused_and_makes_nothing() {
    let (directory, server) = new_home();
    let bundle = create(&server, "worker1").unwrap();
    let opened = bundle::open(&bundle.text, &bundle.code, now_secs()).unwrap();
    let content: serde_json::Value = serde_json::from_slice(&opened).unwrap();
    let path = directory.path().join("client");
    let accept_with = |member: &str, value: serde_json::Value| {
        let mut content = content.clone();
        content[member] = value;
        let json = content.to_string();
        let cost = Cost::DEFAULT;
        let text = bundle::seal(json.as_bytes(), &bundle.code, cost, now_secs()).unwrap();
        accept_enrolment(&path, &text, &bundle.code, now_secs())
    };
    let file = |name: &str| std::fs::read_to_string(server.root().join(name)).unwrap();
    for (member, value) in [
        ("key", file("localhost.key").into()),
        ("key", "".into()),
        ("certificate", file("localhost.crt").into()),
        ("authorities", file("localhost.crt").into()),
        ("authorities", "".into()),
        ("addresses", serde_json::json!([])),
        ("envelope_keys", serde_json::json!([])),
        ("name", "../worker1".into()),
        ("server", "a/b".into()),
    ] {
        let error = accept_with(member, value).unwrap_err();
        assert_eq!(error.to_string(), "this version cannot open the bundle", "{member}");
        assert!(!path.exists(), "{member}");
    }
    assert!(accept_with("later", "ignored".into()).is_ok());
}

#[test]
fn a_home_is_enrolled_once_and_others_are_left_alone() {
    let (directory, server) = new_home();
    let bundle = create(&server, "worker1").unwrap();
    let path = directory.path().join("client");
    accept(&path, &bundle).unwrap();
    let before = files_of(&path);
    // The key that travelled is still in use: its acceptance may not have come to its end.
    accept(&path, &bundle).unwrap();
    assert_eq!(files_of(&path), before);
    let refused = |bundle: &Bundle| {
        let error = accept(&path, bundle).unwrap_err();
        assert!(
            matches!(&error, SetupError::AlreadyEnrolled { name, .. } if name.as_str() == "worker1")
        );
        assert_eq!(error.remedy(), Some(Remedy::UseAnotherHome));
    };
    refused(&create(&server, "worker2").unwrap());
    assert_eq!(files_of(&path), before);
    // Once another pair is in the place of the one that travelled, this bundle is done with.
    let home = Home::at(&path);
    let other = accept(&directory.path().join("other"), &create(&server, "worker2").unwrap());
    let (other, name) = (other.unwrap(), PeerName::parse("worker1").unwrap());
    let of_other = |file: PathBuf| std::fs::read(file).unwrap();
    let certificate = of_other(other.home.certificate_file(&other.settings.identity));
    let key = of_other(other.home.key_file(&other.settings.identity));
    crate::pair::write_pem(&home, &name, &certificate, &key).unwrap();
    refused(&bundle);

    let before = files_of(server.root());
    let error = accept(server.root(), &bundle).unwrap_err();
    assert!(matches!(error, SetupError::NotForEnrolment { .. }), "{error:?}");
    assert_eq!(files_of(server.root()), before);
    let documents = directory.path().join("documents");
    std::fs::create_dir(&documents).unwrap();
    std::fs::write(documents.join("notes.txt"), "dear diary").unwrap();
    assert!(accept(&documents, &bundle).is_err());
    assert_eq!(files_of(&documents).len(), 1);
    // A client's directory that was copied by hand.
    std::fs::remove_file(path.join("client.json")).unwrap();
    let error = accept(&path, &bundle).unwrap_err();
    assert!(matches!(error, SetupError::NotForEnrolment { .. }), "{error:?}");
}

#[test]
fn what_cannot_be_enrolled_is_refused_before_anything_is_changed() {
    let (_directory, server) = new_home();
    crate::users(&server).unwrap().add("test1", "pass321".to_owned().into()).unwrap();
    let addresses = addresses();
    let request = EnrolRequest::new("worker1", &addresses, now_secs());
    let refused = |request: EnrolRequest<'_>| create_enrolment(&server, &request).unwrap_err();
    assert!(matches!(
        refused(EnrolRequest { name: "LOCALHOST", ..request }),
        SetupError::EnrolmentNameTaken { .. }
    ));
    for user in ["test1", "ipc-admin"] {
        let error = refused(EnrolRequest { user: Some(user), ..request });
        assert!(matches!(error, SetupError::EnrolmentUserTaken { .. }), "{error:?}");
    }
    assert!(matches!(refused(EnrolRequest { addresses: &[], ..request }), SetupError::NoAddress));
    assert!(matches!(
        refused(EnrolRequest { server: "elsewhere", ..request }),
        SetupError::Home(HomeError::CertificateMissing { .. })
    ));
    assert!(matches!(refused(EnrolRequest { name: "a b", ..request }), SetupError::Name { .. }));
    assert!(matches!(refused(EnrolRequest { user: Some(""), ..request }), SetupError::Username(_)));
    assert!(matches!(
        refused(EnrolRequest { validity_days: 0, ..request }),
        SetupError::Issue { .. }
    ));
    assert!(!server.issued_dir().exists() && !server.enrolments_dir().exists());
    assert_eq!(crate::users(&server).unwrap().list().unwrap().len(), 2);
}

#[test]
fn of_two_bundles_for_one_name_the_last_is_good() {
    let (directory, server) = new_home();
    let first = create(&server, "worker1").unwrap();
    let last = create(&server, "WORKER1").unwrap();
    assert!(last.replaced);
    let list = list_certificates(&server).unwrap();
    let revoked: Vec<_> = list
        .certificates
        .iter()
        .filter(|one| one.revoked_at_secs.is_some())
        .map(|one| one.serial.to_string())
        .collect();
    assert_eq!(revoked, [first.enrolment.serial]);
    // The name is the same, as DNS has it; the user is another, and the first one is gone.
    let names: Vec<_> =
        users(&server).unwrap().list().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["ipc-admin", "WORKER1"]);
    let accepted = accept(&directory.path().join("client"), &last).unwrap();
    assert_good(&accepted.home, &server, "WORKER1");
    assert_eq!(list_enrolments(&server).unwrap().len(), 1);
}

#[test]
fn a_client_that_has_accepted_is_not_enrolled_anew_until_it_is_cancelled() {
    let (_directory, server) = new_home();
    let mut enrolment = create(&server, "worker1").unwrap().enrolment;
    enrolment.state = EnrolmentState::Accepted;
    enrolment.write(&server).unwrap();
    let error = create(&server, "worker1").unwrap_err();
    assert!(matches!(error, SetupError::EnrolmentExists { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::CancelEnrolment { name: "worker1".into() }));
    cancel_enrolment(&server, "worker1", now_secs()).unwrap();
    assert!(create(&server, "worker1").unwrap().replaced);
}

#[test]
fn a_cancelled_client_has_neither_a_certificate_nor_a_user() {
    let (_directory, server) = new_home();
    create(&server, "worker1").unwrap();
    create(&server, "worker2").unwrap();
    let cancelled = cancel_enrolment(&server, "Worker1", now_secs()).unwrap();
    assert_eq!(cancelled, Cancelled { revoked: 1, user_deleted: true });
    let again = cancel_enrolment(&server, "worker1", now_secs()).unwrap();
    assert_eq!(again, Cancelled { revoked: 0, user_deleted: false });
    let states: Vec<_> = list_enrolments(&server).unwrap().iter().map(|one| one.state).collect();
    assert_eq!(states, [EnrolmentState::Cancelled, EnrolmentState::Pending]);
    let names: Vec<_> =
        users(&server).unwrap().list().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["ipc-admin", "worker2"]);
    let list = list_certificates(&server).unwrap();
    let good: Vec<_> = list
        .certificates
        .iter()
        .filter(|one| one.revoked_at_secs.is_none())
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(good, ["web-ipc-ca", "localhost", "worker2"]);
    let error = cancel_enrolment(&server, "nobody", now_secs()).unwrap_err();
    assert!(matches!(error, SetupError::UnknownEnrolment { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::ListEnrolments));
}

#[test]
fn a_user_who_was_added_under_a_cancelled_name_is_not_deleted() {
    let (_directory, server) = new_home();
    create(&server, "worker1").unwrap();
    cancel_enrolment(&server, "worker1", now_secs()).unwrap();
    crate::users(&server).unwrap().add("worker1", "pass321".to_owned().into()).unwrap();
    cancel_enrolment(&server, "worker1", now_secs()).unwrap();
    let error = create(&server, "worker1").unwrap_err();
    assert!(matches!(error, SetupError::EnrolmentUserTaken { .. }), "{error:?}");
    assert!(users(&server).unwrap().verify("worker1", "pass321").unwrap());
}

#[test]
fn an_enrolment_that_cannot_be_read_is_named() {
    let (_directory, server) = new_home();
    create(&server, "worker1").unwrap();
    let path = server.enrolments_dir().join("worker1.json");
    std::fs::write(&path, "{}").unwrap();
    for error in [
        list_enrolments(&server).unwrap_err(),
        create(&server, "worker1").unwrap_err(),
        cancel_enrolment(&server, "worker1", now_secs()).unwrap_err(),
    ] {
        assert!(matches!(&error, SetupError::BadEnrolment { path: bad } if *bad == path));
    }
}

#[test]
fn of_several_bundles_at_once_one_is_good_and_several_acceptances_make_one_home() {
    let (directory, server) = new_home();
    let bundles: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| create(&server, "worker1"))).collect();
        runs.into_iter().map(|run| run.join().unwrap().unwrap()).collect()
    });
    let serial = list_enrolments(&server).unwrap().remove(0).serial;
    let bundle = bundles.iter().find(|bundle| bundle.enrolment.serial == serial).unwrap();
    let path = directory.path().join("client");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| accept(&path, bundle))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for outcome in outcomes {
        assert_good(&outcome.unwrap().home, &server, "worker1");
    }
}

/// Not a test of its own: what the processes of the tests below do.
#[test]
fn child_process_creates() {
    let Some(home) = kills::home_of_child() else { return };
    create(&Home::at(home), "worker1").unwrap();
}

#[test]
fn a_creation_killed_at_any_step_is_completed_by_its_repetition() {
    let killed = kills::at_each_step(
        "enrol::tests::child_process_creates",
        || {
            let (directory, home) = new_home();
            (directory, home.root().to_owned())
        },
        |path| {
            let server = Home::at(path);
            let bundle = create(&server, "worker1").unwrap();
            let client = path.parent().unwrap().join("client");
            let accepted = accept(&client, &bundle).unwrap();
            assert_good(&accepted.home, &server, "worker1");
            assert_eq!(users(&server).unwrap().list().unwrap().len(), 2);
        },
    );
    assert!(killed > 12, "{killed}");
}

#[test]
fn child_process_cancels() {
    let Some(home) = kills::home_of_child() else { return };
    cancel_enrolment(&Home::at(home), "worker1", now_secs()).unwrap();
}

#[test]
fn a_cancellation_killed_at_any_step_is_completed_by_its_repetition() {
    kills::at_each_step(
        "enrol::tests::child_process_cancels",
        || {
            let (directory, home) = new_home();
            create(&home, "worker1").unwrap();
            (directory, home.root().to_owned())
        },
        |path| {
            let server = Home::at(path);
            cancel_enrolment(&server, "worker1", now_secs()).unwrap();
            assert_eq!(list_enrolments(&server).unwrap()[0].state, EnrolmentState::Cancelled);
            assert_eq!(users(&server).unwrap().list().unwrap().len(), 1);
            let list = list_certificates(&server).unwrap();
            assert!(
                list.certificates
                    .iter()
                    .all(|one| { one.name != "worker1" || one.revoked_at_secs.is_some() })
            );
        },
    );
}

#[test]
fn child_process_accepts() {
    let Some(path) = kills::home_of_child() else { return };
    let read = |file: &str| std::fs::read_to_string(path.with_file_name(file)).unwrap();
    let code = read("code").parse().unwrap();
    accept_enrolment(&path, &read("bundle"), &code, now_secs()).unwrap();
}

#[test]
fn an_acceptance_killed_at_any_step_is_completed_by_its_repetition_or_by_another_bundle() {
    let (_directory, server) = new_home();
    let (one, other) = (create(&server, "worker1").unwrap(), create(&server, "worker2").unwrap());
    for (bundle, name) in [(&one, "worker1"), (&other, "worker2")] {
        let killed = kills::at_each_step(
            "enrol::tests::child_process_accepts",
            || {
                let directory = tempfile::tempdir().unwrap();
                std::fs::write(directory.path().join("code"), one.code.to_string()).unwrap();
                std::fs::write(directory.path().join("bundle"), &one.text).unwrap();
                let path = directory.path().join("client");
                (directory, path)
            },
            |path| match accept(path, bundle) {
                Ok(accepted) => assert_good(&accepted.home, &server, name),
                Err(SetupError::AlreadyEnrolled { .. }) => {
                    assert_good(&Home::at(path), &server, "worker1");
                }
                Err(error) => panic!("{error:?}"),
            },
        );
        assert!(killed > 20, "{killed}");
    }
}

fn server_request<'a>(addresses: &'a [String], alt_names: &'a [String]) -> EnrolRequest<'a> {
    EnrolRequest {
        kind: EnrolmentKind::Server,
        alt_names,
        ..EnrolRequest::new("node2", addresses, now_secs())
    }
}

fn create_server(home: &Home) -> Bundle {
    let names = ["node2.example".to_owned(), "192.0.2.2".to_owned()];
    create_enrolment(home, &server_request(&addresses(), &names)).unwrap()
}

/// That a further server's home is whole, and has what the first server's has.
fn assert_good_node(path: &Path, first: &Home) {
    let home = Home::open(path).unwrap();
    let settings = home.node_settings().unwrap().unwrap();
    assert_eq!((settings.identity.as_str(), settings.username.as_str()), ("node2", "node2"));
    assert_eq!((settings.server.as_str(), &settings.addresses), ("localhost", &addresses()));
    let texts = |keys: Vec<ipc_envelope::Key>| {
        keys.iter().map(|key| key.to_base64url()).collect::<Vec<_>>()
    };
    for keys in [Home::envelope_keys_one_by_one, Home::session_keys_one_by_one] {
        assert_eq!(texts(keys(&home).unwrap()), texts(keys(first).unwrap()));
    }
    home.session_keys().unwrap();
    let credentials = home.client_credentials().unwrap();
    assert!(users(first).unwrap().verify("node2", &credentials.password).unwrap());
    let admin = home.admin_credentials().unwrap();
    assert!(users(&home).unwrap().verify(&admin.username, &admin.password).unwrap());
    assert_eq!(home.ca_certificates().unwrap(), first.ca_certificates().unwrap());
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let certificate = read(home.certificate_file(&settings.identity));
    let key = read(home.key_file(&settings.identity));
    assert!(load_authority(first).unwrap().has_issued(&certificate, &key));
    let info = CertificateInfo::from_pem(&certificate).unwrap();
    assert_eq!(info.usages, Some(Usages::ServerAndClient));
    assert_eq!(
        info.alt_names,
        ["node2", "node2.example", "192.0.2.2", "localhost", "127.0.0.1", "::1"]
    );
    for (file, (_, mode)) in files_of(path) {
        assert_eq!(mode, if file == "sessions" { 0o700 } else { 0o600 }, "{file}");
        let is_of_first = file.starts_with("web-ipc-ca.") && file.ends_with(".key");
        assert!(!is_of_first && file != "client.json" && file != ".enrolling", "{file}");
    }
}

#[test]
fn a_further_server_has_what_servers_share_and_no_key_of_the_authority() {
    let (directory, first) = new_home();
    users(&first).unwrap().add("test1", Zeroizing::new("pass321".to_owned())).unwrap();
    create(&first, "lost").unwrap();
    cancel_enrolment(&first, "lost", now_secs()).unwrap();
    let bundle = create_server(&first);
    assert_eq!(bundle.enrolment.kind, EnrolmentKind::Server);
    assert!(first.temporary_files().unwrap().is_empty());
    // Users as of the moment of the enrolment.
    users(&first).unwrap().add("test2", Zeroizing::new("pass321".to_owned())).unwrap();
    let path = directory.path().join("node2");
    let accepted = accept(&path, &bundle).unwrap();
    assert_eq!(accepted.kind, EnrolmentKind::Server);
    assert_good_node(&path, &first);
    let lists = accepted.home.revocation_lists().unwrap();
    assert_eq!((lists.len(), lists), (1, first.revocation_lists().unwrap()));
    let names: Vec<_> =
        users(&accepted.home).unwrap().list().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["ipc-admin", "test1"]);
    let opened = bundle::open(&bundle.text, &bundle.code, now_secs()).unwrap();
    let opened = String::from_utf8(opened.to_vec()).unwrap();
    for file in ["web-ipc-ca.key", "localhost.key"] {
        let secret = std::fs::read_to_string(first.root().join(file)).unwrap();
        let line = secret.lines().find(|line| !line.starts_with("---")).unwrap();
        assert!(!opened.contains(line), "{file}");
    }
    assert_eq!(opened.matches("PRIVATE KEY").count(), 2);
    // A second acceptance changes nothing, and is refused in any other directory that is in use.
    let before = files_of(&path);
    accept(&path, &bundle).unwrap();
    assert_eq!(files_of(&path), before);
    let into_first = accept(first.root(), &bundle).unwrap_err();
    assert!(matches!(into_first, SetupError::NotForEnrolment { .. }), "{into_first:?}");
    // It is whole as it is: nothing is made anew.
    let before = files_of(&path);
    let made = crate::init(&path, &InitOptions::now()).unwrap();
    assert_eq!(made.outcome, crate::Outcome::AlreadyThere);
    assert_eq!(files_of(&path), before);
}

#[test]
fn what_needs_the_first_servers_home_is_refused_in_a_further_one() {
    let (directory, first) = new_home();
    let bundle = create_server(&first);
    let node = accept(&directory.path().join("node2"), &bundle).unwrap().home;
    let before = files_of(node.root());
    let now_secs = now_secs();
    let unspecified = RevocationReason::Unspecified;
    let old = crate::list_keys(&node, crate::Ring::Session).unwrap().remove(0).id;
    for (what, refused) in [
        ("enrol", create(&node, "worker1").err()),
        ("cancel", cancel_enrolment(&node, "node2", now_secs).err()),
        ("revoke", crate::revoke_certificates(&node, "node2", unspecified, now_secs).err()),
        ("renew", crate::renew_certificates(&node, &crate::Renew::All, now_secs).err()),
        ("rotate ca", crate::rotate_authority(&node, now_secs).err()),
        ("drop ca", crate::drop_old_authority(&node, true, now_secs).err()),
        ("rotate", crate::rotate_keys(&node, crate::Ring::Envelope, now_secs).err()),
        ("drop", crate::drop_key(&node, crate::Ring::Session, old, &[], false, now_secs).err()),
        (
            "issue",
            crate::issue_certificate(&node, &crate::CertificateRequest::new("peer1", now_secs))
                .err(),
        ),
    ] {
        let error = refused.expect(what);
        assert!(matches!(error, SetupError::ServerNode { .. }), "{what}: {error:?}");
        assert_eq!(error.remedy(), Some(Remedy::UseFirstServersHome), "{what}");
        assert!(error.to_string().contains("server1.example:3000"), "{error}");
    }
    assert_eq!(files_of(node.root()), before);
    assert_eq!(crate::list_certificates(&node).unwrap().certificates.len(), 2);
}

#[test]
fn a_further_server_is_enrolled_under_no_name_in_use_and_cancelled_like_a_client() {
    let (_directory, first) = new_home();
    create(&first, "node1").unwrap();
    let addresses = addresses();
    let request = server_request(&addresses, &[]);
    let taken = create_enrolment(&first, &EnrolRequest { name: "localhost", ..request });
    assert!(matches!(taken, Err(SetupError::EnrolmentNameTaken { .. })), "{taken:?}");
    let bad = ["not fine".to_owned()];
    let named = create_enrolment(&first, &EnrolRequest { alt_names: &bad, ..request });
    assert!(matches!(named, Err(SetupError::Name { .. })), "{named:?}");
    let user = create_enrolment(&first, &EnrolRequest { user: Some("node1"), ..request });
    assert!(matches!(user, Err(SetupError::EnrolmentUserTaken { .. })), "{user:?}");
    // A second bundle makes the first void, and may be of the other kind.
    let serial = create(&first, "node2").unwrap().enrolment.serial;
    assert!(create_server(&first).replaced);
    let list = list_certificates(&first).unwrap();
    let before = list.certificates.iter().find(|one| one.serial.to_string() == serial).unwrap();
    assert!(before.revoked_at_secs.is_some());
    let cancelled = cancel_enrolment(&first, "node2", now_secs()).unwrap();
    // That of the void bundle was revoked before.
    assert_eq!((cancelled.revoked, cancelled.user_deleted), (1, true));
}

/// Not a test of its own: what the processes of the test below do.
#[test]
fn child_process_enrols_a_server() {
    let Some(home) = kills::home_of_child() else { return };
    create_server(&Home::at(home));
}

#[test]
fn enrolling_a_server_that_is_killed_anywhere_can_be_repeated() {
    let killed = kills::at_each_step(
        "enrol::tests::child_process_enrols_a_server",
        || {
            let (directory, home) = new_home();
            let path = home.root().to_owned();
            (directory, path)
        },
        |path| {
            let first = Home::at(path);
            let bundle = create_server(&first);
            assert!(first.temporary_files().unwrap().is_empty());
            let node = path.with_file_name("node2");
            accept(&node, &bundle).unwrap();
            assert_good_node(&node, &first);
        },
    );
    assert!(killed > 12, "{killed}");
}

/// Not a test of its own: what the processes of the test below do.
#[test]
fn child_process_accepts_a_server() {
    let Some(home) = kills::home_of_child() else { return };
    let read = |name: &str| std::fs::read_to_string(home.with_file_name(name)).unwrap();
    accept_enrolment(&home, &read("bundle"), &read("code").parse().unwrap(), now_secs()).unwrap();
}

#[test]
fn an_acceptance_of_a_server_that_is_killed_anywhere_is_completed_by_its_repetition() {
    let killed = kills::at_each_step(
        "enrol::tests::child_process_accepts_a_server",
        || {
            let (directory, first) = new_home();
            let bundle = create_server(&first);
            std::fs::write(directory.path().join("bundle"), &bundle.text).unwrap();
            std::fs::write(directory.path().join("code"), bundle.code.to_string()).unwrap();
            let node = directory.path().join("node2");
            (directory, node)
        },
        |path| {
            let first = Home::at(path.with_file_name("home"));
            let read = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap();
            let is_whole = path.exists() && Home::at(path).is_complete().unwrap();
            let is_begun = path.exists() && Home::at(path).contents().unwrap() == Contents::Client;
            if is_begun {
                // No home of its own is made of it.
                let made = crate::init(path, &InitOptions::now()).unwrap_err();
                assert!(
                    matches!(made, SetupError::Home(HomeError::ClientDirectory { .. })),
                    "{made:?}"
                );
            }
            // Nothing, a beginning, or all of it.
            let is_empty =
                !path.exists() || Home::at(path).contents().unwrap() == Contents::Nothing;
            assert!(is_begun || is_whole || is_empty);
            let code = read("code").parse().unwrap();
            match accept_enrolment(path, &read("bundle"), &code, now_secs()) {
                Ok(accepted) => assert_eq!(accepted.kind, EnrolmentKind::Server),
                Err(SetupError::AlreadyEnrolled { .. }) => assert!(is_whole),
                Err(error) => panic!("{error:?}"),
            }
            assert_good_node(path, &first);
        },
    );
    assert!(killed > 20, "{killed}");
}

#[test]
fn a_clients_bundle_in_place_of_a_servers_leaves_nothing_of_that() {
    let (directory, first) = new_home();
    let path = directory.path().join("one");
    let home = accept(&path, &create_server(&first)).unwrap().home;
    // As an acceptance that was cut short before its last file.
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    std::fs::write(marker(&home), "").unwrap();
    accept(&path, &create(&first, "worker1").unwrap()).unwrap();
    assert_good(&home, &first, "worker1");
}

#[test]
fn several_acceptances_of_a_server_at_once_make_one_home() {
    let (directory, first) = new_home();
    let (path, bundle) = (directory.path().join("node2"), create_server(&first));
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| accept(&path, &bundle).is_ok())).collect();
        assert!(runs.into_iter().all(|run| run.join().unwrap()));
    });
    assert_good_node(&path, &first);
}

/// A database that nobody opens here.
const USERS_URL: &str = "postgres://ipc:nobody-may-see@db.example/ipc";

/// The bundle of a further server with other members of its part in the content.
fn with_members(bundle: &Bundle, members: &[(&str, serde_json::Value)]) -> String {
    let opened = bundle::open(&bundle.text, &bundle.code, now_secs()).unwrap();
    let mut content: serde_json::Value = serde_json::from_slice(&opened).unwrap();
    for (member, value) in members {
        match value {
            serde_json::Value::Null => {
                drop(content["node"].as_object_mut().unwrap().remove(*member))
            }
            value => content["node"][*member] = value.clone(),
        }
    }
    let json = content.to_string();
    bundle::seal(json.as_bytes(), &bundle.code, Cost::DEFAULT, now_secs()).unwrap()
}

fn with_users_url(bundle: &Bundle, url: &str) -> String {
    with_members(bundle, &[("users_db", serde_json::Value::Null), ("users_url", url.into())])
}

#[test]
fn a_servers_bundle_without_users_or_with_what_is_no_database_is_refused() {
    let (directory, first) = new_home();
    let bundle = create_server(&first);
    let path = directory.path().join("node2");
    for members in [
        [("users_db", serde_json::Value::Null)],
        [("users_db", "".into())],
        [("users_db", "no base64!".into())],
        [("users_db", base64_simd::STANDARD.encode_to_string(b"no database").into())],
    ] {
        let text = with_members(&bundle, &members);
        let error = accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap_err();
        assert_eq!(error.to_string(), "this version cannot open the bundle", "{members:?}");
        assert!(!path.exists());
    }
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_bundle_with_users_in_postgresql_is_refused_by_a_build_that_cannot_open_them() {
    let (directory, first) = new_home();
    let bundle = create_server(&first);
    let path = directory.path().join("node2");
    let text = with_users_url(&bundle, USERS_URL);
    let error = accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle is for a server whose users are in PostgreSQL, which this web-ipc was built \
         without"
    );
    let remedy = Remedy::act("use a web-ipc that was built with the feature `postgres`");
    assert_eq!(error.remedy(), Some(remedy));
    assert!(!path.exists());
    // Nor does it make such a bundle: it cannot add the server's user.
    let elsewhere = first.clone().with_users_url(Some(USERS_URL));
    let names = ["node3".to_owned()];
    let request = EnrolRequest { name: "node3", ..server_request(&names, &[]) };
    let error = create_enrolment(&elsewhere, &request).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::UsersElsewhere { .. })), "{error:?}");
}

#[cfg(feature = "postgres")]
mod users_in_postgresql {
    use super::*;

    /// That the home names the database, and has no users of its own.
    fn assert_names_the_database(path: &Path) {
        let home = Home::open(path).unwrap();
        assert_eq!(home.users_url().unwrap().unwrap().as_str(), USERS_URL);
        let files = files_of(path);
        assert_eq!(files["users.url"], (format!("{USERS_URL}\n").into_bytes(), 0o600));
        assert!(!files.keys().any(|file| file.starts_with("users.db")), "{files:?}");
        let database = crate::users_database(&home).unwrap().unwrap();
        assert_eq!(database.shown, "postgres://ipc:***@db.example:5432/ipc");
        assert!(!database.is_this_host);
        // Nothing is missing, and nothing is made anew.
        let made = crate::init(path, &InitOptions::now()).unwrap();
        assert_eq!(made.outcome, crate::Outcome::AlreadyThere);
    }

    #[test]
    fn the_home_of_a_bundle_names_the_database_and_has_no_users_of_its_own() {
        let (directory, first) = new_home();
        let bundle = create_server(&first);
        let path = directory.path().join("node2");
        for url in ["", "mysql://db.example/ipc", "postgres://db.example/ipc?nonsense=1"] {
            let text = with_users_url(&bundle, url);
            let error = accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap_err();
            assert_eq!(error.to_string(), "this version cannot open the bundle", "{url}");
            assert!(!path.exists());
        }
        let text = with_users_url(&bundle, USERS_URL);
        accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap();
        assert_names_the_database(&path);
    }

    #[test]
    fn a_bundle_in_place_of_one_with_users_elsewhere_leaves_nothing_of_that() {
        let (directory, first) = new_home();
        let path = directory.path().join("node2");
        let cut_short = |home: &Home| {
            // As an acceptance that was cut short before its last file.
            std::fs::remove_file(home.admin_cred_file()).unwrap();
            std::fs::write(marker(home), "").unwrap();
        };
        let bundle = create_server(&first);
        let text = with_users_url(&bundle, USERS_URL);
        let home = accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap().home;
        cut_short(&home);
        accept(&path, &create_server(&first)).unwrap();
        assert_good_node(&path, &first);
        assert!(!home.users_url_file().exists());
        cut_short(&home);
        let bundle = create_server(&first);
        let text = with_users_url(&bundle, USERS_URL);
        accept_enrolment(&path, &text, &bundle.code, now_secs()).unwrap();
        assert_names_the_database(&path);
        cut_short(&home);
        accept(&path, &create(&first, "worker1").unwrap()).unwrap();
        assert_good(&home, &first, "worker1");
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_accepts() {
        let Some(home) = kills::home_of_child() else { return };
        let read = |name: &str| std::fs::read_to_string(home.with_file_name(name)).unwrap();
        let code = read("code").parse().unwrap();
        accept_enrolment(&home, &read("bundle"), &code, now_secs()).unwrap();
    }

    #[test]
    fn an_acceptance_that_is_killed_anywhere_is_completed_by_its_repetition() {
        let killed = kills::at_each_step(
            "enrol::tests::users_in_postgresql::child_process_accepts",
            || {
                let (directory, first) = new_home();
                let bundle = create_server(&first);
                let text = with_users_url(&bundle, USERS_URL);
                std::fs::write(directory.path().join("bundle"), text).unwrap();
                std::fs::write(directory.path().join("code"), bundle.code.to_string()).unwrap();
                let node = directory.path().join("node2");
                (directory, node)
            },
            |path| {
                let read = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap();
                let is_whole = path.exists() && Home::at(path).is_complete().unwrap();
                let code = read("code").parse().unwrap();
                match accept_enrolment(path, &read("bundle"), &code, now_secs()) {
                    Ok(_) => {}
                    Err(SetupError::AlreadyEnrolled { .. }) => assert!(is_whole),
                    Err(error) => panic!("{error:?}"),
                }
                assert_names_the_database(path);
            },
        );
        assert!(killed > 20, "{killed}");
    }
}

//! What is in the way of an inbox on NATS JetStream: one sentence with a remedy, for `--serve` and
//! for `--dead`.

use std::fs;
use std::path::Path;

use crate::command::{PASSWORD, command, fails, fake, free_port, home, run, sentence, serve};
use crate::nats::Nats;

/// Checks the one sentence that both commands end with.
#[track_caller]
fn told(home: &Path, address: &str, expected: &str) {
    let log = serve(home, &["--inbox", address]).map(|_| ()).unwrap_err();
    assert_eq!(sentence(&log), expected);
    let log = fails(home, &["--dead", "--list", "--inbox", address]);
    assert_eq!(sentence(&log), expected);
}

/// Checks that a server starts.
#[track_caller]
fn starts(home: &Path, address: &str) {
    if let Err(log) = serve(home, &["--inbox", address]) {
        panic!("{log}");
    }
}

#[test]
fn an_address_without_a_nats_server_is_told_as_one() {
    let (_folder, home) = home();
    let port = free_port();
    told(
        &home,
        &format!("nats://u1:pass-x@127.0.0.1:{port}/J"),
        &format!(
            "no NATS server answers at nats://127.0.0.1:{port}/J: Connection refused (os error \
             111); start it, or give another address"
        ),
    );

    // The middle of the sentence is the system's.
    let log = fails(&home, &["--dead", "--list", "--inbox", "nats://no-such-host.invalid/J"]);
    let said = sentence(&log);
    let begin = "the host of nats://no-such-host.invalid:4222/J has no address: ";
    let end = "; check the name, or give another address";
    assert!(said.starts_with(begin) && said.ends_with(end), "{said}");

    // A web server waits for its client, and others greet in their own ways.
    for greeting in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail.example ESMTP\r\n"] {
        let at = format!("nats://127.0.0.1:{}/J", fake(greeting));
        told(
            &home,
            &at,
            &format!(
                "what listens at {at} is not a NATS server; check host and port: nats-server \
                 listens on 4222 by default"
            ),
        );
    }

    let old = "INFO {\"server_id\":\"X\",\"server_name\":\"X\",\"version\":\"2.8.0\",\"go\":\"go1.17\",\
               \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576,\"proto\":1}\r\n";
    told(
        &home,
        &format!("nats://127.0.0.1:{}/J", fake(old)),
        "the NATS server is of version 2.8.0, and 2.9 or newer is needed; install a newer \
         nats-server",
    );
}

#[test]
fn what_a_nats_server_does_not_give_is_told_with_a_remedy() {
    let (_folder, home) = home();
    let (Some(mut nats), Some(plain)) = (Nats::start(""), Nats::start_without_jetstream()) else {
        return;
    };
    let at = format!("nats://127.0.0.1:{}/J", nats.port);
    told(
        &home,
        &format!("nats://127.0.0.1:{}/J", plain.port),
        &format!(
            "the NATS server at nats://127.0.0.1:{}/J has no JetStream for this account; start \
             nats-server with -js, or enable JetStream for the account",
            plain.port
        ),
    );
    told(
        &home,
        &format!("{at}?replicas=3"),
        "there are too few NATS servers for the stream J with 3 replicas; start a cluster of as \
         many, or give the parameter replicas a smaller number",
    );
    told(
        &home,
        &format!("{at}?bytes=1000000000"),
        "the NATS server has no room for the stream J: insufficient storage resources available \
         (code 500, error code 10047); give the parameter bytes a smaller number, or JetStream \
         more room",
    );
    nats.ask(
        "$JS.API.STREAM.CREATE.J",
        "{\"name\":\"J\",\"subjects\":[\"web-ipc.J.message\"],\"retention\":\"workqueue\",\
         \"storage\":\"file\",\"discard\":\"new\",\"max_consumers\":-1,\"max_msgs\":-1,\
         \"max_bytes\":-1,\"max_age\":0,\"num_replicas\":1}",
    );
    told(
        &home,
        &at,
        "the stream J exists with another configuration: its retention is not limits; give the \
         inbox another name, or change that configuration",
    );
    starts(&home, &at.replace("/J", "/K"));

    nats.stop();
    told(
        &home,
        &at,
        &format!(
            "no NATS server answers at {at}: Connection refused (os error 111); start it, or give \
             another address"
        ),
    );
}

#[test]
fn a_login_that_a_nats_server_refuses_is_told_without_its_password() {
    let (folder, home) = home();
    let users = "authorization { users: [
        { user: u1, password: pass-x }
        { user: u2, password: pass-x, permissions: { publish: \"other\", subscribe: \"_INBOX.>\" } }
        { user: u3, password: pass-x, permissions: {
            publish: [\"$JS.API.>\", \"$JS.ACK.>\", \"web-ipc.J.>\"]
            subscribe: [\"_INBOX.>\", \"web-ipc.J.>\"] } }
    ] }";
    let Some(nats) = Nats::start(users) else { return };
    let at = format!("nats://127.0.0.1:{}/J", nats.port);
    let with = |more: &str| at.replace("nats://", &format!("nats://{more}@"));
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path.display().to_string()
    };

    told(
        &home,
        &at,
        &format!(
            "the NATS server at {at} asks for a login, and none is given; add the parameters user \
             and passwordFile, or credentials, to the address"
        ),
    );
    let check = "check the user with its password, or the credentials, against the configuration \
                 of nats-server";
    let refused =
        format!("the NATS server at {at} refuses the user u1 with this password; {check}");
    told(&home, &with("u1:wrong-pass-x"), &refused);
    let wrong = file("password", "wrong-pass-x\n");
    told(&home, &format!("{at}?user=u1&passwordFile={wrong}"), &refused);
    let credentials = file(
        "user.creds",
        "-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.AAAA\n\
         ------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n\
         SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY\n\
         ------END USER NKEY SEED------\n",
    );
    told(
        &home,
        &format!("{at}?credentials={credentials}"),
        &format!("the NATS server at {at} refuses the credentials in {credentials}; {check}"),
    );

    let missing = folder.path().join("missing").display().to_string();
    told(
        &home,
        &format!("{at}?user=u1&passwordFile={missing}"),
        &format!(
            "the file {missing} of the parameter passwordFile cannot be read: No such file or \
             directory (os error 2); check its path"
        ),
    );
    let directory = folder.path().display().to_string();
    told(
        &home,
        &format!("{at}?credentials={directory}"),
        &format!(
            "the file {directory} of the parameter credentials cannot be read: Is a directory (os \
             error 21); name a file"
        ),
    );
    told(
        &home,
        &format!("{at}?credentials={wrong}"),
        &format!(
            "the file {wrong} of the parameter credentials has no credentials in it; name one \
             that nsc has made: nsc generate creds"
        ),
    );

    told(
        &home,
        &with("u2:pass-x"),
        &format!(
            "the user of the NATS server at {at} lacks a right: Permissions Violation for Publish \
             to \"$JS.API.INFO\"; give it the rights that docs/jetstream.md lists"
        ),
    );

    // No library that it uses shows the password either.
    let mut traced = command(&home, &["--dead", "--list", "--inbox", &with("u1:wrong-pass-x")]);
    let output = traced.env("RUST_LOG", "trace").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("TRACE") && !said.contains(PASSWORD), "{said}");

    // With the right password, and with the rights that the page lists.
    starts(&home, &format!("{at}?user=u1&passwordFile={}", file("right", "pass-x\n")));
    starts(&home, &with("u3:pass-x"));
}

#[test]
fn a_fault_of_tls_with_a_nats_server_is_told_in_words() {
    let ((folder, home), (_other_folder, other)) = (home(), home());
    run(&home, &["--certs", "--name", "client"], 0);
    run(&other, &["--certs", "--name", "client"], 0);
    let path = |home: &Path, file: &str| home.join(file).display().to_string();
    let ours = |file: &str| path(&home, file);
    let pair = |name: &str| {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        format!("cert_file: \"{}\", key_file: \"{}\"", ours(&certificate), ours(&key))
    };
    let with_tls = |tls: &str| Nats::start(&format!("tls {{ {tls} }}"));
    let mutual =
        format!("{}, ca_file: \"{}\", verify: true", pair("localhost"), ours("web-ipc-ca.crt"));
    let Some(none) = Nats::start("") else { return };
    let one_way = with_tls(&pair("localhost")).unwrap();
    let renamed = with_tls(&pair("client")).unwrap();
    let mutual = with_tls(&mutual).unwrap();
    let at = |scheme: &str, nats: &Nats| format!("{scheme}://127.0.0.1:{}/J", nats.port);
    let (ca, foreign) = (ours("web-ipc-ca.crt"), path(&other, "web-ipc-ca.crt"));

    // The server asks for TLS, and the address does not.
    for scheme in ["nats", "tls"] {
        told(
            &home,
            &at(scheme, &one_way),
            &format!(
                "the certificate of the NATS server at {} was not issued by an authority that \
                 this host trusts; name the file of the authority that issued it with the \
                 parameter ca",
                at(scheme, &one_way)
            ),
        );
    }
    told(
        &home,
        &format!("{}?ca={foreign}", at("nats", &one_way)),
        &format!(
            "the certificate of the NATS server at {} was not issued by an authority in \
             {foreign}; give the parameter ca the file of the authority that issued it",
            at("tls", &one_way)
        ),
    );
    let key = ours("localhost.key");
    told(
        &home,
        &format!("{}?ca={key}", at("nats", &one_way)),
        &format!(
            "the file {key} of the parameter ca has no certificate in it; name a PEM file that \
             has one"
        ),
    );
    told(
        &home,
        &at("tls", &none),
        &format!(
            "the NATS server at {} does not speak TLS; configure TLS there, or give an address \
             with nats:// and without the parameters ca, cert and key",
            at("tls", &none)
        ),
    );
    told(
        &home,
        &format!("{}?ca={ca}", at("nats", &renamed)),
        &format!(
            "the certificate of the NATS server at {} is for client; give an address with a name \
             that the certificate is for",
            at("tls", &renamed)
        ),
    );

    let asked = format!("{}?ca={ca}", at("nats", &mutual));
    told(
        &home,
        &asked,
        &format!(
            "the NATS server at {} asks for a client's certificate, and none is given; add the \
             parameters cert and key to the address",
            at("tls", &mutual)
        ),
    );
    let (certificate, client_key) = (ours("client.crt"), ours("client.key"));
    let (others, others_key) = (path(&other, "client.crt"), path(&other, "client.key"));
    let inbox = format!("{asked}&cert={others}&key={others_key}");
    let log = fails(&home, &["--dead", "--list", "--inbox", &inbox]);
    let said = sentence(&log);
    let begin =
        format!("the NATS server at {} refuses this client's certificate: ", at("tls", &mutual));
    let end = "; give the parameters cert and key a pair whose authority nats-server trusts";
    assert!(said.starts_with(&begin) && said.ends_with(end), "{said}");
    told(
        &home,
        &format!("{asked}&cert={certificate}&key={key}"),
        &format!(
            "the key {key} does not belong to the certificate {certificate}; check the parameters \
             cert and key"
        ),
    );
    told(
        &home,
        &format!("{asked}&cert={certificate}&key={certificate}"),
        &format!(
            "the file {certificate} of the parameter key has no private key in it; name a PEM \
             file that has one"
        ),
    );
    let missing = folder.path().join("missing").display().to_string();
    told(
        &home,
        &format!("{asked}&cert={certificate}&key={missing}"),
        &format!(
            "the file {missing} of the parameter key cannot be read: No such file or directory \
             (os error 2); check its path"
        ),
    );
    starts(&home, &format!("{asked}&cert={certificate}&key={client_key}"));
    starts(&home, &format!("{}?ca={ca}", at("tls", &one_way)));
}

#[test]
fn what_is_no_address_of_an_inbox_is_wrong_usage_and_is_not_repeated() {
    let (_folder, home) = home();
    let servers = "invalid address for '--inbox <KIND>': a server of the address is not \
                   HOST:PORT: nats://HOST:PORT,HOST2:PORT/NAME is expected";
    let neither =
        "invalid value for '--inbox <KIND>': it is neither a kind nor nats://HOST:PORT/NAME";
    for (address, what) in [
        ("nats://u1:pass-x@h:99999/J", servers),
        ("nats://u1:pass-x@h/J/x", servers),
        (
            "nats://u1:pass-x@h",
            "invalid address for '--inbox <KIND>': the address names no stream: after the \
             servers, /NAME of 1 to 64 letters, digits, - and _ is expected",
        ),
        (
            "nats://h/J?replicas=2",
            "invalid address for '--inbox <KIND>': the parameter replicas is not 1, 3 or 5",
        ),
        (
            "nats://h/J?passwordFile=/x",
            "invalid address for '--inbox <KIND>': the parameter passwordFile needs a user",
        ),
        (
            "nats://h/J?password=pass-x",
            "invalid address for '--inbox <KIND>': \"password\" is no parameter of a JetStream \
             inbox; known are replicas, credentials, user, passwordFile, ca, cert, key and bytes",
        ),
        ("http://u1:pass-x@h/J", neither),
        ("nats:/u1:pass-x@h/J", neither),
        ("u1:pass-x@h/J", neither),
        (
            "postgres://u1:pass-x@h/d",
            "invalid value for '--inbox <KIND>': messages are not kept in PostgreSQL\n\n  \
             tip: PostgreSQL keeps the users: give this address to '--usersDb <URL>'",
        ),
    ] {
        for arguments in [&["--serve", "--port", "0"][..], &["--dead", "--list"]] {
            let said = run(&home, &[arguments, &["--inbox", address]].concat(), 2);
            assert!(said.starts_with(&format!("error: {what}\n\n")), "{address}: {said}");
        }
    }
    let output = command(&home, &["--serve", "--inbox", "jetstream"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let listed = "[possible values: memory, durable, nats://HOST:PORT/NAME]";
    assert!(said.contains(listed) && output.status.code() == Some(2), "{said}");
}

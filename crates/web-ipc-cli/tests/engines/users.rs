//! What is in the way of users in PostgreSQL: one sentence with a remedy, for `--serve` and for
//! `--users`.

use std::path::Path;

use crate::cluster::Cluster;
use crate::command::{fake, free_port, home, run, sentence, serve};

/// Checks the one sentence that both commands end with.
#[track_caller]
fn told(home: &Path, url: &str, expected: &str) {
    let log = serve(home, &["--usersDb", url]).map(|_| ()).unwrap_err();
    assert_eq!(sentence(&log), expected);
    let log = run(home, &["--users", "--list", "--usersDb", url], 1);
    assert_eq!(sentence(&log), expected);
}

#[test]
fn an_address_without_postgresql_is_told_as_one() {
    let (folder, home) = home();
    let start = "; start it, or check host and port in its address";
    let port = free_port();
    told(
        &home,
        &format!("postgres://ipc:pass-x@127.0.0.1:{port}/ipc"),
        &format!(
            "the users' database postgres://ipc:***@127.0.0.1:{port}/ipc cannot be reached: \
             Connection refused (os error 111){start}"
        ),
    );
    let folder = folder.path().display().to_string();
    told(
        &home,
        &format!("postgres://ipc@{}/ipc", folder.replace('/', "%2F")),
        &format!(
            "the users' database postgres://ipc@{folder}/ipc cannot be reached: No such file or \
             directory (os error 2){start}"
        ),
    );
    // A web server waits for more, and a NATS server greets.
    let port = fake("");
    told(
        &home,
        &format!("postgres://ipc:pass-x@127.0.0.1:{port}/ipc"),
        &format!(
            "the users' database postgres://ipc:***@127.0.0.1:{port}/ipc cannot be reached: no \
             answer within 5 s{start}"
        ),
    );
    let port = fake("INFO {}\r\n");
    told(
        &home,
        &format!("postgres://ipc:pass-x@127.0.0.1:{port}/ipc"),
        &format!(
            "what answers at postgres://ipc:***@127.0.0.1:{port}/ipc is not PostgreSQL; check \
             host and port: PostgreSQL listens on 5432 by default"
        ),
    );
    // The middle of the sentence is the system's.
    let url = "postgres://ipc:pass-x@no-such-host.invalid/ipc";
    let log = run(&home, &["--users", "--list", "--usersDb", url], 1);
    let said = sentence(&log);
    let begin = "the host of the users' database postgres://ipc:***@no-such-host.invalid:5432/ipc \
                 has no address: ";
    assert!(said.starts_with(begin) && said.ends_with("; check the name in the address"), "{said}");
}

#[test]
fn what_is_no_address_of_a_database_is_not_repeated() {
    let (_folder, home) = home();
    let scheme = "the address of the users' database must begin with postgres://";
    for (url, expected) in [
        ("mysql://ipc:pass-x@h/d", scheme),
        ("sqlite:///pass-x/users.db", scheme),
        ("ipc:pass-x@h/d", scheme),
        (
            "nats://ipc:pass-x@h/J",
            "the address of the users' database must begin with postgres://, and NATS keeps no \
             users",
        ),
        (
            "postgres://ipc:pass-x@h:99999/d",
            "the address of the users' database is not postgres://USER:PASSWORD@HOST:PORT/DATABASE; \
             a special character in the password is written as % and two hexadecimal digits",
        ),
        (
            "postgres://ipc@h/d?passwd=pass-x",
            "the address of the users' database has an unknown parameter `passwd`",
        ),
    ] {
        told(&home, url, expected);
    }
}

#[test]
fn what_postgresql_refuses_is_told_with_a_remedy() {
    let ((folder, home), (_other_folder, other)) = (home(), home());
    let file = |home: &Path, name: &str| home.join(name).display().to_string();
    let pair = (home.join("localhost.crt"), home.join("localhost.key"));
    let Some(mut cluster) = Cluster::start(Some((&pair.0, &pair.1))) else { return };
    let port = cluster.port.unwrap();
    for statement in [
        "CREATE ROLE ipc LOGIN PASSWORD 'right-pass-x'",
        "CREATE ROLE guest LOGIN PASSWORD 'right-pass-x'",
        "CREATE DATABASE ipc OWNER ipc",
        "CREATE DATABASE ascii OWNER ipc ENCODING 'SQL_ASCII' TEMPLATE template0",
    ] {
        cluster.sql("postgres", statement);
    }
    let url = |user: &str, database: &str| {
        format!("postgres://{user}:right-pass-x@127.0.0.1:{port}/{database}")
    };
    let shown =
        |user: &str, database: &str| format!("postgres://{user}:***@127.0.0.1:{port}/{database}");
    let (ipc, ipc_shown) = (url("ipc", "ipc"), shown("ipc", "ipc"));

    let check = "check the user of the address, and the password there, in PGPASSWORD or in the \
                 password file";
    told(
        &home,
        &ipc.replace("right", "wrong"),
        &format!(
            "PostgreSQL refuses {ipc_shown}: password authentication failed for user \"ipc\"; \
             {check}"
        ),
    );
    told(
        &home,
        &url("nobody", "ipc"),
        &format!(
            "PostgreSQL refuses {}: password authentication failed for user \"nobody\"; {check}",
            shown("nobody", "ipc")
        ),
    );
    told(
        &home,
        &url("ipc", "nowhere"),
        &format!(
            "PostgreSQL does not have {}: database \"nowhere\" does not exist; make it with \
             createdb, or name another in the address",
            shown("ipc", "nowhere")
        ),
    );
    told(
        &home,
        &format!("{ipc}?sslmode=disable"),
        &format!(
            "PostgreSQL does not let {ipc_shown} in: no pg_hba.conf entry for host \"127.0.0.1\", \
             user \"ipc\", database \"ipc\", no encryption; check the user of the address, and \
             what pg_hba.conf says of it"
        ),
    );
    told(
        &home,
        &url("ipc", "ascii"),
        &format!(
            "the encoding of the database {} is SQL_ASCII, and UTF8 is needed; make another \
             database, with createdb --encoding UTF8 --template template0",
            shown("ipc", "ascii")
        ),
    );
    // Neither may make tables nor, once they are there, read them.
    let rights = "give it the rights that docs/postgresql.md lists";
    let lacks = |what: &str| {
        format!(
            "the user of {} lacks a right that web-ipc needs: permission denied for {what}; \
             {rights}",
            shown("guest", "ipc")
        )
    };
    told(&home, &url("guest", "ipc"), &lacks("schema public"));
    run(&home, &["--users", "--list", "--usersDb", &ipc], 0);
    told(&home, &url("guest", "ipc"), &lacks("table web_ipc_migrations"));

    let verified = |authority: &str| format!("{ipc}?sslmode=verify-full&sslrootcert={authority}");
    told(
        &home,
        &format!("{ipc}?sslmode=verify-full"),
        &format!(
            "the certificate of PostgreSQL at {ipc_shown} was not issued by an authority that \
             this host trusts; name the file of the authority that issued it with the parameter \
             sslrootcert"
        ),
    );
    let foreign = file(&other, "web-ipc-ca.crt");
    told(
        &home,
        &verified(&foreign),
        &format!(
            "the certificate of PostgreSQL at {ipc_shown} was not issued by an authority in \
             {foreign}; give the parameter sslrootcert the file of the authority that issued it"
        ),
    );
    let missing = folder.path().join("missing").display().to_string();
    told(
        &home,
        &verified(&missing),
        &format!(
            "the file {missing} of the parameter sslrootcert cannot be read: No such file or \
             directory (os error 2); check its path"
        ),
    );
    let key = file(&home, "localhost.key");
    told(
        &home,
        &verified(&key),
        &format!(
            "the file {key} of the parameter sslrootcert has no certificate in it; name a PEM \
             file that has one"
        ),
    );
    let socket = cluster.socket();
    told(
        &home,
        &format!("postgres://ipc@{socket}:{port}/ipc?sslmode=require"),
        &format!(
            "no TLS connection to PostgreSQL at postgres://ipc@{}/ipc: server does not support \
             TLS; check the TLS of PostgreSQL, and the parameters sslmode, sslcert and sslkey of \
             the address",
            socket.replace("%2F", "/")
        ),
    );
    run(&home, &["--users", "--list", "--usersDb", &verified(&file(&home, "web-ipc-ca.crt"))], 0);

    cluster.sql("ipc", "INSERT INTO web_ipc_migrations (number) VALUES (99)");
    told(
        &home,
        &ipc,
        &format!(
            "the users' database {ipc_shown} is of a later version of web-ipc; update this web-ipc"
        ),
    );
    assert!(cluster.does("stop"));
    told(
        &home,
        &ipc,
        &format!(
            "the users' database {ipc_shown} cannot be reached: Connection refused (os error \
             111); start it, or check host and port in its address"
        ),
    );
}

//! A home whose users move to PostgreSQL, and a server that outlives the outage of its database.

use std::os::unix::fs::PermissionsExt as _;

use crate::cluster::Cluster;
use crate::command::{command, run, serve};

#[test]
fn users_move_to_postgresql_and_a_server_outlives_its_outage() {
    let Some(mut cluster) = Cluster::start(None) else { return };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    // The socket trusts everybody; the password is there to be hidden.
    let url = format!("postgres://postgres:pass-x@{}/postgres", cluster.socket());
    let user = |action| ["--users", action, "--user", "bob", "--password", "one"];

    run(&home, &["--init", "--run"], 0);
    run(&home, &user("--add"), 0);
    let early = run(&home, &["--init", "--run", "--usersDb", &url], 1);
    assert!(early.contains("are not in that database; run web-ipc "), "{early}");
    assert!(early.contains(" --users --copyTo URL first"), "{early}");
    let copy = ["--users", "--copyTo", &url];
    let said = run(&home, &copy, 0);
    assert!(said.contains("Copied: 2 users added, 0 overwritten, 0 there already"), "{said}");
    assert!(run(&home, &copy, 0).contains("0 users added, 0 overwritten, 2 there already"));
    run(&home, &["--users", "--change", "--user", "bob", "--password", "two"], 0);
    let differs = run(&home, &copy, 1);
    assert!(differs.contains("Nobody was copied: a user is there already"), "{differs}");
    assert!(differs.contains("rights: bob; see who is right"), "{differs}");
    let said = run(&home, &["--users", "--copyTo", &url, "--force"], 0);
    assert!(said.contains("0 users added, 1 overwritten, 1 there already"), "{said}");

    run(&home, &["--init", "--run", "--usersDb", &url], 0);
    let mode = std::fs::metadata(home.join("users.url")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(home.join("users.db")).unwrap();
    assert!(run(&home, &["--users", "--list"], 0).contains("Username: bob"));
    run(&home, &["--users", "--testCredentials", "--user", "bob", "--password", "two"], 0);
    run(&home, &["--test", "--run", "--qty", "2", "--port", "0"], 0);
    run(&home, &["--certs", "--list"], 0);
    run(&home, &["--keys", "--list"], 0);
    run(&home, &["--enrol", "--create", "--name", "worker1", "--server", "127.0.0.1"], 0);
    assert!(run(&home, &["--users", "--list"], 0).contains("Username: worker1"));
    let out = folder.path().join("copy");
    run(&home, &["--backup", "--run", "--out", out.to_str().unwrap()], 0);
    assert!(run(&out, &["--users", "--list"], 0).contains("Username: worker1"));
    // An option wins over the file, and a new home of its own has its users there.
    let nobody = "postgres://ipc:pass-x@127.0.0.1:1/ipc";
    let said = run(&home, &["--users", "--list", "--usersDb", nobody], 1);
    assert!(said.contains("postgres://ipc:***@127.0.0.1:1/ipc cannot be reached"), "{said}");
    let said = run(&folder.path().join("none"), &["--init", "--run", "--usersDb", nobody], 1);
    assert!(said.contains("cannot be reached"), "{said}");

    let (_serving, port) = serve(&home, &[]).unwrap();
    let send = ["--send", "--port", &port, "--timeout", "20", "{\"n\":1}"];
    let as_bob = |timeout| {
        let login = ["--user", "bob", "--password", "two", "--timeout", timeout];
        [&["--send", "--port", &port][..], &login, &["{\"n\":2}"]].concat()
    };
    run(&home, &send, 0);
    for how in ["stop", "kill"] {
        assert!(cluster.does(how), "{how}");
        // The session of the first command is known to the server; bob must log in.
        run(&home, &send, 0);
        if how == "stop" {
            let refused = run(&home, &as_bob("2"), 1);
            assert!(refused.contains("users' database does not answer"), "{refused}");
        }
        while !cluster.does("start") {}
        run(&home, &as_bob("20"), 0);
        run(&home, &send, 0);
    }
    // What is changed beside a running server is effective within a second.
    run(&home, &["--users", "--disable", "--user", "bob"], 0);
    let begun = std::time::Instant::now();
    while command(&home, &as_bob("5")).output().unwrap().status.success() {
        assert!(begun.elapsed().as_secs() < 30, "bob is still let in");
    }
}

//! A home whose users move to PostgreSQL, and a server that outlives the outage of its database.

use std::os::unix::fs::PermissionsExt as _;

use std::path::Path;

use crate::cluster::Cluster;
use crate::command::{PASSWORD, command, run, serve};

/// What `--doctor` says of the databases of a home. Another program may have port 3000, which it
/// says too.
fn databases(home: &Path) -> String {
    let said = command(home, &["--doctor"]).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(PASSWORD), "{said}");
    said.lines().filter(|line| line.contains(" databases ")).collect()
}

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
    let said = databases(&home);
    assert!(said.starts_with("ok       databases     the users are in postgres://postgres:***@"));
    assert!(said.ends_with("/postgres, which answers"), "{said}");
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
            let refused = run(&home, &as_bob("2"), 75);
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

/// Waits until a login succeeds, or is refused. Another server may have confirmed the user a moment
/// ago.
fn until_login(home: &Path, port: &str, user: &str, is_good: bool) {
    let login = ["--user", user, "--password", "one", "--timeout", "5"];
    let send = [&["--send", "--port", port][..], &login, &["{\"n\":1}"]].concat();
    let begun = std::time::Instant::now();
    while command(home, &send).output().unwrap().status.success() != is_good {
        assert!(begun.elapsed().as_secs() < 30, "{user} at {port}: not {is_good}");
    }
}

#[test]
fn a_further_server_shares_the_users_and_has_none_of_its_own() {
    let Some(mut cluster) = Cluster::start(None) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let url = format!("postgres://postgres:pass-x@{}/postgres", cluster.socket());
    let user = |action| ["--users", action, "--user", "bob", "--password", "one"];
    run(&first, &["--init", "--run", "--usersDb", &url], 0);
    let (serving, port) = serve(&first, &[]).unwrap();

    let bundle = folder.path().join("bundle");
    let at_first = format!("127.0.0.1:{}", port);
    let create = ["--enrol", "--create", "--kind", "server", "--name", "node2"];
    let place = ["--server", &at_first, "--out", bundle.to_str().unwrap()];
    let said = run(&first, &[&create[..], &place].concat(), 0);
    let shown = "the bundle has the address of the users' database, postgres://postgres:***@";
    assert!(said.contains(shown) && !said.contains("copy of the users"), "{said}");
    // It is a Unix socket.
    assert!(said.contains("is good on this host alone"), "{said}");
    assert!(!std::fs::read_to_string(&bundle).unwrap().contains("pass-x"));
    let code = said.lines().find_map(|line| line.strip_prefix("Code: ")).unwrap();
    let accept = ["--enrol", "--accept", bundle.to_str().unwrap()];
    let accepted = command(&second, &accept).env("WEB_IPC_CODE", code).output().unwrap();
    let said = String::from_utf8(accepted.stdout).unwrap();
    assert!(accepted.status.success(), "{said}");
    assert!(said.contains("Users:   in postgres://postgres:***@"), "{said}");
    let read = |home: &Path| std::fs::read_to_string(home.join("users.url")).unwrap();
    assert_eq!(read(&second), read(&first));
    let mode = std::fs::metadata(second.join("users.url")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!second.join("users.db").exists());

    // A user is one of both servers at once, whoever adds or deletes it, and nothing is warned of.
    let (other, other_port) = serve(&second, &[]).unwrap();
    let added = run(&second, &user("--add"), 0);
    assert!(!added.contains("alone"), "{added}");
    until_login(&first, &port, "bob", true);
    until_login(&first, &other_port, "bob", true);
    run(&first, &["--users", "--delete", "--user", "bob"], 0);
    until_login(&first, &other_port, "bob", false);
    // It follows the first one without users of its own; the database may be down meanwhile.
    let before = std::fs::metadata(second.join("users.url")).unwrap().modified().unwrap();
    run(&second, &["--certs", "--renew"], 0);
    run(&first, &["--keys", "--rotate"], 0);
    run(&second, &["--certs", "--renew"], 0);
    let keys = |home: &Path| {
        let text = std::fs::read_to_string(home.join("envelope.keys")).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((keys(&second).len(), keys(&second)), (2, keys(&first)));
    assert!(databases(&second).starts_with("ok "));
    // A login of its own at the database.
    let own = format!("{url}?application_name=node2");
    run(&second, &["--init", "--run", "--usersDb", &own], 0);
    assert_eq!(read(&second).trim(), own);
    run(&second, &["--certs", "--renew"], 0);
    assert_eq!(read(&second).trim(), own);
    assert!(std::fs::metadata(second.join("users.url")).unwrap().modified().unwrap() > before);
    assert!(!second.join("users.db").exists());
    drop((serving, other));
    assert!(cluster.does("stop"));
    let said = run(&second, &["--serve", "--port", "0"], 69);
    assert!(said.contains("cannot be reached"), "{said}");
    let said = databases(&second);
    assert!(said.starts_with("error ") && said.contains("cannot be reached"), "{said}");
}

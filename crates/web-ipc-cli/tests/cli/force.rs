//! `--init --force` on a home with a running server, or with messages that wait.

use std::io::BufRead as _;

use crate::run::World;
use crate::server::{Server, client, text};

#[test]
fn a_running_server_keeps_its_home_and_what_waits_in_it_is_counted() {
    let world = World::with_fresh_home();
    let force = || {
        let output = world.program_itself().args(["--init", "--run", "--force"]).output().unwrap();
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    for inbox in ["memory", "durable"] {
        let mut server = Server::start(&world, &["--inbox", inbox]);
        let (status, _, log) = force();
        let refused = format!("a server is running on {}; stop it first", world.home().display());
        assert!(status == Some(1) && log.contains(&refused), "{inbox}: {log}");
        assert!(world.home().join("admin.cred").exists());
        // The server still works, since its home was not moved.
        let sent = client(&world, &server, &["--send", "{}"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        // After this line the inbox is empty, as the next server must find it.
        let (mut line, mut lines) = (String::new(), server.lines());
        lines.read_line(&mut line).unwrap();
        assert!(line.contains(r#""body":{}"#), "{line}");
        server.stop();
    }

    // A server whose reader has gone away keeps the message.
    let mut server = Server::start(&world, &["--inbox", "durable"]);
    drop(server.lines());
    let sent = client(&world, &server, &["--send", r#"{"n":1}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    server.ended_with(1);
    let (status, out, log) = force();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains(" in the inbox of this home, and "), "{log}");
    assert!(out.starts_with("Kept the old home as "), "{out}");
    let (status, _, log) = force();
    assert!(
        status == Some(0) && !log.contains("in the inbox"),
        "nothing waits in the new one: {log}"
    );
}

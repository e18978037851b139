//! `--backup`, and what is in the files of a home that somebody copies by hand.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::run::World;
use crate::server::{Server, client, text};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server that keeps every message, since its command always fails.
fn keeper(world: &World, home: &Path) -> Server {
    let home = home.to_str().unwrap();
    let mut command = world.program_itself();
    command.args(["--home", home]);
    Server::start_as(command, &["--inbox", "durable", "--exec", "exit 3"])
}

/// The users in a home.
fn users(world: &World, home: &Path) -> String {
    let listed = world
        .program_itself()
        .arg("--home")
        .arg(home)
        .args(["--users", "--list"])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    text(&listed.stdout)
}

#[test]
fn a_copy_made_beside_a_running_server_is_a_home_with_everything() {
    let world = World::with_fresh_home();
    let added = world
        .program_itself()
        .args(["--users", "--add", "--user", "carol", "--password", "pass321"])
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", text(&added.stderr));
    let mut server = keeper(&world, &world.home());
    let sent = client(&world, &server, &["--send"], "{\"n\":1}\n{\"n\":2}\n");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    server.wait_for_log_times("ended with exit status: 3", 2);

    let copy = world.folder().join("a copy");
    let backup = |out: &Path| {
        let output =
            world.program_itself().args(["--backup", "--run", "--out"]).arg(out).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, told, error) = backup(&copy);
    assert_eq!(status, Some(0), "{error}");
    let (from, to) = (world.home(), copy.display());
    assert_eq!(told, format!("Copied {} to '{to}'\n  inbox.db  2 messages\n", from.display()));
    // Later messages of the server are not in the copy.
    let sent = client(&world, &server, &["--send", r#"{"n":3}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));

    let expected: Vec<String> = names(&world.home())
        .into_iter()
        .filter(|name| {
            !name.ends_with(".lock") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect();
    assert_eq!(names(&copy), expected);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&copy), 0o700);
    for name in &expected {
        assert_eq!(mode(&copy.join(name)), mode(&world.home().join(name)), "{name}");
    }
    server.stop();

    assert_eq!(users(&world, &copy), users(&world, &world.home()));
    let mut restored = keeper(&world, &copy);
    restored.wait_for_log_times("ended with exit status: 3", 2);
    let sent =
        client(&world, &restored, &["--home", copy.to_str().unwrap(), "--send", r#"{"n":4}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    restored.stop();

    // An existing file or directory is not overwritten, and no copy is made within the home.
    let before = names(&copy);
    for out in
        [&copy, &world.home(), &world.home().join("inside"), &world.folder().join("no/such/copy")]
    {
        let (status, _, error) = backup(out);
        assert_eq!(status, Some(1), "{}", out.display());
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
    }
    assert_eq!(names(&copy), before);
    assert!(
        names(world.folder()).iter().all(|name| !name.ends_with(".tmp")),
        "{:?}",
        names(world.folder())
    );
    assert!(!world.home().join("inside").exists());
}

#[test]
fn a_backup_that_fails_or_is_ended_leaves_nothing() {
    let world = World::with_fresh_home();
    let before = names(world.folder());
    // `ulimit` counts in units of 512 or 1024 bytes.
    let full = format!(
        "ulimit -f 8; exec {} --backup --run --out copy",
        world.program_itself().get_program().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &full]).current_dir(world.folder()).env("WEB_IPC_HOME", world.home());
    let output = shell.output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("there is no room left for the user database ") && told.lines().count() == 1,
        "{told}"
    );
    assert_eq!(names(world.folder()), before);

    // A backup waits for the lock of the home, and a signal ends the wait.
    let lock = fs::File::options().write(true).open(world.home().join(".lock")).unwrap();
    lock.lock().unwrap();
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = world
            .program_itself()
            .args(["--backup", "--run", "--out", "copy"])
            .current_dir(world.folder())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while names(world.folder()) == before {
            std::thread::yield_now();
        }
        let signalled =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(signalled.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(status));
        let mut told = String::new();
        child.stderr.unwrap().read_to_string(&mut told).unwrap();
        assert!(told.contains("nothing of the copy is left"), "{told}");
        assert_eq!(names(world.folder()), before);
    }
}

#[test]
fn after_a_stop_the_files_of_a_home_have_everything_themselves() {
    let world = World::with_fresh_home();
    let mut server = keeper(&world, &world.home());
    let sent = client(&world, &server, &["--send"], "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(names(&world.home()).contains(&"inbox.db-wal".to_owned()));

    // While a server runs, a copy of the file alone is incomplete, and is refused.
    let bare = World::new(Some(&world));
    fs::copy(world.home().join("inbox.db"), bare.home().join("inbox.db")).unwrap();
    for name in ["inbox.db-wal", "inbox.db-shm"] {
        // The copied home may have them.
        let _ = fs::remove_file(bare.home().join(name));
    }
    for command in [&["--serve", "--inbox", "durable", "--port", "0"][..], &["--dead", "--list"]] {
        let refused = bare.program_itself().args(command).output().unwrap();
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(
            told.contains("lacks its latest changes, which were in ")
                && told.contains("run touch "),
            "{told}"
        );
    }

    server.stop();
    let left = names(&world.home());
    assert!(left.iter().all(|name| !name.contains("db-")), "{left:?}");
    fs::copy(world.home().join("inbox.db"), bare.home().join("inbox.db")).unwrap();
    let mut copied = keeper(&bare, &bare.home());
    copied.wait_for_log_times("ended with exit status: 3", 3);
    copied.stop();
}

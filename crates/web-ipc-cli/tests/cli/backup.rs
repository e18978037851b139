//! `--backup`, and what is in the files of a home that somebody copies by hand.

use std::fs;
use std::io::{Read as _, Write as _};
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

/// Runs `web-ipc`, with this on its stdin.
fn run_with(world: &World, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = world
        .program_itself()
        .args(arguments)
        .current_dir(world.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_sealed_backup_made_beside_a_running_server_is_restored_with_its_messages_and_ids() {
    const ID: &str = "0191a2b3-c4d5-76e7-98f9-0a1b2c3d4e5f";
    let world = World::with_fresh_home();
    let mut server = keeper(&world, &world.home());
    let sent = client(&world, &server, &["--send", "--id", ID, r#"{"n":1}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let sent = client(&world, &server, &["--send", r#"{"n":2}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    server.wait_for_log_times("ended with exit status: 3", 2);
    let before = names(&world.home());
    let (status, told, error) = run_with(&world, &["--backup", "home.backup"], "");
    assert_eq!(status, Some(0), "{error}");
    assert!(told.ends_with("/home.backup\n  inbox.db  2 messages\n"), "{told}");
    let code = error.strip_prefix("Code: ").unwrap_or_else(|| panic!("{error}")).to_owned();
    assert_eq!(names(&world.home()), before);
    // What comes later is not in it.
    let sent = client(&world, &server, &["--send", r#"{"n":3}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));

    // While the server runs, its home is not moved aside.
    let restore = &["--restore", "home.backup", "--force"];
    let (status, _, error) = run_with(&world, restore, &code);
    assert_eq!(status, Some(75), "{error}");
    assert!(error.contains("a server is running on "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    server.stop();

    let (status, told, error) = run_with(&world, restore, &code);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("Kept the old home as ") && lines[0].ends_with('Z'), "{told}");
    assert!(lines[1].contains(" from home.backup, as it was at 20"), "{told}");
    assert_eq!(lines[2], "  inbox.db  2 messages", "{told}");
    let listed = run_with(&world, &["--inbox", "--list"], "").1;
    let bodies: Vec<bool> =
        (1..=3).map(|n| listed.contains(&format!(r#""body":{{"n":{n}}}"#))).collect();
    assert_eq!(bodies, [true, true, false], "{listed}");

    let mut restored = keeper(&world, &world.home());
    restored.wait_for_log_times("ended with exit status: 3", 2);
    // An id that the backup has is still known.
    let again = client(&world, &restored, &["--send", "--id", ID, r#"{"n":1}"#], "");
    assert!(text(&again.stdout).contains("1 duplicates"), "{}", text(&again.stdout));
    restored.stop();
    let hidden: Vec<_> =
        names(world.folder()).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, Vec::<String>::new());
}

#[test]
fn no_backup_is_left_whose_code_nobody_was_shown() {
    let world = World::with_fresh_home();
    let run = |file: &str, stdout: Stdio, stderr: Stdio| {
        let mut command = world.program_itself();
        command.args(["--backup", file]).current_dir(world.folder());
        command.stdout(stdout).stderr(stderr).output().unwrap()
    };
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = run("told", full(), Stdio::piped());
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("Code: ") && told.contains("error: cannot write to stdout"), "{told}");
    let code = told.lines().next().unwrap().strip_prefix("Code: ").unwrap().to_owned();

    let output = run("untold", Stdio::piped(), full());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(world.folder().join("told").exists() && !world.folder().join("untold").exists());

    let (status, _, error) = {
        let arguments = ["--home", "restored", "--restore", "told"];
        run_with(&world, &arguments, &code)
    };
    assert_eq!(status, Some(0), "{error}");
    // What is told about the home comes after the code.
    fs::write(world.home().join("node.json"), "{").unwrap();
    let (_, _, error) = run_with(&world, &["--backup", "broken"], "");
    assert_eq!(world.folder().join("broken").exists(), error.starts_with("Code: "), "{error}");
}

#[test]
fn a_sealed_backup_that_is_ended_leaves_nothing() {
    let world = World::with_fresh_home();
    // It waits for the lock of the home, and a signal ends the wait.
    let lock = fs::File::options().write(true).open(world.home().join(".lock")).unwrap();
    lock.lock().unwrap();
    let (before, before_home) = (names(world.folder()), names(&world.home()));
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = world
            .program_itself()
            .args(["--backup", "home.backup"])
            .current_dir(world.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while names(&world.home()) == before_home {
            std::thread::yield_now();
        }
        let signalled =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(signalled.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(status));
        let mut told = String::new();
        child.stderr.unwrap().read_to_string(&mut told).unwrap();
        assert!(told.contains("nothing of the backup is left"), "{told}");
        assert!(!told.contains("Code: "), "{told}");
        assert_eq!(
            (names(world.folder()), names(&world.home())),
            (before.clone(), before_home.clone())
        );
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

//! Scenarios of wrong usage and unusual machines. Each must end with a clear sentence.

use std::fs;

use super::Outcome;
use super::expect::{self, broken_pipe};
use crate::driver::{Built, Sandbox, chmod};

/// Commands that need a home, with all their other arguments.
const NEED_A_HOME: &[&[&str]] = &[
    &["--users", "--list"],
    &["--users", "--add", "--user", "test1", "--password", "pass321"],
    &["--users", "--testCredentials", "--user", "test1", "--password", "pass321"],
    &["--users", "--delete", "--user", "test1"],
    &["--certs", "--name", "testServer1"],
];

/// Without a home these commands fail, and leave no files that would hinder a later init.
pub(super) fn before_init(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    for arguments in NEED_A_HOME {
        sandbox.run(arguments).failed_in_one_sentence().says("run web-ipc --init --run");
        assert!(!sandbox.home().exists(), "{arguments:?} created something at the home's path");
    }
    sandbox.run(&["--init", "--run"]).succeeded();
    sandbox.run(&["--users", "--list"]).succeeded().says("Username: ipc-admin");
    Outcome::Passed
}

/// The first command of a new user makes a home.
pub(super) fn test_makes_a_home(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    sandbox
        .run(&["--test", "--run", "--qty", "3"])
        .succeeded()
        .says("Received message: {\"test\":3}");
    sandbox.run(&["--users", "--list"]).succeeded().says("Username: ipc-admin");
    Outcome::Passed
}

/// Both cases get the same answer, so that nobody learns which names exist.
pub(super) fn wrong_password(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    sandbox.run(&["-u", "-a", "-u", "test1", "-p", "pass321"]).succeeded();
    let refused = |user, password| {
        let finished = sandbox.run(&["-u", "-t", "-u", user, "-p", password]);
        finished.failed_in_one_sentence().says("Invalid credentials")
    };
    let wrong = refused("test1", "pass322");
    let unknown = refused("nobody", "pass321");
    assert_eq!(wrong.stderr, unknown.stderr, "the two answers differ");
    Outcome::Passed
}

/// A home that others can read is refused by every command, until the user runs the command in the
/// message.
pub(super) fn home_too_open(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let home = sandbox.home();
    let mend = format!("chmod 700 {}", home.display());
    for mode in [0o755, 0o750, 0o701, 0o770] {
        chmod(&home, mode);
        for arguments in
            NEED_A_HOME.iter().chain([["--init", "--run"].as_slice(), &["--test", "--run"]].iter())
        {
            sandbox.run(arguments).failed_in_one_sentence().says(&mend);
        }
    }
    chmod(&home, 0o700);
    sandbox.run(&["--users", "--list"]).succeeded();
    let keys = home.join("envelope.keys");
    chmod(&keys, 0o644);
    sandbox
        .run(&["--test", "--run", "--qty", "1"])
        .ended_with(1)
        .says(&format!("chmod 600 {}", keys.display()));
    Outcome::Passed
}

/// The home's parent directory cannot be written.
pub(super) fn unwritable_parent(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    let parent = sandbox.folder().join("locked");
    fs::create_dir(&parent).expect("a directory");
    chmod(&parent, 0o500);
    if fs::write(parent.join("probe"), "").is_ok() {
        return Outcome::Skipped("this user, like root, may write everywhere".to_owned());
    }
    let home = parent.join("home");
    let home = home.to_str().expect("a temporary path is text");
    for arguments in [["--home", home, "--init", "--run"], ["--home", home, "--test", "--run"]] {
        sandbox.run(&arguments).failed_in_one_sentence().says(home);
    }
    chmod(&parent, 0o700);
    assert_eq!(fs::read_dir(&parent).expect("a directory").count(), 0, "something was left behind");
    Outcome::Passed
}

/// The home's path, or a parent of it, is a file, or a directory with other files.
pub(super) fn impossible_home(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    let file = sandbox.folder().join("file");
    fs::write(&file, "mine\n").expect("a file");
    let below = file.join("home");
    let full = sandbox.folder().join("full");
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("letter.txt"), "mine\n").expect("a file");
    chmod(&full, 0o700);
    for place in [&file, &below, &full] {
        let home = place.to_str().expect("a temporary path is text");
        for arguments in [
            ["--home", home, "--init", "--run"].as_slice(),
            &["--home", home, "--init", "--run", "--force"],
            &["--home", home, "--test", "--run"],
            &["--home", home, "--users", "--list"],
        ] {
            sandbox.run(arguments).failed_in_one_sentence().says(home);
        }
    }
    assert_eq!(fs::read_to_string(&file).expect("the file is still there"), "mine\n");
    let names: Vec<_> = fs::read_dir(&full)
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["letter.txt"], "a command wrote into a directory with other files");
    Outcome::Passed
}

/// The permissions must not depend on the umask.
pub(super) fn umask(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    for arguments in [
        ["--init", "--run"].as_slice(),
        &["--users", "--add", "--user", "test1", "--password", "pass321"],
        &["--certs", "--name", "testServer1", "--altNames", "127.0.0.1"],
        &["--test", "--run", "--qty", "3"],
    ] {
        expect::finish(sandbox.shell("umask 000; exec \"$@\"", arguments)).succeeded();
    }
    let modes = sandbox.home_modes();
    assert!(modes.len() > 8, "the home has too few files for this test: {modes:?}");
    for (path, mode) in modes {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert!(mode == expected, "{} has mode {mode:o}, not {expected:o}", path.display());
    }
    Outcome::Passed
}

/// `web-ipc … | head -0`, and shells that close a stream: the command reports that it cannot write,
/// and exits with 1.
pub(super) fn closed_pipes(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let commands = [
        ["--help"].as_slice(),
        &["--version"],
        &["--nonsense"],
        &["--users", "--list"],
        &["--certs", "--name", "other", "--force"],
        &["--init", "--run"],
        &["--test", "--run", "--qty", "2"],
    ];
    for arguments in commands {
        let usual = sandbox.run(arguments).status.code();
        // Wrong usage is detected before anything is written.
        let failed = if usual == Some(2) { usual } else { Some(1) };
        let mut without_stdout = sandbox.command(arguments);
        without_stdout.stdout(broken_pipe());
        let mut without_stderr = sandbox.command(arguments);
        without_stderr.stderr(broken_pipe());
        for (command, status, told) in [
            (without_stdout, failed, "cannot write to stdout: its reader has gone away"),
            // The log is not a result, so a lost log is no failure.
            (without_stderr, usual, ""),
            (sandbox.shell("exec \"$@\" >&-", arguments), failed, "stdout is closed"),
            (sandbox.shell("exec \"$@\" 2>&-", arguments), failed, ""),
        ] {
            let finished = expect::finish(command);
            let is_told = status == Some(2) || finished.stderr.contains(told);
            assert!(
                finished.status.code() == status && is_told,
                "expected exit status {status:?} and the text `{told}`:\n{}",
                finished.report()
            );
        }
    }
    Outcome::Passed
}

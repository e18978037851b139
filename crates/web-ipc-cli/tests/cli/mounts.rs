//! A home on a file system that is read-only or full: commands that only read still work. Only root
//! may mount one, and not in every sandbox. Otherwise the tests say that they were skipped.
#![allow(clippy::print_stdout)]

use std::fs;
use std::process::{Command, Output};

use crate::run::World;

/// Runs a script in which `mount` changes nothing outside of it, with the binary as `$B` and a new
/// home on a file system of 2 MiB as `$WEB_IPC_HOME`; `None` if that is not possible here.
fn run_with_mounted_home(script: &str) -> Option<Output> {
    let world = World::new(None);
    fs::create_dir(world.home()).unwrap();
    let prepare = r#"mount -t tmpfs -o size=2m,mode=700 tmpfs "$WEB_IPC_HOME" 2>/dev/null || exit 99
        set -e
        "$B" --init --run >/dev/null
        "$B" --users --add --user bob --password first 2>/dev/null
        "#;
    let program = world.program_itself();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{prepare}\n{script}")]);
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command
        .env("B", program.get_program())
        .current_dir(world.home().parent().unwrap())
        .output();
    match output {
        Ok(output) if output.status.code() != Some(99) && !is_refused(&output) => Some(output),
        _ => {
            println!("skipped: nothing can be mounted here");
            None
        }
    }
}

fn is_refused(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("unshare: unshare failed")
}

/// The commands that only read, then those that write.
const USES: &str = r#"
    "$B" --users --list
    "$B" --users --testCredentials --user bob --password first
    ! "$B" --users --testCredentials --user bob --password other
    ! "$B" --users --add --user carol --password second
    ! "$B" --users --change --user bob --password second
    ! "$B" --users --delete --user bob
    mkfifo log
    "$B" --serve --port 0 2>log >messages &
    server=$!
    # Whoever waits for the end of the output waits for the server's too.
    trap 'kill "$server" 2>/dev/null || true' EXIT
    while read -r line; do
        case "$line" in *"https://127.0.0.1:"*) port="${line##*127.0.0.1:}" port="${port%% *}"; break;; esac
    done <log
    cat log >rest &
    "$B" --send --port "$port" --user bob --password first '{"n":1}' >sent
    kill "$server"; wait "$server" || true
    cat messages
    ! "$B" --serve --port 0 --inbox durable
"#;

fn assert_reads_go_on(output: &Output, reason: &str) {
    let (out, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{log}");
    assert!(
        out.starts_with("Username: ipc-admin\nUsername: bob\nCredentials verified\n"),
        "{out}\n{log}"
    );
    assert!(out.contains(r#""user":"bob""#) && out.contains(r#""body":{"n":1}"#), "{out}\n{log}");
    for failed in [
        "Failed to create user carol",
        "Failed to change the password of user bob",
        "Failed to delete user bob",
    ] {
        let line = log
            .lines()
            .find(|line| line.contains(failed))
            .unwrap_or_else(|| panic!("{failed}: {log}"));
        assert!(line.contains(reason), "{line}");
    }
    assert!(!log.contains("chmod"), "{log}");
}

#[test]
fn a_home_on_a_read_only_file_system_is_read_and_served_from_memory() {
    let script = format!(r#"mount -o remount,ro "$WEB_IPC_HOME"{USES}"#);
    if let Some(output) = run_with_mounted_home(&script) {
        assert_reads_go_on(&output, "is read-only; give a home on a disk that can be written");
    }
}

#[test]
fn a_backup_onto_a_read_only_file_system_is_told_to_go_elsewhere() {
    let script = r#"mkdir other; mount -t tmpfs -o ro,mode=700 tmpfs other
        "$B" --backup --run --out other/copy"#;
    if let Some(output) = run_with_mounted_home(script) {
        let log = String::from_utf8_lossy(&output.stderr);
        let line = log.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(line.contains("cannot write ") && line.contains("/other/copy: "), "{line}");
        assert!(line.ends_with("with --out DIR") && !line.contains("--home"), "{line}");
    }
}

#[test]
fn a_home_that_is_a_mount_point_is_not_restored_in_its_place() {
    let script = r#""$B" --backup sealed 2>code
        code=$(sed -n 's/^Code: //p' code)
        ! echo "$code" | "$B" --restore sealed --force
        echo "$code" | "$B" --home "$WEB_IPC_HOME/within" --restore sealed
        ls -A"#;
    if let Some(output) = run_with_mounted_home(script) {
        let (out, log) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{log}");
        assert!(log.contains(" is a mount point, ") && log.lines().count() == 1, "{log}");
        assert!(log.contains("; restore to a directory within the volume"), "{log}");
    }
}

#[test]
fn a_home_on_a_read_only_file_system_is_sealed_and_a_backup_finds_a_disk_full() {
    let script = r#"mount -o remount,ro "$WEB_IPC_HOME"
        "$B" --backup sealed 2>code
        sed -n 's/^Code: //p' code | "$B" --home restored --restore sealed
        mkdir other; mount -t tmpfs -o size=12k,mode=700 tmpfs other
        ! "$B" --backup other/sealed
        ! sed -n 's/^Code: //p' code | "$B" --home other/home --restore sealed
        ls -A other"#;
    if let Some(output) = run_with_mounted_home(script) {
        let (out, log) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{log}");
        assert!(out.starts_with("Backed up ") && out.contains("\nRestored "), "{out}\n{log}");
        // Nothing is left on the disk that was full.
        assert!(out.ends_with(" and revoked certificates\n"), "{out}\n{log}");
        let errors: Vec<&str> = log.lines().collect();
        assert_eq!(errors.len(), 2, "{log}");
        for error in errors {
            assert!(error.starts_with("error: cannot write "), "{error}");
            assert!(
                error.contains("No space left on device") && error.contains("; make room"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_home_on_a_full_file_system_is_read_and_served_from_memory() {
    let script = format!(
        r#"dd if=/dev/zero of="$WEB_IPC_HOME/.fill.0123456789abcdef.tmp" bs=1k 2>/dev/null || true{USES}"#
    );
    if let Some(output) = run_with_mounted_home(&script) {
        assert_reads_go_on(&output, "no room left");
    }
}

#[test]
fn a_mounted_secret_is_used_where_the_danger_is_named_and_nowhere_else() {
    let world = World::with_fresh_home();
    // As Kubernetes mounts one: the files in a directory of a date, a link to that, links through
    // it.
    let layout = r#"cd "$WEB_IPC_HOME" && rm -rf .lock sessions users.db-* && mkdir ..2026 && mv [a-z]* ..2026 &&
        chmod 440 ..2026/* && ln -s ..2026 ..data && for file in ..2026/*; do ln -s "..data/${file#..2026/}" .; done &&
        chmod 755 . ..2026"#;
    let program = world.program_itself();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", layout])
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(shell.status().unwrap().success());

    let list = |value: Option<&str>| {
        let mut command = world.program_itself();
        command.args(["--users", "--list"]);
        command.envs(value.map(|value| ("WEB_IPC_DANGEROUSLY_READABLE_HOME", value)));
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), log)
    };
    for value in [None, Some("")] {
        let (is_done, _, log) = list(value);
        assert!(!is_done && log.contains("chmod 700"), "{log}");
    }
    let (is_done, _, log) = list(Some("yes"));
    assert!(!is_done && log.contains("set WEB_IPC_DANGEROUSLY_READABLE_HOME to 1"), "{log}");
    let (is_done, out, log) = list(Some("1"));
    assert!(is_done && out == "Username: ipc-admin\n", "{log}");
}

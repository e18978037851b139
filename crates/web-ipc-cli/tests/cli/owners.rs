//! Root in the home of another user. Only root can run these tests. Otherwise they say that they
//! were skipped.
#![allow(clippy::print_stdout)]

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::{fs, io};

use crate::run::World;

/// The id of a user and of a group. Neither exists.
const OTHER: u32 = 54_321;

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root {
        println!("skipped: only root can give files away");
    }
    is_root
}

fn give_away(path: &Path) -> io::Result<()> {
    chown(path, Some(OTHER), Some(OTHER))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every name below a directory with its owner and mode.
fn listing(directory: &Path) -> Vec<String> {
    let mut lines: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let (path, metadata) =
                (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            format!("{} {} {:o}", path.display(), metadata.uid(), metadata.mode())
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn root_neither_reads_nor_writes_in_the_home_of_a_service_and_is_told_how_to() {
    if !is_root() {
        return;
    }
    let world = World::with_fresh_home();
    let home = world.home();
    give_away(&home).unwrap();
    let before = listing(&home);
    let remedy = format!("sudo -u '#{OTHER}' web-ipc --home {} ...", home.display());
    for arguments in [
        &["--serve", "--inbox", "durable"][..],
        &["--serve"],
        &["--users", "--list"],
        &["--users", "--add", "--user", "a", "--password", "b"],
        &["--certs", "--name", "peer1"],
        &["--dead", "--list"],
        &["--send", "{}"],
        &["--send", "--user", "a", "--password", "b", "{}"],
        &["--init", "--run"],
        &["--init", "--run", "--force"],
        &["--test", "--run"],
    ] {
        let output = world.program_itself().args(arguments).output().unwrap();
        let log = log(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
        assert!(
            log.contains(&format!("{} belongs to user {OTHER}", home.display())),
            "{arguments:?}: {log}"
        );
        assert!(log.contains(&remedy), "{arguments:?}: {log}");
        assert_eq!(listing(&home), before, "{arguments:?}");
    }
}

#[test]
fn a_home_of_root_below_what_another_user_owns_is_refused() {
    if !is_root() {
        return;
    }
    let world = World::with_fresh_home();
    let parent = world.home().parent().unwrap().to_owned();
    chown(&parent, Some(OTHER), None).unwrap();
    let output = world.program_itself().args(["--users", "--list"]).output().unwrap();
    let log = log(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("who could put another directory in the place of"), "{log}");
    chown(&parent, Some(0), None).unwrap();
    assert!(world.program_itself().args(["--users", "--list"]).output().unwrap().status.success());
}

#[test]
fn the_owner_uses_a_home_that_root_may_not() {
    if !is_root() {
        return;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: there is no setpriv to run as another user with");
        return;
    }
    let world = World::with_fresh_home();
    give_away(&world.home()).unwrap();
    let folder = world.home().parent().unwrap().to_owned();
    // The directory above is root's; others may pass through it.
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    // The binary itself may be in a directory that only root can enter.
    let binary = folder.join("web-ipc");
    fs::copy(world.program_itself().get_program(), &binary).unwrap();
    let other = OTHER.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &other, "--regid", &other, "--clear-groups"])
        .arg(&binary)
        .arg("--home")
        .arg(world.home())
        .args(["--users", "--list"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", log(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Username: ipc-admin\n");
}

//! Scenarios that install what `cargo xtask dist` packs, in a bare Debian without Rust.
//!
//! The binary is a debug build, which is there anyway. Debian's package is installed where systemd
//! runs: the service is started, upgraded and removed by its own tools. Without root or debootstrap
//! they are skipped.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;
use super::expect;
use crate::cargo;
use crate::dist::{self, Packing, Release};
use crate::driver::{Built, Container, Debian, Finished};

/// A version that is later than any of the workspace.
const LATER: &str = "99.0.0";

/// The archive, by its script: installed, run, completed in bash, installed again, removed.
pub(super) fn archive(built: &Built) -> Outcome {
    let debian = match Debian::new(built) {
        Ok(debian) => debian,
        Err(why) => return Outcome::Skipped(why),
    };
    let run = |words: &[&str]| expect::finish(debian.command(words));
    let shell = |script: &str| run(&["bash", "-c", script]);
    shell("type cargo rustc").ended_with(1);
    let before = files(debian.path());

    let folder = debian.path().join("root");
    let packing = pack(built, &folder);
    let archive = packing.archive().unwrap_or_else(|error| panic!("{error}"));
    dist::write_sums(&folder, std::slice::from_ref(&archive))
        .unwrap_or_else(|error| panic!("{error}"));
    fs::copy(built.workspace.join("scripts/install.sh"), folder.join("install.sh"))
        .expect("the script can be copied");
    let archive = format!("/root/{}", name_of(&archive));
    let install = ["sh", "/root/install.sh", archive.as_str()];

    // Of an archive that was changed on the way nothing is installed.
    shell(&format!("cp {archive} /root/good && echo >>{archive}")).succeeded();
    run(&install).ended_with(1).says("is damaged or not the one");
    assert_eq!(below_prefixes(&debian, &before), BTreeSet::new(), "nothing was installed");
    shell(&format!("mv /root/good {archive}")).succeeded();

    run(&install).succeeded().says("Installed web-ipc ").says("in /usr/local");
    run(&["web-ipc", "--test", "--run", "--qty", "3"])
        .succeeded()
        .says("3 messages sent, received and checked");
    run(&["web-ipc-users", "--list"]).succeeded().says("Username: ipc-admin");
    shell("grep -x 'ExecStart=/usr/local/bin/web-ipc .*' /usr/local/lib/systemd/system/web-ipc.service")
        .succeeded();
    for unit in ["web-ipc.socket", "web-ipc-renew.timer", "web-ipc-backup.timer"] {
        shell(&format!("test -s /usr/local/lib/systemd/system/{unit}")).succeeded();
    }
    shell("test -s /usr/local/share/man/man1/web-ipc-serve.1").succeeded();
    for (line, expected) in [
        ("web-ipc --serve --po", "--port"),
        ("web-ipc serve --po", "--port"),
        ("web-ipc -s --po", "--port"),
        ("web-ipc-serve --po", "--port"),
        ("web-ipc --home /x --users --te", "--testCredentials"),
        ("web-ipc --se", "--serve --send"),
        ("web-ipc serve --inbox d", "durable"),
        ("web-ipc send /etc/hostn", "/etc/hostname"),
        ("web-ipc unknown --po", ""),
    ] {
        let complete = format!(
            ". /usr/local/share/bash-completion/completions/web-ipc\n\
             COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _web_ipc\necho \"${{COMPREPLY[*]}}\""
        );
        let finished = shell(&complete).succeeded();
        assert_eq!(finished.stdout.trim_end(), expected, "{line}");
    }

    run(&install).succeeded();
    run(&["sh", "/root/install.sh", "--uninstall"]).succeeded();
    run(&["sh", "/root/install.sh", "--uninstall"]).ended_with(1).says("nothing is installed");
    let left = below_prefixes(&debian, &before);
    assert!(left.is_empty(), "left behind: {left:?}");
    shell("test -f /root/.local/share/web-ipc/users.db").succeeded();
    Outcome::Passed
}

/// Files that are new since `before`, where packages install.
fn below_prefixes(debian: &Debian, before: &BTreeSet<String>) -> BTreeSet<String> {
    let now = files(debian.path());
    let is_installed = |path: &&String| path.starts_with("usr/") || path.starts_with("etc/");
    now.difference(before).filter(is_installed).cloned().collect()
}

/// Debian's package under systemd: the service starts as its own user, an upgrade loses no message,
/// and a purge leaves the home alone.
pub(super) fn service(built: &Built) -> Outcome {
    if let Some(why) = Container::lacks() {
        return Outcome::Skipped(why);
    }
    let debian = match Debian::new(built) {
        Ok(debian) => debian,
        Err(why) => return Outcome::Skipped(why),
    };
    let folder = debian.path().join("root");
    let mut packing = pack(built, &folder);
    let Some(first) = packing_deb(&packing) else {
        return Outcome::Skipped("dpkg-deb is not installed".into());
    };
    packing.of_version(LATER);
    let later = packing_deb(&packing).expect("dpkg-deb was there");

    let container = Container::start(debian).unwrap_or_else(|error| panic!("{error}"));
    let run = |words: &[&str]| expect::finish(container.command(words));
    let shell = |script: &str| run(&["sh", "-c", script]);
    let before = files(container.path());

    run(&["dpkg", "--install", &first]).succeeded();
    run(&["systemctl", "is-enabled", "web-ipc"]).ended_with(1).says("disabled");
    run(&["systemctl", "is-active", "web-ipc"]).ended_with(3);
    shell("stat -c '%a %U:%G' /var/lib/web-ipc").succeeded().says("700 web-ipc:web-ipc");
    run(&["web-ipc", "--test", "--run", "--qty", "3"])
        .succeeded()
        .says("3 messages sent, received and checked");

    // A command that takes no message until it is told to.
    let worker =
        "#!/bin/sh\ncd /var/lib/web-ipc && test -e go || exit 75\ncat >>done && echo >>done\n";
    fs::write(container.path().join("usr/local/bin/work"), worker).expect("a file can be written");
    run(&["chmod", "755", "/usr/local/bin/work"]).succeeded();
    let options = "SERVE_OPTIONS=--exec /usr/local/bin/work --stopWithin 5\n";
    fs::write(container.path().join("etc/default/web-ipc"), options).expect("it can be written");
    let started = run(&["systemctl", "enable", "--now", "web-ipc"]);
    if !started.status.success() {
        panic!("{}", run(&["journalctl", "--no-pager", "--lines", "30"]).report());
    }
    let pid = show(&run, "MainPID");
    shell(&format!("stat -c %U /proc/{pid}")).succeeded().says("web-ipc");
    assert!(show(&run, "StatusText").starts_with("Listening on https://127.0.0.1:3000"));
    run(&["systemctl", "start", "web-ipc-renew.service"]).succeeded();

    for number in 1..=3 {
        let message = format!("{{\"n\":{number}}}");
        let command =
            ["runuser", "-u", "web-ipc", "--", "web-ipc", "--home", "/var/lib/web-ipc/home"];
        run(&[&command[..], &["--send", &message]].concat()).succeeded();
    }
    run(&["dpkg", "--install", &later]).succeeded();
    shell("dpkg-query --show web-ipc").succeeded().says(LATER);
    run(&["systemctl", "is-active", "web-ipc"]).succeeded();
    assert_ne!(show(&run, "MainPID"), pid, "the service was started again");
    shell("grep -x 'SERVE_OPTIONS=.*' /etc/default/web-ipc")
        .succeeded()
        .says("/usr/local/bin/work");
    shell("runuser -u web-ipc -- touch /var/lib/web-ipc/go").succeeded();
    shell("until [ \"$(grep -c . /var/lib/web-ipc/done 2>/dev/null)\" = 3 ]; do sleep 0.1; done")
        .succeeded();
    let done = shell("sort /var/lib/web-ipc/done | grep .").succeeded().stdout;
    assert_eq!(done, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n", "what came before the upgrade");

    run(&["apt-get", "remove", "--yes", "web-ipc"]).succeeded();
    assert!(!run(&["systemctl", "is-active", "web-ipc"]).status.success(), "it was stopped");
    shell("test -e /etc/default/web-ipc && ! test -e /usr/bin/web-ipc").succeeded();
    // What was enabled before is so again.
    run(&["dpkg", "--install", &later]).succeeded();
    run(&["systemctl", "is-enabled", "web-ipc"]).succeeded();
    run(&["apt-get", "purge", "--yes", "web-ipc"])
        .succeeded()
        .says("/var/lib/web-ipc and the user");
    run(&["rm", "/usr/local/bin/work"]).succeeded();
    let now = files(container.path());
    let left: Vec<&String> =
        now.difference(&before).filter(|path| !is_of_the_system(path)).collect();
    let home = |path: &&&String| path.starts_with("var/lib/web-ipc");
    assert!(left.iter().any(|path| *path == "var/lib/web-ipc/home/users.db"), "{left:?}");
    assert!(left.iter().all(|path| home(&path)), "left behind: {left:?}");

    // With no home left, nothing of it is.
    run(&["rm", "-r", "/var/lib/web-ipc"]).succeeded();
    run(&["dpkg", "--install", &first]).succeeded();
    run(&["dpkg", "--purge", "web-ipc"]).succeeded();
    shell("test -e /var/lib/web-ipc || getent passwd web-ipc").ended_with(2);
    Outcome::Passed
}

/// A property of the service.
#[track_caller]
fn show(run: &impl Fn(&[&str]) -> Finished, property: &str) -> String {
    let words = ["systemctl", "show", "--value", "--property", property, "web-ipc"];
    run(&words).succeeded().stdout.trim().to_owned()
}

/// What systemd, dpkg and root's own session write beside any package.
fn is_of_the_system(path: &str) -> bool {
    let folders = [
        "var/log/",
        "var/cache/",
        "var/lib/dpkg/",
        "var/lib/systemd/",
        "var/lib/apt/",
        "root",
        "tmp",
        "var/tmp",
    ];
    folders.iter().any(|folder| path.starts_with(folder)) ||
        // The files of users, as they were before the last change.
        ["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"].contains(&path)
}

/// Packs the built command, for `folder`.
#[track_caller]
fn pack(built: &Built, folder: &Path) -> Packing {
    let metadata = cargo::metadata().unwrap_or_else(|error| panic!("{error}"));
    let version = dist::member_version(&metadata, "web-ipc-cli");
    let release = Release {
        version: version.unwrap_or_else(|error| panic!("{error}")),
        target: cargo::host().unwrap_or_else(|error| panic!("{error}")),
        binary: built.folder.join("web-ipc"),
        features: "",
    };
    Packing::of(release, folder.to_owned()).unwrap_or_else(|error| panic!("{error}"))
}

/// Debian's package, by its path in the container. `None` without `dpkg-deb`.
#[track_caller]
fn packing_deb(packing: &Packing) -> Option<String> {
    let path: Option<PathBuf> = packing.deb().unwrap_or_else(|error| panic!("{error}"));
    path.map(|path| format!("/root/{}", name_of(&path)))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All files of a Debian, but for what the kernel shows.
#[track_caller]
fn files(root: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(root).args(["-xdev", "-not", "-type", "d", "-printf", "%P\\n"]);
    find.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let listed = expect::finish(find).succeeded().stdout;
    let kept = listed.lines().filter(|path| !path.starts_with("dev/"));
    kept.map(str::to_owned).collect()
}

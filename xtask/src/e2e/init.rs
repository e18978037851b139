//! Scenarios that make a home under difficulties: several at once, killed, on a full disk, over an
//! old one.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::Duration;

use super::Outcome;
use super::expect;
use crate::driver::{Built, Sandbox};

/// Four processes make one home. All succeed, and the home has the usual files.
pub(super) fn at_once(built: &Built) -> Outcome {
    let usual = Sandbox::with_home(built).home_listing();
    let sandbox = Sandbox::new(built);
    let started: Vec<_> = (0..4).map(|_| sandbox.start(&["--init", "--run"])).collect();
    for running in started {
        running.finish().succeeded();
    }
    assert_eq!(
        sandbox.home_listing(),
        usual,
        "the home has other files than one made by a single process"
    );
    works(&sandbox);
    Outcome::Passed
}

/// Kills inits with SIGKILL at random moments. After each round another init must complete the
/// home.
pub(super) fn killed(built: &Built) -> Outcome {
    let usual = Sandbox::with_home(built).home_listing();
    for round in 0..8 {
        let sandbox = Sandbox::new(built);
        let mut delays = Vec::new();
        for _ in 0..=round % 3 {
            let delay = random_below(300);
            delays.push(delay);
            let running = sandbox.start(&["--init", "--run"]);
            // The only sleep in these scenarios: the moment of the kill is under test.
            thread::sleep(Duration::from_millis(delay));
            running.kill();
        }
        let completed = sandbox.run(&["--init", "--run"]);
        assert!(
            completed.status.success(),
            "after kills at {delays:?} ms:\n{}",
            completed.report()
        );
        let listing: Vec<String> = sandbox.home_listing();
        let leftover: Vec<&String> = listing.iter().filter(|name| !usual.contains(name)).collect();
        assert!(leftover.is_empty(), "after kills at {delays:?} ms these are left: {leftover:?}");
        works(&sandbox);
    }
    Outcome::Passed
}

/// A second init changes nothing. A forced one keeps the old home and says where.
pub(super) fn force(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    sandbox.run(&["-u", "-a", "-u", "test1", "-p", "pass321"]).succeeded();
    sandbox.run(&["-u", "-d", "-u", "ipc-admin"]).succeeded();
    let key = sandbox.home().join("localhost.key");
    let before = fs::read(&key).expect("the key is there");
    sandbox.run(&["--init", "--run"]).succeeded().says("Nothing to do");
    assert!(fs::read(&key).expect("the key is there") == before, "a second init made the key anew");
    let listed = sandbox.run(&["-u", "-l"]).succeeded();
    assert_eq!(listed.stdout, "Username: test1\n", "a second init brought back a deleted admin");

    let forced = sandbox.run(&["--init", "--run", "--force"]).succeeded();
    let kept: Vec<_> = fs::read_dir(sandbox.folder())
        .expect("the folder can be listed")
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("home."))
        })
        .collect();
    assert!(kept.len() == 1, "expected one old home, found {kept:?}\n{}", forced.report());
    let forced = forced.says(&kept[0].display().to_string());
    assert!(
        fs::read(kept[0].join("localhost.key")).expect("the old key") == before,
        "{}",
        forced.report()
    );
    assert!(fs::read(&key).expect("the new key") != before, "the new home has the old key");
    let old = kept[0].to_str().expect("a temporary path is text");
    let listed = sandbox.run(&["--home", old, "-u", "-l"]).succeeded();
    assert_eq!(listed.stdout, "Username: test1\n", "{}", listed.report());
    works(&sandbox);
    Outcome::Passed
}

/// Limits on the size of files, which make writes fail as on a full disk.
pub(super) fn full_disk(built: &Built) -> Outcome {
    // The limits, in blocks of 512 bytes, allow nothing at all, part of a key, keys and no
    // database, and part of a database.
    for blocks in [0, 1, 4, 16, 40] {
        let sandbox = Sandbox::new(built);
        // Without the trap the first write beyond the limit would kill the process with a signal.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let finished = expect::finish(sandbox.shell(&script, &["--init", "--run"]));
        if !finished.status.success() {
            let home = sandbox.home();
            finished.failed_in_one_sentence();
            sandbox
                .run(&["--users", "--list"])
                .failed_in_one_sentence()
                .says("run web-ipc --init --run");
            let leftover: Vec<String> =
                if home.exists() { sandbox.home_listing() } else { Vec::new() };
            let temporary: Vec<&String> =
                leftover.iter().filter(|name| name.contains("tmp")).collect();
            assert!(temporary.is_empty(), "with {blocks} blocks these are left: {temporary:?}");
        } else {
            assert!(
                blocks > 16,
                "a database does not fit into {blocks} blocks:\n{}",
                finished.report()
            );
        }
        sandbox.run(&["--init", "--run"]).succeeded();
        works(&sandbox);
    }
    Outcome::Passed
}

/// Checks that the home has its admin and that messages arrive.
#[track_caller]
fn works(sandbox: &Sandbox) {
    let listed = sandbox.run(&["--users", "--list"]).succeeded();
    assert_eq!(listed.stdout, "Username: ipc-admin\n", "{}", listed.report());
    sandbox
        .run(&["--test", "--run", "--qty", "3"])
        .succeeded()
        .says("Received message: {\"test\":3}");
}

/// A random number below `limit`. The standard library seeds its hashers from the system.
fn random_below(limit: u64) -> u64 {
    RandomState::new().hash_one(()) % limit
}

//! Scenarios of an environment of the Python tool that is taken over into a home.
//!
//! `python_environment.py DIR [NAME ALT_NAME,...]...` makes one as that tool does: a certificate
//! authority without key usages and identifiers, addresses as DNS names, bcrypt hashes of which 72
//! bytes count, a wrapped message key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::python_client::{python, python_lacks};
use super::{Outcome, expect};
use crate::driver::{Built, Sandbox};

/// What the script imports. One that hashes passwords is needed besides.
const MODULES: [&str; 1] = ["cryptography"];

/// Everything goes on as it was in the home, and what the command advises can be done.
pub(super) fn taken_over(built: &Built) -> Outcome {
    if let Some(why) = lacks_python() {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::new(built);
    let environment = make(built, &sandbox);
    let before = snapshot(&environment);
    let from = environment.to_str().expect("the path is text");
    let taken = sandbox.run(&["--init", "--run", "--importFrom", from]).succeeded();
    for part in [
        "envelope.keys         the message key, as the only key\n",
        "with a certificate that says what it is for\n",
        "2 users; ipc-admin's password is in admin.cred as before\n",
        "localhost.crt, .key   as it was, for localhost, 127.0.0.1\n",
        "ca-serial             serial numbers are random here\n",
        "localhost lasts 100 years, has 127.0.0.1 as a name, not as an address, has a key of \
         rsa2048, which is slow:\n    web-ipc --certs --name localhost --altNames localhost \
         127.0.0.1 --force\n",
        "--certs --rotateCa",
        "--keys --rotate\n",
        "chmod -R go= ",
    ] {
        assert!(taken.stdout.contains(part), "{part:?} is not in {}", taken.report());
    }
    assert_eq!(snapshot(&environment), before, "the environment was changed");
    assert!(sandbox.home_modes().iter().all(|(_, mode)| mode & 0o077 == 0));

    let verified = sandbox.run(&["-u", "-t", "-u", "test1", "-p", "pass321"]).succeeded();
    assert_eq!(verified.stdout, "Credentials verified\n", "{}", verified.report());
    let doctor = sandbox.run(&["--doctor"]).succeeded();
    assert!(doctor.stdout.ends_with("nothing is wrong, 2 warnings\n"), "{}", doctor.report());
    doctor.says("the certificate of localhost has 127.0.0.1 as a name and not as an address");
    let test = |name: &str| {
        sandbox.run(&["--test", "--run", "--qty", "3", "--name", name]).succeeded();
    };
    test("localhost");
    test("testServer1");
    // Old and new certificates of the old authority trust each other.
    let mut certs = vec!["--certs", "--name", "localhost", "--altNames", "localhost"];
    certs.extend(["127.0.0.1", "--force"]);
    sandbox.run(&certs).succeeded();
    test("localhost");
    sandbox.run(&["--certs", "--revoke", "testServer1"]).succeeded().says("serial 04");
    sandbox
        .run(&["--test", "--run", "--qty", "1", "--name", "testServer1"])
        .ended_with(1)
        .says("revoked");
    sandbox.run(&["--certs", "--renew", "--name", "testServer1"]).succeeded();
    test("testServer1");
    sandbox.run(&["--certs", "--rotateCa"]).succeeded();
    test("testServer1");
    sandbox.run(&["--certs", "--dropOldCa"]).succeeded();
    sandbox.run(&["--keys", "--rotate"]).succeeded();
    test("localhost");
    assert_eq!(snapshot(&environment), before, "the environment was changed");

    let again = sandbox.run(&["--init", "--run", "--importFrom", from]).ended_with(1);
    again.says("is not empty, and an environment is taken over into a new home");
    Outcome::Passed
}

/// An environment with the pairs `localhost` and `testServer1` and the user `test1`.
pub(super) fn make(built: &Built, sandbox: &Sandbox) -> PathBuf {
    let environment = sandbox.folder().join("web_env");
    let script = built.workspace.join("xtask/src/e2e/python_environment.py");
    let mut command = python(sandbox, &script);
    command.arg(&environment);
    command.args(["testServer1", "testServer1,testServer1.local,localhost,127.0.0.1"]);
    expect::finish(command).succeeded();
    environment
}

/// Why the script cannot run; `None` if it can.
pub(super) fn lacks_python() -> Option<String> {
    python_lacks(&MODULES).or_else(|| {
        let why = python_lacks(&["bcrypt"])?;
        python_lacks(&["crypt"]).map(|_| why)
    })
}

/// Every file with its content and the time of its last change.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let files = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{error}"));
    files
        .map(|entry| {
            let path = entry.unwrap_or_else(|error| panic!("{error}")).path();
            let read = || Ok((std::fs::read(&path)?, path.metadata()?.modified()?));
            let state = read().unwrap_or_else(|error: std::io::Error| panic!("{error}"));
            (path, state)
        })
        .collect()
}

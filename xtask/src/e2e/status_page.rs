//! A scenario with the status page of `--serve --metrics` in a real browser.
//!
//! Chromium is driven by `browser.py`. Pictures of the page are left in `target/status-page`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Outcome;
use super::expect::Running;
use super::python_client::{python, python_lacks};
use crate::driver::{Built, Sandbox};

/// The names that Chromium has on the systems that package it.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// More than the inbox in memory holds.
const MANY: usize = 3000;

/// Each message is dealt with at once, unless the file `hold` is there.
const COMMAND: &str = "cat > /dev/null; while [ -e hold ]; do sleep 0.05; done";

const READY: &str = "wait:ready:document.getElementById('state').textContent == 'ready'";
const RATES_MOVE: &str = "wait:rates:parseFloat(document.getElementById('in-rate').textContent) > 0 && parseFloat(document.getElementById('out-rate').textContent) > 0 && document.querySelectorAll('#rates polyline').length == 2";
const REVOKED: &str = "wait:revoked:[...document.querySelectorAll('#certificates tr')].some(row => row.textContent.startsWith('extra') && row.textContent.endsWith('revoked'))";
const FULL: &str = "wait:full:document.getElementById('refusals').textContent.includes('inbox_full') && document.getElementById('refused').className == 'warn'";
const PEER: &str =
    "wait:peer:document.getElementById('peers').textContent.includes('localhostipc-admin')";

fn chromium() -> Option<&'static str> {
    CHROMIUM.into_iter().find(|program| {
        let mut version = Command::new(program);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    })
}

/// Under load the rates move; a revoked certificate and a full inbox show.
pub(super) fn in_a_browser(built: &Built) -> Outcome {
    let Some(chromium) = chromium() else {
        return Outcome::Skipped("Chromium is not installed".into());
    };
    if let Some(why) = python_lacks(&["websockets.proxy"]) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    sandbox.run(&["--certs", "--name", "extra"]).succeeded();
    let serve = ["--serve", "-p", "0", "--metrics", "127.0.0.1:0", "--jobs", "8", "--exec"];
    let mut server = sandbox.start(&[&serve[..], &[COMMAND]].concat());
    let address = server.wait_for_log("]: Listening on https://");
    let address = address.split(' ').next().unwrap_or_default().to_owned();
    let url = server.wait_for_log("]: Status page on ");
    let url = url.split(',').next().unwrap_or_default().to_owned();

    let pictures = pictures(built);
    let shot = |name: &str, scheme: &str, width: u32, height: u32| {
        format!("shot:{}:{scheme}:{width}:{height}", pictures.join(name).display())
    };
    let mut command = python(&sandbox, &built.workspace.join("xtask/src/e2e/browser.py"));
    command.arg(chromium).arg(sandbox.folder().join("profile")).arg(&url);
    command.args([READY, RATES_MOVE, PEER, REVOKED, FULL]);
    command.args([
        shot("light.png", "light", 1200, 1150),
        shot("dark.png", "dark", 1200, 1150),
        shot("phone.png", "dark", 390, 2000),
    ]);
    let mut browser = Running::start(command, "");

    let send = |count| sending(&sandbox, &address, count);
    browser.wait_for_line("ready");
    // Fewer than the inbox holds.
    let first = send(MANY / 4);
    browser.wait_for_line("rates");
    browser.wait_for_line("peer");
    first.kill();
    sandbox.run(&["--certs", "--revoke", "extra"]).succeeded();
    let revoked = Instant::now();
    browser.wait_for_line("revoked");
    let revoked = revoked.elapsed();

    let hold = sandbox.folder().join("hold");
    fs::write(&hold, "").expect("the sandbox can be written");
    let second = send(MANY);
    let full = Instant::now();
    browser.wait_for_line("full");
    let full = full.elapsed();
    browser.finish().succeeded();
    // Thousands of commands are left, which nobody waits for.
    second.kill();
    server.kill();
    println!(
        "    shown after: a revoked certificate {revoked:.1?}, a full inbox {full:.1?} (from the start of the sender); pictures: {}",
        pictures.display()
    );
    Outcome::Passed
}

/// A process that sends `count` messages, one a line.
fn sending(sandbox: &Sandbox, address: &str, count: usize) -> Running {
    let lines: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    Running::start(sandbox.command(&["--send", "--ip", address]), &lines)
}

/// An empty directory for the pictures.
fn pictures(built: &Built) -> PathBuf {
    let folder: &Path = built.folder.parent().unwrap_or(&built.folder);
    let pictures = folder.join("status-page");
    // It is not there on the first run.
    let _gone = fs::remove_dir_all(&pictures);
    fs::create_dir_all(&pictures).expect("target can be written");
    pictures
}

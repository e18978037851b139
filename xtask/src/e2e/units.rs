//! A scenario with the units of `docs/operations` and systemd's own judgement of them.

use std::fs;
use std::process::Command;

use super::Outcome;
use super::expect;
use crate::driver::Built;

/// The highest exposure that a service may have, in tenths.
const EXPOSURE_MAX: &str = "20";

/// Each service is as closed as the manual says.
pub(super) fn are_closed(built: &Built) -> Outcome {
    let analyze = || Command::new("systemd-analyze");
    // `--offline` came with systemd 250.
    let can = analyze().args(["security", "--offline=true", "--help"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return Outcome::Skipped("systemd-analyze is not installed, or older than 250".into());
    }
    let folder = built.workspace.join("docs/operations");
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut services = 0;
    for file in files {
        let path = file.expect("an entry can be read").path();
        if path.extension().is_none_or(|extension| extension != "service") {
            continue;
        }
        services += 1;
        let mut command = analyze();
        command.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]);
        command
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        expect::finish(command).succeeded().says("Overall exposure level");
    }
    assert_eq!(services, 3, "services in {}", folder.display());
    Outcome::Passed
}

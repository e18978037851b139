//! `web-ipc --doctor`: says what is wrong with a home and with the way to its server.
//!
//! `ipc-setup` looks at the files of the home. What needs the network or is about this process is
//! checked here. Nothing is changed. In the home of a client
//! one login is tried, and its session not used.

mod host;
mod network;
mod view;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_home::locate;
use ipc_setup::{InitOptions, Severity, diagnose, run_check};

use crate::args::Doctor;
use crate::error::{Failure, Verdict};
use crate::out;
use crate::remedy::Reader;

/// Whether a panic is a finding, and not the end of the process.
static TAKES_PANICS: AtomicBool = AtomicBool::new(false);

/// Whether a panic is reported by this command itself.
pub(crate) fn takes_panics() -> bool {
    TAKES_PANICS.load(Ordering::Relaxed)
}

/// Runs all checks and prints what they found.
pub(crate) fn run(explicit_home: Option<&Path>, doctor: &Doctor) -> Result<Verdict, Failure> {
    let path = locate(explicit_home)?;
    TAKES_PANICS.store(true, Ordering::Relaxed);
    let diagnosis = diagnose(&path, InitOptions::now().now_secs);
    let mut findings = diagnosis.findings.clone();
    findings.extend(run_check("open files", || host::open_files(&diagnosis)));
    findings.extend(run_check("server", || network::findings(doctor, &diagnosis)));
    TAKES_PANICS.store(false, Ordering::Relaxed);
    let view = view::View::new(&path, &Reader::of(explicit_home), &diagnosis, &findings);
    let is_well = findings.iter().all(|finding| finding.severity == Severity::Ok);
    if doctor.json {
        out::print_json_line(&view.to_json())?;
    } else if !(is_well && out::is_quiet()) {
        out::print(&view.to_text())?;
    }
    let is_wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if is_wrong { Verdict::Refused } else { Verdict::Done })
}

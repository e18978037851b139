//! Builds what is driven, each time as its users would.
//!
//! `e2e`, `crash` and `bench` come here first. Nothing that was built is run here.

use std::path::PathBuf;

use crate::cargo;

/// What was built and is driven.
pub(crate) struct Built {
    /// The folder with the binary `web-ipc` and with the programs that tests drive.
    pub(crate) folder: PathBuf,
    /// The workspace, with README.md and docs.
    pub(crate) workspace: PathBuf,
}

impl Built {
    /// Nothing, for what a test does not run.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self { folder: PathBuf::new(), workspace: PathBuf::new() }
    }
}

/// Builds the command as README.md has it built, and the fixtures and what is measured as
/// `cargo test --workspace` does, so that nothing is built twice.
pub(crate) fn build() -> Result<Built, String> {
    build_with(
        &[
            &["build", "-p", "web-ipc-cli"],
            &["build", "--workspace", "--bin", "ipc-bench", "--bin", "fixture-*"],
        ],
        "debug",
    )
}

/// Builds what long runs drive as its users would run it.
pub(crate) fn build_release() -> Result<Built, String> {
    let packages = ["build", "--release", "-p", "web-ipc-cli", "-p", "ipc-fixtures"];
    build_with(&[&packages], "release")
}

/// Builds what is measured, as its users would run it or, where nothing is measured, quickly.
pub(crate) fn build_bench(release: bool) -> Result<Built, String> {
    let packages = ["build", "-p", "web-ipc-cli", "-p", "ipc-bench"];
    if release {
        build_with(&[&[&packages[..], &["--release"]].concat()], "release")
    } else {
        build_with(&[&packages], "debug")
    }
}

fn build_with(commands: &[&[&str]], folder: &str) -> Result<Built, String> {
    for arguments in commands {
        let status =
            cargo::command(arguments).status().map_err(|e| format!("cargo does not start: {e}"))?;
        if !status.success() {
            return Err(format!("cargo {} failed", arguments.join(" ")));
        }
    }
    let target = cargo::metadata()?.target_directory;
    Ok(Built { folder: target.join(folder).into(), workspace: cargo::workspace_root() })
}

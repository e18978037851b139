//! Builds the programs that the tasks run, in the way that their users do.
//!
//! `e2e`, `crash` and `bench` come here first. This file runs none of the programs.

use std::path::PathBuf;

use crate::cargo;

/// The built programs.
pub(crate) struct Built {
    /// The folder with the binary `web-ipc` and the other programs.
    pub(crate) folder: PathBuf,
    /// The workspace's root folder, with README.md and docs.
    pub(crate) workspace: PathBuf,
}

impl Built {
    /// A value without programs, for unit tests that run none.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self { folder: PathBuf::new(), workspace: PathBuf::new() }
    }
}

/// Builds the command as README.md says. Builds the fixtures and the benchmark programs as `cargo
/// test --workspace` does, so that nothing is built twice.
pub(crate) fn build() -> Result<Built, String> {
    build_with(
        &[
            &["build", "-p", "web-ipc-cli"],
            &["build", "--workspace", "--bin", "ipc-bench", "--bin", "fixture-*"],
        ],
        "debug",
    )
}

/// Builds the programs of long runs in release mode, as users run them.
pub(crate) fn build_release() -> Result<Built, String> {
    let packages = ["build", "--release", "-p", "web-ipc-cli", "-p", "ipc-fixtures"];
    build_with(&[&packages], "release")
}

/// Builds the benchmark programs, in release mode as users run them, or in debug mode, which is
/// quicker to build, if nothing is measured.
pub(crate) fn build_bench(release: bool) -> Result<Built, String> {
    let packages = ["build", "-p", "web-ipc-cli", "-p", "ipc-bench"];
    if release {
        build_with(&[&[&packages[..], &["--release"]].concat()], "release")
    } else {
        build_with(&[&packages], "debug")
    }
}

/// The folder of programs with all features, below that of the others.
const WITH_ENGINES: &str = "with-engines";

/// Builds the command with the features for JetStream and PostgreSQL, and the fixtures. They get a
/// folder of their own, and the folder of the others has the command without these features again,
/// for who comes later.
pub(crate) fn build_with_engines(release: bool) -> Result<Built, String> {
    let (profile, more): (_, &[&str]) = match release {
        true => ("release", &["--release"]),
        false => ("debug", &[]),
    };
    let plain = [&["build", "-p", "web-ipc-cli"], more].concat();
    let with_engines = [&plain[..], &["--features", "jetstream,postgres"]].concat();
    let fixtures = [&["build", "-p", "ipc-fixtures"], more].concat();
    let mut built = build_with(&[&fixtures, &with_engines], profile)?;
    let folder = built.folder.join(WITH_ENGINES);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for name in ["web-ipc", "fixture-load"] {
        let to = folder.join(name);
        // A running program cannot be written to, and another run may use it.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(built.folder.join(name), to).map_err(failed)?;
    }
    if !release {
        build_with(&[&plain], profile)?;
    }
    built.folder = folder;
    Ok(built)
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

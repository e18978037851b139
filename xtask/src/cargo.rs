//! Runs cargo, and asks it about the workspace.
//!
//! Every task that needs cargo comes here. This file does not know what is built or checked.

use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand};

/// The folder with the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    let own =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&own).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A cargo command that runs in the workspace's root folder, with the environment that a shell
/// would give it.
///
/// `cargo run` describes the package xtask to its child in `CARGO_PKG_…` and similar variables.
/// Some build scripts, such as ring's, run again when these change, and then every crate above them
/// is built again.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace_root());
    for (name, _) in std::env::vars_os() {
        if describes_this_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_")
        || matches!(
            variable,
            "CARGO_MANIFEST_DIR"
                | "CARGO_MANIFEST_PATH"
                | "CARGO_MANIFEST_LINKS"
                | "CARGO_BIN_NAME"
                | "CARGO_CRATE_NAME"
                | "CARGO_PRIMARY_PACKAGE"
        )
}

/// The output of `cargo metadata`, resolved for this host only, so that nothing is downloaded for
/// other platforms.
pub(crate) fn metadata() -> Result<Metadata, String> {
    query(&host()?).exec().map_err(|e| format!("cargo metadata: {e}"))
}

/// The same for another target, with all features of all members.
pub(crate) fn metadata_for(target: &str) -> Result<Metadata, String> {
    let mut query = query(target);
    query.features(CargoOpt::AllFeatures);
    query.exec().map_err(|e| format!("cargo metadata: {e}"))
}

fn query(target: &str) -> MetadataCommand {
    let mut query = MetadataCommand::new();
    query.manifest_path(workspace_root().join("Cargo.toml"));
    query.other_options(["--filter-platform".to_owned(), target.to_owned()]);
    query
}

/// The target triple of this host.
pub(crate) fn host() -> Result<String, String> {
    let rustc = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|e| format!("rustc does not start: {e}"))?;
    let text = String::from_utf8_lossy(&rustc.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or("`rustc -vV` does not name the host it builds for".to_owned())
}

/// The names of all packages that a package is built of with its default features.
pub(crate) fn tree_of(package: &str) -> Result<Vec<String>, String> {
    let arguments = ["tree", "--package", package, "--edges", "normal,build", "--prefix", "none"];
    let output = command(&arguments).output().map_err(|e| format!("cargo does not start: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_run_says_of_this_package_is_not_passed_on() {
        assert!(describes_this_package("CARGO_PKG_NAME"));
        assert!(describes_this_package("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn what_the_user_set_for_cargo_is_passed_on() {
        for kept in
            ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR", "PATH"]
        {
            assert!(!describes_this_package(kept), "{kept}");
        }
    }

    #[test]
    fn the_workspace_root_holds_this_crate() {
        assert!(workspace_root().join("xtask/src/cargo.rs").is_file());
    }
}

//! The RPM package, with the same files and the same promises as the Debian one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::deb::{DEFAULTS, DEFAULTS_PATH};
use super::release::Release;
use super::tool;
use super::tree::{Content, DOC, MANUAL, Tree};

const SPEC: &str = include_str!("texts/web-ipc.spec");

/// Makes the package in `folder`. `None` without `rpmbuild`.
pub(super) fn make(
    release: &Release,
    files: &Tree,
    work: &Path,
    folder: &Path,
    epoch: u64,
) -> Result<Option<PathBuf>, String> {
    if tool::found(Command::new("rpmbuild").arg("--version"))?.is_none() {
        return Ok(None);
    }
    let architecture = release.target.split('-').next().unwrap_or_default();
    let (root, top) = (work.join("rpm"), work.join("rpmbuild"));
    let mut files = files.clone().below("usr");
    files.add(DEFAULTS_PATH, Content::Text(DEFAULTS.into()));
    files.write(&root, epoch)?;
    let listed: String = files.paths().map(|path| line(path) + "\n").collect();
    let spec = SPEC
        // A hyphen separates version and release.
        .replace("@VERSION@", &release.version.replace('-', "~"))
        .replace("@ROOT@", &root.to_string_lossy())
        .replace("@FILES@", &listed)
        .replace("@DOC@", &format!("/usr/{DOC}"));
    let path = work.join("web-ipc.spec");
    tool::write(&path, spec)?;
    let mut command = Command::new("rpmbuild");
    command.arg("-bb").arg("--target").arg(architecture);
    for (name, value) in [
        ("_topdir", top.to_string_lossy().as_ref()),
        ("_buildhost", "localhost"),
        ("use_source_date_epoch_as_buildtime", "1"),
        ("clamp_mtime_to_source_date_epoch", "1"),
        ("_binary_payload", "w6.xzdio"),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    tool::output(command.arg(&path).env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    let made = top.join("RPMS").join(architecture);
    let entries = fs::read_dir(&made).map_err(|error| format!("{}: {error}", made.display()))?;
    let from = entries.flatten().next().ok_or("rpmbuild made no package")?.path();
    let to = folder.join(from.file_name().unwrap_or_default());
    fs::copy(&from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    Ok(Some(to))
}

/// A line of the list of files. rpmbuild compresses pages of the manual.
fn line(path: &str) -> String {
    match path {
        DEFAULTS_PATH => format!("%config(noreplace) /{path}"),
        _ if path.starts_with(&format!("usr/{MANUAL}/")) => format!("/{path}*"),
        _ => format!("/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_the_service_are_a_configuration_file() {
        assert_eq!(line("etc/default/web-ipc"), "%config(noreplace) /etc/default/web-ipc");
        assert_eq!(line("usr/share/man/man1/web-ipc.1"), "/usr/share/man/man1/web-ipc.1*");
        assert_eq!(line("usr/bin/web-ipc"), "/usr/bin/web-ipc");
    }
}

//! The archive: `web-ipc-VERSION-TARGET.tar.gz`, with the script that installs from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::{Release, SUMS, sha256};
use super::tool;
use super::tree::{Content, Tree, set, set_folders};
use crate::cargo;

/// Makes the archive in `folder`, by GNU tar and gzip.
pub(super) fn make(
    release: &Release,
    files: &Tree,
    work: &Path,
    folder: &Path,
    epoch: u64,
) -> Result<PathBuf, String> {
    let name = format!("web-ipc-{}-{}", release.version, release.target);
    let root = work.join(&name);
    let mut files = files.clone();
    let script = cargo::workspace_root().join("scripts/install.sh");
    files.add("install.sh", Content::CopyOf(script));
    files.write(&root, epoch)?;
    set(&root.join("install.sh"), 0o755, epoch)?;
    let mut sums = String::new();
    for path in files.paths() {
        let at = root.join(path);
        if !at.is_symlink() {
            let content = fs::read(&at).map_err(|error| format!("{}: {error}", at.display()))?;
            sums.push_str(&format!("{}  {path}\n", sha256(&content)));
        }
    }
    let at = root.join(SUMS);
    tool::write(&at, sums)?;
    set(&at, 0o644, epoch)?;
    set_folders(&root, epoch)?;

    let tar = work.join(format!("{name}.tar"));
    let mut command = Command::new("tar");
    command.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0"]);
    command.args(["--numeric-owner", &format!("--mtime=@{epoch}"), "--directory"]);
    tool::output(command.arg(work).arg("--file").arg(&tar).arg(&name))?;
    // Without the name and the time of the file that is compressed.
    tool::output(Command::new("gzip").args(["--no-name", "--best"]).arg(&tar))?;
    let (from, to) = (work.join(format!("{name}.tar.gz")), folder.join(format!("{name}.tar.gz")));
    fs::copy(&from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    Ok(to)
}

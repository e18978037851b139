//! The Debian package.
//!
//! The service gets a user of its own and is neither enabled nor started: it needs options first.
//! An upgrade restarts it if it runs. `apt-get purge` leaves the home alone, and its user with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::Release;
use super::tree::{Content, DOC, MANUAL, Tree, ZSH, set, set_folders};
use super::{binary, tool};
use crate::cargo;

const CONTROL: &str = include_str!("texts/deb/control");
const POSTINST: &str = include_str!("texts/deb/postinst");
const PRERM: &str = include_str!("texts/deb/prerm");
const POSTRM: &str = include_str!("texts/deb/postrm");
const COPYRIGHT: &str = include_str!("texts/deb/copyright");
/// The file with the service's options.
pub(super) const DEFAULTS: &str = include_str!("texts/default");
pub(super) const DEFAULTS_PATH: &str = "etc/default/web-ipc";

/// Makes the package in `folder`. `None` without `dpkg-deb`.
pub(super) fn make(
    release: &Release,
    files: &Tree,
    binary: &Path,
    work: &Path,
    folder: &Path,
    epoch: u64,
) -> Result<Option<PathBuf>, String> {
    if tool::found(Command::new("dpkg-deb").arg("--version"))?.is_none() {
        return Ok(None);
    }
    let root = work.join("deb");
    // Of the version before.
    let _ = fs::remove_dir_all(&root);
    let architecture = architecture(&release.target)?;
    let mut files = files.clone();
    // Debian has the licence in a file of this name, and compresses changelog and manual.
    files.add(&format!("{DOC}/copyright"), Content::Text(copyright()?));
    if let Some(changelog) = files.take(&format!("{DOC}/CHANGELOG.md")) {
        files.add(&format!("{DOC}/changelog"), changelog);
    }
    // Debian's zsh looks here for completions of packages.
    if let Some(script) = files.take(ZSH) {
        files.add("share/zsh/vendor-completions/_web-ipc", script);
    }
    let mut files = files.below("usr");
    files.add(DEFAULTS_PATH, Content::Text(DEFAULTS.into()));
    files.write(&root, epoch)?;
    for path in files.paths() {
        if path.starts_with(&format!("usr/{MANUAL}/")) || path.ends_with("/changelog") {
            let path = root.join(path);
            tool::output(Command::new("gzip").args(["--no-name", "--best"]).arg(path))?;
        }
    }

    let control = root.join("DEBIAN");
    fs::create_dir(&control).map_err(|error| format!("{}: {error}", control.display()))?;
    let kib = du(&root)?;
    let depends = binary::libraries(binary)?.join(", ");
    let depends =
        if depends.is_empty() { "passwd".to_owned() } else { format!("{depends}, passwd") };
    let text = CONTROL
        .replace("@VERSION@", &release.version.replace('-', "~"))
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &kib.to_string())
        .replace("@DEPENDS@", &depends);
    for (name, text, mode) in [
        ("control", text.as_str(), 0o644),
        ("conffiles", &format!("/{DEFAULTS_PATH}\n"), 0o644),
        ("md5sums", &sums(&root)?, 0o644),
        ("postinst", POSTINST, 0o755),
        ("prerm", PRERM, 0o755),
        ("postrm", POSTRM, 0o755),
    ] {
        let path = control.join(name);
        tool::write(&path, text)?;
        set(&path, mode, epoch)?;
    }
    set_folders(&root, epoch)?;
    let to = folder.join(format!("web-ipc_{}_{architecture}.deb", release.version));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&to);
    tool::output(command.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    Ok(Some(to))
}

/// Debian's name of an architecture.
fn architecture(target: &str) -> Result<&'static str, String> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => Err(format!("Debian's name for the architecture of {target} is not known")),
    }
}

/// Our licences, in the form of Debian's copyright files.
fn copyright() -> Result<String, String> {
    let mit = tool::read(&cargo::workspace_root().join("LICENSE-MIT"))?;
    let paragraphs: Vec<String> = mit
        .lines()
        .map(|line| if line.trim().is_empty() { " .".into() } else { format!(" {}", line.trim()) })
        .collect();
    Ok(COPYRIGHT.replace("@MIT@", paragraphs.join("\n").trim_end()))
}

/// The size of the installed files in KiB.
fn du(root: &Path) -> Result<u64, String> {
    let mut du = Command::new("du");
    let told =
        tool::output(du.args(["--summarize", "--apparent-size", "--block-size=1024"]).arg(root))?;
    let kib = told.split_whitespace().next().and_then(|word| word.parse().ok());
    kib.ok_or(format!("du says {told:?}"))
}

/// The MD5 sums of all files, by which `dpkg --verify` finds changed ones.
fn sums(root: &Path) -> Result<String, String> {
    let mut find = Command::new("find");
    find.current_dir(root).args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]);
    let told = tool::output(&mut find)?;
    let mut lines: Vec<&str> = told.lines().collect();
    lines.sort_by_key(|line| line.split_once("  ").map(|(_, path)| path));
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_debians_name() {
        assert_eq!(architecture("x86_64-unknown-linux-musl"), Ok("amd64"));
        assert_eq!(architecture("aarch64-unknown-linux-gnu"), Ok("arm64"));
        assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
    }

    #[test]
    fn the_copyright_file_has_the_licence_with_dots_for_empty_lines() {
        let text = copyright().unwrap();
        assert!(text.contains("\nLicense: MIT\n") && text.contains("\n .\n"), "{text}");
        assert!(!text.contains('@'), "{text}");
    }
}

//! The files that are installed, for all packages alike.
//!
//! `mod.rs` makes one [`Tree`], whose paths are relative to the prefix: `bin/web-ipc`. Each package
//! writes it where it wants it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::packages::Packages;
use super::pages::Pages;
use super::release::Release;
use super::{licences, sbom, tool};
use crate::cargo;

/// What a file has.
#[derive(Clone)]
pub(super) enum Content {
    Text(String),
    CopyOf(PathBuf),
    /// A symbolic link.
    LinkTo(String),
}

/// Files by their paths.
#[derive(Clone, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, Content>,
}

/// The folder of what is to be read.
pub(super) const DOC: &str = "share/doc/web-ipc";
/// The folder of units for systemd.
pub(super) const UNITS: &str = "lib/systemd/system";
/// The folder of pages of the manual.
pub(super) const MANUAL: &str = "share/man/man1";
/// The completions for zsh.
pub(super) const ZSH: &str = "share/zsh/site-functions/_web-ipc";
/// The only files that are run, not read.
const BIN: &str = "bin/";

impl Tree {
    /// Everything that is installed.
    pub(super) fn of(
        release: &Release,
        binary: &Path,
        packages: &Packages,
        epoch: u64,
    ) -> Result<Self, String> {
        let mut tree = Self::default();
        let root = cargo::workspace_root();
        let pages = Pages::of(binary)?;
        tree.add("bin/web-ipc", Content::CopyOf(binary.to_owned()));
        for link in &pages.links {
            tree.add(&format!("bin/{link}"), Content::LinkTo("web-ipc".into()));
        }
        for (name, page) in pages.manual {
            tree.add(&format!("{MANUAL}/{name}"), Content::Text(page));
        }
        let completions = [
            ("share/bash-completion/completions/web-ipc", pages.bash),
            (ZSH, pages.zsh),
            ("share/fish/vendor_completions.d/web-ipc.fish", pages.fish),
        ];
        for (path, script) in completions {
            tree.add(path, Content::Text(script));
        }
        // bash looks for completions of a command in a file of its name.
        for link in &pages.links {
            let path = format!("share/bash-completion/completions/{link}");
            tree.add(&path, Content::LinkTo("web-ipc".into()));
        }
        let operations = root.join("docs/operations");
        for path in listed(&operations)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if [".service", ".socket", ".timer"].iter().any(|kind| name.ends_with(kind)) {
                tree.add(&format!("{UNITS}/{name}"), Content::CopyOf(path));
            }
        }
        for name in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            tree.add(&format!("{DOC}/{name}"), Content::CopyOf(root.join(name)));
        }
        tree.add_folder(&format!("{DOC}/docs"), &root.join("docs"))?;
        // The lists of public items are for those who change the libraries.
        tree.files.retain(|path, _| !path.starts_with(&format!("{DOC}/docs/api/")));
        let licences = licences::text(packages, &release.target)?;
        tree.add(&format!("{DOC}/THIRD-PARTY-LICENSES.txt"), Content::Text(licences));
        let sbom = sbom::json(release, packages, epoch)?;
        tree.add(&format!("{DOC}/web-ipc.cdx.json"), Content::Text(sbom));
        Ok(tree)
    }

    /// Adds a file, or replaces it.
    pub(super) fn add(&mut self, path: &str, content: Content) {
        self.files.insert(path.to_owned(), content);
    }

    /// Removes a file that is there.
    pub(super) fn take(&mut self, path: &str) -> Option<Content> {
        self.files.remove(path)
    }

    /// The paths, in their order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn add_folder(&mut self, path: &str, folder: &Path) -> Result<(), String> {
        for from in listed(folder)? {
            let name = from.file_name().unwrap_or_default().to_string_lossy();
            let path = format!("{path}/{name}");
            if from.is_dir() {
                self.add_folder(&path, &from)?;
            } else {
                self.add(&path, Content::CopyOf(from.clone()));
            }
        }
        Ok(())
    }

    /// The same files below another folder: `usr`.
    pub(super) fn below(self, folder: &str) -> Self {
        let files = self.files.into_iter();
        Self { files: files.map(|(path, content)| (format!("{folder}/{path}"), content)).collect() }
    }

    /// Writes all files into `folder`. Whatever umask and time it is: directories and programs are
    /// 0755, other files 0644, and all of them have the time `epoch`.
    pub(super) fn write(&self, folder: &Path, epoch: u64) -> Result<(), String> {
        for (path, content) in &self.files {
            let to = folder.join(path);
            let failed = |error| format!("{}: {error}", to.display());
            fs::create_dir_all(to.parent().unwrap_or(folder)).map_err(failed)?;
            match content {
                Content::Text(text) => tool::write(&to, text)?,
                Content::CopyOf(from) => {
                    fs::copy(from, &to).map_err(|error| format!("{}: {error}", from.display()))?;
                }
                Content::LinkTo(target) => {
                    symlink(target, &to).map_err(failed)?;
                    continue;
                }
            }
            set(&to, if path.contains(BIN) { 0o755 } else { 0o644 }, epoch)?;
        }
        set_folders(folder, epoch)
    }
}

/// What is in a folder, sorted.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Sets the mode and the time of a file or folder.
pub(super) fn set(path: &Path, mode: u32, epoch: u64) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", path.display());
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    File::open(path).and_then(|file| file.set_modified(time)).map_err(failed)
}

/// Sets the modes of a folder and those below it, from the deepest on.
pub(super) fn set_folders(folder: &Path, epoch: u64) -> Result<(), String> {
    for path in listed(folder)? {
        if path.is_dir() && !path.is_symlink() {
            set_folders(&path, epoch)?;
        }
    }
    set(folder, 0o755, epoch)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_have_their_modes_and_one_time() {
        let mut tree = Tree::default();
        tree.add("bin/program", Content::Text("#!/bin/sh\n".into()));
        tree.add("bin/link", Content::LinkTo("program".into()));
        tree.add("share/doc/page", Content::Text("page\n".into()));
        let folder = tempfile::tempdir().unwrap();
        tree.below("usr").write(folder.path(), 1_000_000).unwrap();
        for (path, mode) in [
            ("usr", 0o40755),
            ("usr/bin/program", 0o100755),
            ("usr/share/doc", 0o40755),
            ("usr/share/doc/page", 0o100644),
        ] {
            let metadata = fs::symlink_metadata(folder.path().join(path)).unwrap();
            assert_eq!((metadata.mode(), metadata.mtime()), (mode, 1_000_000), "{path}");
        }
        let link = fs::read_link(folder.path().join("usr/bin/link")).unwrap();
        assert_eq!(link, Path::new("program"));
    }
}

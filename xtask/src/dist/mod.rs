//! `cargo xtask dist`: builds the command for operators, and packs it: an archive, a Debian
//! package, an RPM package, their checksums.
//!
//! People who release come here, and the end-to-end scenarios that install what is packed.
//! `binary` builds, `pages`, `licences` and `sbom` say what is in it, `tree` has the files of all
//! packages, and `archive`, `deb` and `rpm` each make one of them.

mod archive;
mod binary;
mod deb;
mod licences;
mod packages;
mod pages;
mod release;
mod rpm;
mod sbom;
mod tool;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cargo;
use packages::Packages;
use release::{FEATURES, SUMS, sha256};
pub(crate) use release::{Options, Release};
use tree::Tree;

/// Builds, packs, and prints what was made. Returns true on success.
pub(crate) fn run(options: &Options) -> bool {
    match build_and_pack(options) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("cargo xtask dist: {error}");
            false
        }
    }
}

fn build_and_pack(options: &Options) -> Result<(), String> {
    let choice = binary::target(options)?;
    println!("dist: {} for {}", choice.reason, choice.triple);
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => binary::build(&choice.triple, options.is_debug)?,
    };
    let metadata = cargo::metadata()?;
    let version = member_version(&metadata, "web-ipc-cli")?;
    let folder: PathBuf = metadata.target_directory.join("packed").into();
    let unstripped = size(&binary)?;
    let release = Release { version, target: choice.triple, binary, features: FEATURES };
    let _ = fs::remove_dir_all(&folder);
    let packing = Packing::of(release, folder.clone())?;
    println!("dist: the binary has {unstripped} as it was built, {} stripped", packing.size()?);
    let mut made = vec![packing.archive()?];
    match packing.deb()? {
        Some(path) => made.push(path),
        None => println!("dist: no Debian package, since dpkg-deb is not installed"),
    }
    match packing.rpm()? {
        Some(path) => made.push(path),
        None => println!("dist: no RPM package, since rpmbuild is not installed (Debian: rpm)"),
    }
    write_sums(&folder, &made)?;
    for path in &made {
        println!("dist: {} ({})", path.display(), size(path)?);
    }
    println!("dist: {}", folder.join(SUMS).display());
    if options.is_debug {
        println!("dist: this is a debug build, to try the packages with; not for release");
    }
    Ok(())
}

/// A binary with all that is packed beside it.
pub(crate) struct Packing {
    release: Release,
    /// What is on the way to a package. It is deleted when this is dropped.
    work: TempDir,
    /// Where packages go.
    folder: PathBuf,
    /// The stripped binary.
    binary: PathBuf,
    files: Tree,
    epoch: u64,
}

impl Packing {
    /// Gathers the files of a release, whose packages go into `folder`.
    pub(crate) fn of(release: Release, folder: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let epoch = epoch()?;
        let work = tempfile::Builder::new().prefix("web-ipc-dist-").tempdir();
        let work = work.map_err(|error| format!("no temporary directory: {error}"))?;
        let binary = binary::stripped(&release.binary, work.path())?;
        let packages = Packages::of(&release.target, release.features)?;
        let files = Tree::of(&release, &binary, &packages, epoch)?;
        Ok(Self { release, work, folder, binary, files, epoch })
    }

    /// Makes the archive.
    pub(crate) fn archive(&self) -> Result<PathBuf, String> {
        archive::make(&self.release, &self.files, self.work.path(), &self.folder, self.epoch)
    }

    /// Makes the Debian package. `None` without `dpkg-deb`.
    pub(crate) fn deb(&self) -> Result<Option<PathBuf>, String> {
        deb::make(
            &self.release,
            &self.files,
            &self.binary,
            self.work.path(),
            &self.folder,
            self.epoch,
        )
    }

    /// Makes the RPM package. `None` without `rpmbuild`.
    pub(crate) fn rpm(&self) -> Result<Option<PathBuf>, String> {
        rpm::make(&self.release, &self.files, self.work.path(), &self.folder, self.epoch)
    }

    /// The same files under another version, to try an upgrade with.
    pub(crate) fn of_version(&mut self, version: &str) {
        self.release.version = version.to_owned();
    }

    /// The size of the stripped binary, for people.
    fn size(&self) -> Result<String, String> {
        size(&self.binary)
    }
}

/// The time that every packed file has: `$SOURCE_DATE_EPOCH`, else that of the last commit.
fn epoch() -> Result<u64, String> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = std::process::Command::new("git");
            git.args(["log", "-1", "--format=%ct"]).current_dir(cargo::workspace_root());
            tool::output(&mut git)
                .map_err(|error| format!("{error}; set SOURCE_DATE_EPOCH where there is no git"))?
        }
    };
    let text = text.trim();
    text.parse().map_err(|_| format!("SOURCE_DATE_EPOCH is no number of seconds: {text:?}"))
}

/// The version of a member of the workspace.
pub(crate) fn member_version(
    metadata: &cargo_metadata::Metadata,
    name: &str,
) -> Result<String, String> {
    let member = metadata.workspace_packages().into_iter().find(|one| one.name.as_str() == name);
    member.map(|member| member.version.to_string()).ok_or(format!("there is no member {name}"))
}

/// Writes the checksums of packages in `folder`.
pub(crate) fn write_sums(folder: &Path, paths: &[PathBuf]) -> Result<(), String> {
    let mut lines = Vec::new();
    for path in paths {
        let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines.push(format!("{}  {name}\n", sha256(&content)));
    }
    lines.sort_by(|one, other| one[64..].cmp(&other[64..]));
    let path = folder.join(SUMS);
    fs::write(&path, lines.concat()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The size of a file for people: `21.8 MB`.
fn size(path: &Path) -> Result<String, String> {
    let bytes = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    let tenths = bytes / 100_000;
    Ok(format!("{}.{} MB", tenths / 10, tenths % 10))
}

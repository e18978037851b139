//! `cargo xtask dist`: builds the command for operators, and packs it: an archive, a Debian package,
//! an RPM package, their checksums.
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
mod rpm;
mod sbom;
mod tool;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::cargo;
use packages::Packages;

/// The features of the command that operators get: several servers need both.
pub(crate) const FEATURES: &str = "jetstream,postgres";

/// The options of the task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a debug build is packed, which is quicker to build.
    pub(crate) is_debug: bool,
    /// The target triple. Without it: static where that can be built here.
    pub(crate) target: Option<String>,
}

impl Options {
    /// Reads the words after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--debug" => options.is_debug = true,
                "--target" => {
                    let target = words.next().ok_or("--target needs a target triple")?;
                    options.target = Some((*target).to_owned());
                }
                other => return Err(format!("unknown option `{other}`")),
            }
        }
        Ok(options)
    }
}

/// What is packed.
pub(crate) struct Release {
    /// The version of the packages.
    pub(crate) version: String,
    /// The target triple of the binary.
    pub(crate) target: String,
    /// The binary. It is stripped before it is packed.
    pub(crate) binary: PathBuf,
    /// The features that it was built with, for the lists of what is in it.
    pub(crate) features: &'static str,
}

/// The packages that were made. A package without a tool to make it is missing.
pub(crate) struct Made {
    pub(crate) archive: PathBuf,
    pub(crate) deb: Option<PathBuf>,
    pub(crate) rpm: Option<PathBuf>,
    /// What to tell of those that are missing.
    pub(crate) remarks: Vec<String>,
}

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
    let binary = binary::build(&choice.triple, options.is_debug)?;
    let metadata = cargo::metadata()?;
    let version = member_version(&metadata, "web-ipc-cli")?;
    let folder: PathBuf = metadata.target_directory.join("dist").into();
    let unstripped = size(&binary)?;
    let release = Release { version, target: choice.triple, binary, features: FEATURES };
    let made = pack(&release, &folder)?;
    println!("dist: the binary has {unstripped} as it was built");
    for remark in &made.remarks {
        println!("dist: {remark}");
    }
    for path in [Some(made.archive), made.deb, made.rpm].into_iter().flatten() {
        println!("dist: {} ({})", path.display(), size(&path)?);
    }
    println!("dist: {}", folder.join(SUMS).display());
    if options.is_debug {
        println!("dist: this is a debug build, to try the packages with; not for release");
    }
    Ok(())
}

/// The file with the checksums of the packages, for `sha256sum --check`.
const SUMS: &str = "SHA256SUMS";

/// Packs a binary in all forms that can be made here, in `folder`, which is emptied first.
pub(crate) fn pack(release: &Release, folder: &Path) -> Result<Made, String> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let epoch = epoch()?;
    let work = tempfile::Builder::new().prefix("web-ipc-dist-").tempdir();
    let work = work.map_err(|error| format!("no temporary directory: {error}"))?;
    let binary = binary::stripped(&release.binary, work.path())?;
    let packages = Packages::of(&release.target, release.features)?;
    let files = tree::Tree::of(release, &binary, &packages, epoch)?;

    let archive = archive::make(release, &files, work.path(), folder, epoch)?;
    let mut remarks = Vec::new();
    let mut made_or_missing = |made: Result<Option<PathBuf>, String>, missing: &str| match made {
        Ok(None) => {
            remarks.push(missing.to_owned());
            Ok(None)
        }
        other => other,
    };
    let deb = deb::make(release, &files, &binary, work.path(), folder, epoch);
    let deb = made_or_missing(deb, "no Debian package: dpkg-deb is not installed")?;
    let rpm = rpm::make(release, &files, work.path(), folder, epoch);
    let rpm = made_or_missing(rpm, "no RPM package: rpmbuild is not installed (Debian: rpm)")?;
    let made = [Some(&archive), deb.as_ref(), rpm.as_ref()];
    let paths: Vec<&PathBuf> = made.into_iter().flatten().collect();
    write_sums(folder, &paths)?;
    Ok(Made { archive, deb, rpm, remarks })
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

fn write_sums(folder: &Path, paths: &[&PathBuf]) -> Result<(), String> {
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

/// The SHA-256 of some bytes, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The size of a file for people: `21.8 MB`.
fn size(path: &Path) -> Result<String, String> {
    let bytes = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    let tenths = bytes / 100_000;
    Ok(format!("{}.{} MB", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let debug = Options { is_debug: true, target: None };
        assert_eq!(Options::parse(&["--debug"]), Ok(debug));
        let target = Options { is_debug: false, target: Some("x86_64-unknown-linux-musl".into()) };
        assert_eq!(Options::parse(&["--target", "x86_64-unknown-linux-musl"]), Ok(target));
        assert!(Options::parse(&["--target"]).is_err());
        assert!(Options::parse(&["--release"]).is_err());
    }

    #[test]
    fn a_checksum_is_that_of_sha256sum() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}

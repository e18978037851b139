//! The packages that the binary is made of: what cargo says of each, and which uses which.
//!
//! `licences` and `sbom` come here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cargo_metadata::DependencyKind;

use crate::cargo;

/// A package whose code is in the binary.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) licence: String,
    pub(super) description: Option<String>,
    pub(super) authors: Vec<String>,
    pub(super) folder: PathBuf,
    /// Of the archive on the registry, from Cargo.lock. Members of the workspace have none.
    pub(super) checksum: Option<String>,
    /// Those it is linked with, as keys of [`Packages::all`].
    pub(super) uses: BTreeSet<Key>,
}

/// Name and version.
pub(super) type Key = (String, String);

/// The packages, members of the workspace among them.
pub(super) struct Packages {
    pub(super) all: BTreeMap<Key, Package>,
}

/// The program's own package.
pub(super) const ROOT: &str = "web-ipc-cli";

/// Packages of C code that others compile in: build dependencies for cargo, and yet in the binary.
const COMPILED_IN: [&str; 1] = ["openssl-src"];

impl Packages {
    /// Those of the command with these features, for a target.
    pub(super) fn of(target: &str, features: &str) -> Result<Self, String> {
        // A procedural macro is used by the compiler, and is not in the binary.
        let linked = tree(target, features, "normal,no-proc-macro")?;
        let built = tree(target, features, "normal,build,no-proc-macro")?;
        let compiled_in =
            built.into_iter().filter(|(name, _)| COMPILED_IN.contains(&name.as_str()));
        let keys: BTreeSet<Key> = linked.into_iter().chain(compiled_in).collect();
        let lock = super::tool::read(&cargo::workspace_root().join("Cargo.lock"))?;
        let metadata = cargo::metadata_for(target)?;
        let key_of: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|one| (&one.id, (one.name.to_string(), one.version.to_string())))
            .collect();
        let resolve = metadata.resolve.as_ref().ok_or("cargo metadata resolved nothing")?;
        let mut all = BTreeMap::new();
        for package in &metadata.packages {
            let key = key_of[&package.id].clone();
            if !keys.contains(&key) {
                continue;
            }
            let node = resolve.nodes.iter().find(|node| node.id == package.id);
            let used = node.into_iter().flat_map(|node| &node.deps).filter(|used| {
                let kinds = &used.dep_kinds;
                kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            });
            let uses = used.filter_map(|used| key_of.get(&used.pkg)).cloned();
            let uses = uses.filter(|used| keys.contains(used)).collect();
            let folder = package.manifest_path.parent().map(|path| path.as_std_path().to_owned());
            let licence = package.license.as_deref().unwrap_or_default();
            all.insert(
                key.clone(),
                Package {
                    checksum: checksum(&lock, &key),
                    // The older way to write it.
                    licence: licence.replace('/', " OR "),
                    description: package.description.clone(),
                    authors: package.authors.clone(),
                    folder: folder.unwrap_or_default(),
                    uses,
                    name: key.0,
                    version: key.1,
                },
            );
        }
        match keys.iter().find(|key| !all.contains_key(*key)) {
            None => Ok(Self { all }),
            Some((name, version)) => {
                Err(format!("cargo metadata lacks {name} {version}, which cargo tree has"))
            }
        }
    }

    /// The package with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Package> {
        self.all.values().find(|package| package.name == name)
    }
}

/// Names and versions of what the command is built of.
fn tree(target: &str, features: &str, edges: &str) -> Result<BTreeSet<Key>, String> {
    let arguments = [
        "tree",
        "--locked",
        "--package",
        ROOT,
        "--features",
        features,
        "--target",
        target,
        "--edges",
        edges,
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let lines = super::tool::output(&mut cargo::command(&arguments))?;
    Ok(lines.lines().filter_map(key).collect())
}

/// `ring v0.17.14` or `ipc-base v0.1.0 (/path)`.
fn key(line: &str) -> Option<Key> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.to_owned(), version.to_owned()))
}

/// The checksum of a package in Cargo.lock.
fn checksum(lock: &str, (name, version): &Key) -> Option<String> {
    let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let entry = lock.split("[[package]]\n").find(|entry| entry.starts_with(&head))?;
    let line = entry.lines().find_map(|line| line.strip_prefix("checksum = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_read() {
        let expected = ("ring".to_owned(), "0.17.14".to_owned());
        assert_eq!(key("ring v0.17.14"), Some(expected));
        let expected = ("ipc-base".to_owned(), "0.1.0".to_owned());
        assert_eq!(key("ipc-base v0.1.0 (/w/crates/ipc-base)"), Some(expected));
        assert_eq!(key(""), None);
    }

    #[test]
    fn a_checksum_is_that_of_the_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"aa\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nchecksum = \"bb\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        let of = |name: &str, version: &str| checksum(lock, &(name.to_owned(), version.to_owned()));
        assert_eq!(of("a", "2.0.0").as_deref(), Some("bb"));
        assert_eq!(of("b", "1.0.0"), None);
        assert_eq!(of("c", "1.0.0"), None);
    }
}

//! Reads the input of the checks of `tidy`: cargo's view of the workspace, and files.
//!
//! This file does no checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, TargetKind};

use super::circles::Target;
use super::edges::{Graph, Member, Node};
use super::published::Listing;

/// A text file, with its path below the workspace root.
pub(super) struct TextFile {
    pub(super) path: String,
    pub(super) text: String,
}

/// The members, each with the other members that it depends on outside its tests and build scripts.
pub(super) fn members(metadata: &Metadata) -> Vec<Member> {
    let packages = metadata.workspace_packages();
    let is_member = |name: &str| packages.iter().any(|package| package.name.as_str() == name);
    packages
        .iter()
        .map(|package| Member {
            name: package.name.to_string(),
            uses: package
                .dependencies
                .iter()
                .filter(|dependency| {
                    dependency.kind == DependencyKind::Normal && is_member(&dependency.name)
                })
                .map(|dependency| dependency.name.clone())
                .collect(),
        })
        .collect()
}

/// All packages, each with the packages that it is linked with. Dependencies of build scripts and
/// tests are left out.
pub(super) fn graph(metadata: &Metadata) -> Result<Graph, String> {
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.repr.as_str(), package.name.as_str()))
        .collect();
    let resolve = metadata.resolve.as_ref().ok_or("cargo metadata resolved nothing")?;
    Ok(resolve
        .nodes
        .iter()
        .map(|node| {
            let links = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                .map(|dep| dep.pkg.repr.clone())
                .collect();
            let name = names.get(node.id.repr.as_str()).copied().unwrap_or_default().to_owned();
            (node.id.repr.clone(), Node { name, links })
        })
        .collect())
}

/// The members' `Cargo.toml` files.
pub(super) fn manifests(metadata: &Metadata) -> Result<Vec<TextFile>, String> {
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let path = package
                .manifest_path
                .strip_prefix(&metadata.workspace_root)
                .unwrap_or(&package.manifest_path)
                .to_string();
            Ok(TextFile { path, text: text(package.manifest_path.as_std_path())? })
        })
        .collect()
}

/// What a registry shows of the members.
pub(super) fn listings(metadata: &Metadata) -> Vec<Listing> {
    let members = members(metadata).into_iter();
    let packages = metadata.workspace_packages();
    let of = |name: &str| packages.iter().find(|package| package.name.as_str() == name);
    members
        .filter_map(|member| {
            let package = of(&member.name)?;
            let folder = package.manifest_path.parent()?;
            let readme = package.readme.iter().filter(|path| folder.join(path).is_file());
            let readme = readme.filter_map(|path| path.file_name().map(str::to_owned));
            let others = fs::read_dir(folder).into_iter().flatten().flatten();
            let others = others.filter(|file| file.path().is_file());
            let others = others.map(|file| file.file_name().to_string_lossy().into_owned());
            Some(Listing {
                is_published: package.publish.as_ref().is_none_or(|to| !to.is_empty()),
                has_description: package.description.is_some(),
                keywords: package.keywords.len(),
                categories: package.categories.len(),
                files: readme.chain(others).collect(),
                uses: member.uses,
                name: member.name,
            })
        })
        .collect()
}

/// All targets of the members: libraries, binaries, tests, benches and examples.
pub(super) fn targets(metadata: &Metadata) -> Vec<Target> {
    let packages = metadata.workspace_packages();
    let all = packages.iter().flat_map(|package| &package.targets);
    all.map(|target| Target {
        root: below(metadata.workspace_root.as_std_path(), target.src_path.as_std_path()),
        is_test: target
            .kind
            .iter()
            .any(|kind| matches!(kind, TargetKind::Test | TargetKind::Bench)),
    })
    .collect()
}

/// Every `.rs` file of the members, in the order of their paths.
pub(super) fn rust_files(root: &Path) -> Result<Vec<TextFile>, String> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask"] {
        collect_files(root, &root.join(folder), "rs", &mut found)?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Every Markdown page of the workspace, in the order of their paths.
pub(super) fn pages(root: &Path) -> Result<Vec<TextFile>, String> {
    let mut found = Vec::new();
    collect_files(root, root, "md", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Adds every file below `folder` with this extension to `found`, with its path below `root`. Build
/// output and hidden files are left out.
pub(super) fn collect_files(
    root: &Path,
    folder: &Path,
    extension: &str,
    found: &mut Vec<TextFile>,
) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != "target" && !name.starts_with('.') {
                collect_files(root, &path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(TextFile { path: below(root, &path), text: text(&path)? });
        }
    }
    Ok(())
}

/// The path of a file below `root`, with `/` between its parts.
fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Reads the text of a file. The error names the file.
pub(super) fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

//! The licences of everything that is in the binary, as one text.
//!
//! `tree` comes here. A text that several packages have word for word is there once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::packages::{Package, Packages};
use super::tool;

/// Beginnings of the names of files that have a licence, in small letters.
const NAMES: [&str; 6] = ["license", "licence", "copying", "notice", "unlicense", "copyright"];

/// Files of packages that lie deeper: that of OpenSSL itself.
const DEEPER: [(&str, &str); 1] = [("openssl-src", "openssl/LICENSE.txt")];

/// What no package of cargo has: the standard library, which every Rust program holds.
const RUST: &str = include_str!("texts/rust.txt");

/// The C library of a static binary.
const MUSL: &str = include_str!("texts/musl.txt");

/// The text, for a binary of this target.
pub(super) fn text(packages: &Packages, target: &str) -> Result<String, String> {
    let members = |one: &&Package| one.checksum.is_some();
    let mut texts: BTreeMap<String, Vec<&Package>> = BTreeMap::new();
    let mut without = Vec::new();
    let mut list = String::new();
    for package in packages.all.values().filter(members) {
        let _ = writeln!(list, "{} {}: {}", package.name, package.version, package.licence);
        if package.licence.is_empty() {
            return Err(format!("{} names no licence", package.name));
        }
        let files = files(package)?;
        if files.is_empty() {
            without.push(package);
        }
        for file in files {
            texts.entry(tool::read(&file)?.trim().to_owned()).or_default().push(package);
        }
    }
    let mut all = format!(
        "web-ipc holds code of the packages below. Their licences are as named; the texts follow,\n\
         each behind the packages that have it.\n\n{list}\n{}",
        "The Rust standard library: MIT OR Apache-2.0\n"
    );
    if target.contains("musl") {
        all.push_str("musl, the C library: MIT\n");
    }
    let mut texts: Vec<(String, String)> = texts
        .into_iter()
        .map(|(text, packages)| {
            let mut names: Vec<String> =
                packages.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
            names.dedup();
            (names.join(", "), text)
        })
        .collect();
    texts.sort();
    texts.insert(0, ("The Rust standard library".to_owned(), RUST.trim().to_owned()));
    if target.contains("musl") {
        texts.insert(1, ("musl".to_owned(), MUSL.trim().to_owned()));
    }
    for (names, text) in texts {
        let _ = write!(all, "\n{}\n{names}\n\n{text}\n", "=".repeat(80));
    }
    if !without.is_empty() {
        let _ = write!(
            all,
            "\n{}\nThese name their licence and come without its text; LICENSE-MIT and LICENSE-APACHE\n\
             beside this file have the terms:\n\n",
            "=".repeat(80)
        );
        for package in without {
            let authors = package.authors.join(", ");
            let _ = writeln!(
                all,
                "{} {}: {} ({authors})",
                package.name, package.version, package.licence
            );
        }
    }
    Ok(all)
}

/// The files of a package that have its licence.
fn files(package: &Package) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", package.folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&package.folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|beginning| name.starts_with(beginning)) {
            collect(&entry.path(), &mut found)?;
        }
    }
    let deeper = DEEPER.iter().filter(|(name, _)| *name == package.name);
    for (_, path) in deeper {
        let path = package.folder.join(path);
        if !path.is_file() {
            return Err(format!("{} is missing", path.display()));
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}

/// A file, or those of a folder such as `LICENSES`.
fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    if path.is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    let failed = |error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(path).map_err(failed)? {
        collect(&entry.map_err(failed)?.path(), found)?;
    }
    Ok(())
}

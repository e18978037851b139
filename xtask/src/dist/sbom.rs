//! The software bill of materials, as CycloneDX 1.5 in JSON.
//!
//! `tree` comes here. Besides the packages of cargo it names what they compile in and scanners look
//! for under another name: OpenSSL and SQLite.

use serde_json::{Value, json};

use super::packages::{Package, Packages, ROOT};
use super::release::{Release, sha256};
use super::tool;

/// The document.
pub(super) fn json(release: &Release, packages: &Packages, epoch: u64) -> Result<String, String> {
    let root = packages.named(ROOT).ok_or("the command is not among its packages")?;
    let mut components: Vec<Value> =
        packages.all.values().filter(|one| one.name != ROOT).map(component).collect();
    let compiled_in = compiled_in(packages)?;
    let mut dependencies: Vec<Value> =
        packages.all.values().map(|package| dependency(package, &compiled_in)).collect();
    for code in &compiled_in {
        components.push(json!({
            "type": "library",
            "bom-ref": code.reference(),
            "name": code.name,
            "version": code.version,
            "licenses": [code.licence.clone()],
            "purl": code.reference(),
            "cpe": format!("cpe:2.3:a:{0}:{0}:{1}:*:*:*:*:*:*:*", code.name, code.version),
        }));
        dependencies.push(json!({ "ref": code.reference() }));
    }
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(epoch),
            "tools": { "components": [{ "type": "application", "name": "cargo xtask dist" }] },
            "component": {
                "type": "application",
                "bom-ref": reference(root),
                "name": "web-ipc",
                "version": release.version,
                "description": root.description,
                "licenses": [{ "expression": root.licence }],
                "properties": [{ "name": "target", "value": release.target }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    // Of the same content the same number.
    let digits = sha256(document.to_string().as_bytes());
    let serial = format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..32]
    );
    document["serialNumber"] = serial.into();
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|error| error.to_string())
}

/// C code that a package compiles in.
struct CompiledIn {
    by: &'static str,
    name: &'static str,
    version: String,
    licence: Value,
}

impl CompiledIn {
    fn reference(&self) -> String {
        format!("pkg:generic/{}@{}", self.name, self.version)
    }
}

fn compiled_in(packages: &Packages) -> Result<Vec<CompiledIn>, String> {
    let mut found = Vec::new();
    if let Some(package) = packages.named("openssl-src") {
        // The version of the package has that of OpenSSL behind a plus sign.
        let version = package.version.split_once('+').map(|(_, version)| version.to_owned());
        found.push(CompiledIn {
            by: "openssl-src",
            name: "openssl",
            version: version.ok_or("the version of openssl-src names no version of OpenSSL")?,
            licence: json!({ "license": { "id": "Apache-2.0" } }),
        });
    }
    if let Some(package) = packages.named("libsqlite3-sys") {
        let header = tool::read(&package.folder.join("sqlite3/sqlite3.h"))?;
        found.push(CompiledIn {
            by: "libsqlite3-sys",
            name: "sqlite",
            version: sqlite_version(&header).ok_or("sqlite3.h has no SQLITE_VERSION")?,
            licence: json!({ "license": { "id": "blessing" } }),
        });
    }
    Ok(found)
}

/// The version in SQLite's header.
fn sqlite_version(header: &str) -> Option<String> {
    let line = header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "))?;
    Some(line.trim().trim_matches('"').to_owned())
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "licenses": [{ "expression": package.licence }],
    });
    if let Some(description) = &package.description {
        component["description"] = description.trim().into();
    }
    // Members of this workspace are on no registry.
    if let Some(checksum) = &package.checksum {
        component["purl"] = reference(package).into();
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn dependency(package: &Package, compiled_in: &[CompiledIn]) -> Value {
    let used = package.uses.iter().map(|(name, version)| reference_of(name, version));
    let inside = compiled_in.iter().filter(|code| code.by == package.name);
    let all: Vec<String> = used.chain(inside.map(CompiledIn::reference)).collect();
    json!({ "ref": reference(package), "dependsOn": all })
}

fn reference(package: &Package) -> String {
    reference_of(&package.name, &package.version)
}

/// A package URL. A plus sign, as in a version with build metadata, is written `%2B`.
fn reference_of(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// A time as RFC 3339 has it, in UTC.
fn timestamp(epoch: u64) -> String {
    let (days, secs) = (epoch / 86_400, epoch % 86_400);
    // The algorithm `civil_from_days` of Howard Hinnant, for dates after 1970.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".into(),
            licence: "MIT".into(),
            description: None,
            authors: Vec::new(),
            folder: "/".into(),
            checksum: (name != ROOT).then(|| "aa".repeat(32)),
            uses: uses.iter().map(|used| ((*used).to_owned(), "1.0.0".to_owned())).collect(),
        }
    }

    fn document() -> Value {
        let all = [package(ROOT, &["a"]), package("a", &[])];
        let all: BTreeMap<_, _> =
            all.into_iter().map(|one| ((one.name.clone(), one.version.clone()), one)).collect();
        let release = Release {
            version: "1.2.3".into(),
            target: "t".into(),
            binary: "b".into(),
            features: "",
        };
        serde_json::from_str(&json(&release, &Packages { all }, 0).unwrap()).unwrap()
    }

    #[test]
    fn the_document_has_what_the_schema_requires() {
        let document = document();
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(document["specVersion"], "1.5");
        assert_eq!(document["metadata"]["component"]["version"], "1.2.3");
        for component in document["components"].as_array().unwrap() {
            assert!(component["type"].is_string() && component["name"].is_string());
        }
        let serial = document["serialNumber"].as_str().unwrap();
        assert_eq!(serial.len(), "urn:uuid:".len() + 36, "{serial}");
    }

    #[test]
    fn every_reference_is_that_of_a_component() {
        let document = document();
        let components = document["components"].as_array().unwrap().iter();
        let known: Vec<&Value> = components
            .chain([&document["metadata"]["component"]])
            .map(|component| &component["bom-ref"])
            .collect();
        for dependency in document["dependencies"].as_array().unwrap() {
            assert!(known.contains(&&dependency["ref"]), "{dependency}");
            for used in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&used), "{used}");
            }
        }
    }

    #[test]
    fn a_time_is_written_as_the_calendar_has_it() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_795_880_330), "2026-11-28T15:38:50Z");
    }

    #[test]
    fn the_version_of_sqlite_is_in_its_header() {
        let header = "/* x */\n#define SQLITE_VERSION        \"3.51.1\"\n#define SQLITE_VERSION_NUMBER 3051001\n";
        assert_eq!(sqlite_version(header).as_deref(), Some("3.51.1"));
    }
}

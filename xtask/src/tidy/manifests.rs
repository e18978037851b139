//! Checks that every member's `Cargo.toml` inherits the workspace's lints and versions.
//!
//! `tidy` comes here with the text of one manifest. This file reads only the TOML that manifests of
//! this workspace use.

use super::read::TextFile;

/// The problems of one member's manifest.
pub(super) fn problems(file: &TextFile) -> Vec<String> {
    let mut problems = Vec::new();
    let mut inherits_lints = false;
    // The NAME of a table `[dependencies.NAME]` that has not shown `workspace = true` yet.
    let mut open_table: Option<String> = None;
    let mut section = String::new();
    for line in
        file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            problems.extend(open_table.take().map(|name| not_inherited(&file.path, &name)));
            section = header.trim().to_owned();
            open_table = table_of_one_dependency(&section);
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        if section == "lints" && key == "workspace" && value == "true" {
            inherits_lints = true;
        }
        if open_table.is_some() {
            if key == "workspace" && value == "true" {
                open_table = None;
            }
        } else if section.ends_with("dev-dependencies") && is_member(key) {
            if !value.contains("path = ") || value.contains("version = ") {
                problems.push(format!(
                    "{}: {key} must be named by its path alone: with a version it would have to be published first",
                    file.path
                ));
            }
        } else if lists_dependencies(&section) {
            let inherits = (key.ends_with(".workspace") && value == "true")
                || value.contains("workspace = true");
            // `NAME.features = […]` only adds to another line of this dependency.
            if !inherits && !key.contains('.') {
                problems.push(not_inherited(&file.path, key));
            } else if key.ends_with(".version") || key.ends_with(".path") {
                problems.push(not_inherited(&file.path, key.split('.').next().unwrap_or(key)));
            }
        }
    }
    problems.extend(open_table.map(|name| not_inherited(&file.path, &name)));
    if !inherits_lints {
        problems.push(format!("{}: `[lints]` with `workspace = true` is missing", file.path));
    }
    problems
}

fn not_inherited(path: &str, name: &str) -> String {
    format!("{path}: {name} must be `workspace = true`; only the root Cargo.toml has its version")
}

/// Whether a dependency is a member of this workspace, however it is named.
fn is_member(key: &str) -> bool {
    let name = key.split('.').next().unwrap_or(key);
    name.starts_with("ipc-") || name == "web-ipc"
}

fn lists_dependencies(section: &str) -> bool {
    section.ends_with("dependencies")
}

fn table_of_one_dependency(section: &str) -> Option<String> {
    let (before, name) = section.rsplit_once('.')?;
    (lists_dependencies(before) && !lists_dependencies(name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        problems(&TextFile { path: "Cargo.toml".into(), text: text.into() })
    }

    const LINTS: &str = "[package]\nname = \"x\"\n[lints]\nworkspace = true\n";

    #[test]
    fn inherited_lints_and_versions_are_good() {
        let good = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"c\"] }\n\
                    [dev-dependencies.d]\nworkspace = true\n[target.'cfg(unix)'.dependencies]\ne.workspace = true\n";
        assert!(found(&format!("{LINTS}{good}")).is_empty());
    }

    #[test]
    fn tests_name_a_member_by_its_path_alone() {
        let dev = |line: &str| found(&format!("{LINTS}[dev-dependencies]\n{line}\n"));
        assert!(dev("ipc-setup = { path = \"../ipc-setup\", features = [\"x\"] }").is_empty());
        for wrong in [
            "ipc-setup.workspace = true",
            "ipc-setup = { workspace = true }",
            "web-ipc = { path = \"../web-ipc\", version = \"1\" }",
        ] {
            let found = dev(wrong);
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        }
        let used = format!("{LINTS}[dependencies]\nipc-setup = {{ path = \"../ipc-setup\" }}\n");
        assert_eq!(found(&used).len(), 1);
    }

    #[test]
    fn missing_lints_are_found() {
        assert_eq!(
            found("[package]\nname = \"x\"\n"),
            ["Cargo.toml: `[lints]` with `workspace = true` is missing"]
        );
    }

    #[test]
    fn lints_of_its_own_are_found() {
        assert_eq!(found("[lints]\nrust.unsafe_code = \"allow\"\n").len(), 1);
    }

    #[test]
    fn versions_of_its_own_are_found_in_every_spelling() {
        for own in [
            "[dependencies]\na = \"1.0\"\n",
            "[dev-dependencies]\na = { version = \"1\", features = [] }\n",
            "[build-dependencies]\na.version = \"1\"\n",
            "[dependencies.a]\nversion = \"1\"\n",
            "[target.'cfg(unix)'.dependencies]\na = \"1\"\n",
            "[target.'cfg(unix)'.dependencies.a]\nversion = \"1\"\n[features]\nx = []\n",
            "[dependencies]\na = { path = \"../a\" }\n",
        ] {
            let found = found(&format!("{LINTS}{own}"));
            assert_eq!(found.len(), 1, "{own}: {found:?}");
            assert!(found[0].contains(": a must be"), "{own}: {found:?}");
        }
    }
}

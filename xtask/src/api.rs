//! `cargo xtask api`: compares the public API of each library with `docs/api`.
//!
//! People and `cargo xtask test` come here. `docs/api/CRATE.txt` lists every public item of a
//! crate, with all features, one on each line. A change of the API changes that file, so a reviewer
//! sees it. `cargo public-api` makes the list from rustdoc's JSON. Both formats depend on versions,
//! so this file pins the versions of both tools.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo;
use crate::counts::Counts;

/// The folder with the lists.
const LISTS: &str = "docs/api";

/// The libraries that RELEASING.md publishes, lowest layer first.
const CRATES: [&str; 17] = [
    "ipc-base",
    "ipc-envelope",
    "ipc-protocol",
    "ipc-pickle",
    "ipc-sqlite",
    "ipc-store",
    "ipc-pki",
    "ipc-home",
    "ipc-store-postgres",
    "ipc-inbox",
    "ipc-inbox-jetstream",
    "ipc-server",
    "ipc-client",
    "ipc-setup",
    "ipc-renewal",
    "ipc-monitor",
    "web-ipc",
];

/// The versions of the tools that make the lists. rustc 1.95 writes format 57 of rustdoc's JSON,
/// which cargo-public-api 0.52.0 reads if it is installed with `--locked`.
const VERSIONS: [(&[&str], &str); 2] = [
    (&["rustc", "--version"], "rustc 1.95."),
    (&["cargo", "public-api", "--version"], "cargo-public-api 0.52.0"),
];

/// The command that installs this version.
const INSTALL: &str = "cargo install --locked cargo-public-api@0.52.0";

/// Marker traits that stable code cannot name. They come and go with the compiler.
const UNSTABLE_MARKERS: [&str; 3] = [
    "core::marker::Freeze for ",
    "core::marker::StructuralPartialEq for ",
    "core::marker::UnsafeUnpin for ",
];

/// Compares all lists, or writes them, and prints the result. Returns true on success. Missing
/// tools are a failure here, since the user asked for this task.
pub(crate) fn run_alone(bless: bool) -> bool {
    if let Err(reason) = are_tools_there() {
        println!("api: {reason}");
        return false;
    }
    let counts = if bless { write_all() } else { compare_all() };
    println!("api: {counts}");
    counts.failed == 0 && counts.passed > 0
}

/// Compares all lists and prints the differences. Without the tools the comparison is skipped.
pub(crate) fn run() -> Counts {
    match are_tools_there() {
        Ok(()) => compare_all(),
        Err(reason) => {
            println!("skipped: {reason}; see CONTRIBUTING.md");
            Counts { skipped: 1, ..Counts::default() }
        }
    }
}

/// Checks the tools. The error is the reason why the lists cannot be made here: a missing tool or
/// another version.
fn are_tools_there() -> Result<(), String> {
    for (command, wanted) in VERSIONS {
        check_version(wanted, &output_of(command).unwrap_or_default())?;
    }
    Ok(())
}

fn check_version(wanted: &str, version: &str) -> Result<(), String> {
    if version.starts_with(wanted) {
        return Ok(());
    }
    let found = match version.lines().next() {
        None => "it is not installed".to_owned(),
        Some(version) => format!("this is {version}"),
    };
    let wanted = wanted.trim_end_matches('.');
    Err(format!("the lists are made with {wanted}, and {found} ({INSTALL})"))
}

/// The stdout of a command, or `None` if it fails.
fn output_of(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(cargo::workspace_root()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn compare_all() -> Counts {
    let mut counts = Counts::default();
    for_each_crate(|name, result| {
        let problems = result.and_then(|list| {
            let recorded = fs::read_to_string(path_of(name))
                .map_err(|error| format!("{LISTS}/{name}.txt: {error}"))?;
            Ok(differences(&recorded, &list))
        });
        let problems = problems.unwrap_or_else(|error| vec![error]);
        println!("api: {name} ... {}", if problems.is_empty() { "ok" } else { "FAILED" });
        for problem in &problems {
            println!("    {problem}");
        }
        counts += Counts::one(problems.is_empty());
    });
    let files = file_names();
    let strangers = strangers(&files);
    for name in &strangers {
        println!("api: {LISTS}/{name} belongs to no library");
    }
    counts += Counts::one(strangers.is_empty());
    if counts.failed > 0 {
        println!(
            "api: if you meant the change, write the lists with `cargo xtask api --bless`, and describe what breaks callers in \
             CHANGELOG.md"
        );
    }
    counts
}

fn write_all() -> Counts {
    let mut counts = Counts::default();
    for_each_crate(|name, result| {
        let path = path_of(name);
        let written = result.and_then(|list| {
            let made = fs::create_dir_all(cargo::workspace_root().join(LISTS));
            made.and_then(|()| fs::write(&path, list))
                .map_err(|error| format!("{LISTS}/{name}.txt: {error}"))
        });
        match &written {
            Ok(()) => println!("api: {LISTS}/{name}.txt"),
            Err(error) => println!("api: {name} ... FAILED\n    {error}"),
        }
        counts += Counts::one(written.is_ok());
    });
    counts
}

fn path_of(name: &str) -> std::path::PathBuf {
    cargo::workspace_root().join(LISTS).join(format!("{name}.txt"))
}

/// The names of all files in the folder of the lists.
fn file_names() -> Vec<String> {
    let entries = fs::read_dir(cargo::workspace_root().join(LISTS));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The files that belong to no library, such as the list of a removed crate.
fn strangers(file_names: &[String]) -> Vec<&str> {
    let is_list = |file: &str| file.strip_suffix(".txt").is_some_and(|name| CRATES.contains(&name));
    let mut strangers: Vec<&str> =
        file_names.iter().map(String::as_str).filter(|file| !is_list(file)).collect();
    strangers.sort_unstable();
    strangers
}

/// Makes the list of each library, in order, and passes it, or the error, to `take`.
fn for_each_crate(mut take: impl FnMut(&str, Result<String, String>)) {
    let target = cargo::metadata().map(|metadata| metadata.target_directory.into_std_path_buf());
    for name in CRATES {
        take(name, target.clone().and_then(|target| list_of(name, &target)));
    }
}

/// The public items of a library, one on each line.
fn list_of(name: &str, target: &Path) -> Result<String, String> {
    let mut rustdoc = cargo::command(&["rustdoc", "-q", "-p", name, "--lib", "--all-features"]);
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // Nobody reads the pages made here, so their warnings do not matter.
    rustdoc.args(["--cap-lints", "allow"]);
    // Stable rustdoc refuses to write JSON. The script enables it, for rustdoc alone.
    rustdoc.env("RUSTDOC", cargo::workspace_root().join("scripts/rustdoc-json.sh"));
    let status = rustdoc.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err("`cargo rustdoc` failed".to_owned());
    }
    let json = target.join("doc").join(format!("{}.json", name.replace('-', "_")));
    let mut public_api = cargo::command(&["public-api", "-s", "--color=never", "--rustdoc-json"]);
    let output = public_api.arg(json).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err("`cargo public-api` failed".to_owned());
    }
    Ok(stable_lines(&String::from_utf8_lossy(&output.stdout)))
}

/// The list without the lines that change with the compiler rather than the library.
fn stable_lines(list: &str) -> String {
    let mut stable = String::with_capacity(list.len());
    for line in list.lines() {
        if !UNSTABLE_MARKERS.iter().any(|marker| line.contains(marker)) {
            stable.push_str(line);
            stable.push('\n');
        }
    }
    stable
}

/// The lines that were removed (`-`) and added (`+`), in the order of the lists.
fn differences(recorded: &str, now: &str) -> Vec<String> {
    if recorded == now {
        return Vec::new();
    }
    let mut differences = surplus(recorded, now, '-');
    differences.extend(surplus(now, recorded, '+'));
    if differences.is_empty() {
        differences.push("the same lines are in another order".to_owned());
    }
    differences
}

/// The lines of `list` that `other` lacks, or has less often.
fn surplus(list: &str, other: &str, sign: char) -> Vec<String> {
    let mut others: HashMap<&str, usize> = HashMap::new();
    for line in other.lines() {
        *others.entry(line).or_default() += 1;
    }
    let mut surplus = Vec::new();
    for line in list.lines() {
        match others.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => surplus.push(format!("{sign} {line}")),
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACE: &str = "pub fn a::f()\npub fn a::g(u8)\npub fn a::g(u8)\n";

    #[test]
    fn an_unchanged_face_has_no_differences() {
        assert!(differences(FACE, FACE).is_empty());
    }

    #[test]
    fn what_went_and_what_came_is_shown() {
        let now = "pub fn a::f()\npub fn a::g(u16)\npub fn a::g(u8)\n";
        assert_eq!(differences(FACE, now), ["- pub fn a::g(u8)", "+ pub fn a::g(u16)"]);
        assert_eq!(differences(FACE, "").len(), 3);
        assert_eq!(differences("", FACE).len(), 3);
    }

    #[test]
    fn another_order_or_a_missing_line_end_is_a_difference() {
        let turned = "pub fn a::g(u8)\npub fn a::g(u8)\npub fn a::f()\n";
        assert_eq!(differences(FACE, turned).len(), 1);
        assert_eq!(differences(FACE, FACE.trim_end()).len(), 1);
    }

    #[test]
    fn traits_that_stable_code_cannot_name_are_left_out() {
        let list = "impl !core::marker::Freeze for a::A\nimpl core::marker::Send for a::A\n\
                    impl<T> core::marker::UnsafeUnpin for a::B<T>\n";
        assert_eq!(stable_lines(list), "impl core::marker::Send for a::A\n");
    }

    #[test]
    fn another_version_and_a_missing_tool_are_told_with_what_to_install() {
        assert_eq!(check_version("rustc 1.95.", "rustc 1.95.2 (5980 2026)\n"), Ok(()));
        let newer = check_version("rustc 1.95.", "rustc 1.96.0 (abc)\n").unwrap_err();
        assert!(newer.contains("made with rustc 1.95, and this is rustc 1.96.0 (abc)"), "{newer}");
        let missing = check_version("cargo-public-api 0.52.0", "").unwrap_err();
        assert!(missing.contains("it is not installed"), "{missing}");
        assert!(missing.contains(INSTALL), "{missing}");
    }

    #[test]
    fn the_list_of_a_crate_that_is_gone_is_found() {
        let files = ["ipc-old.txt", "web-ipc.txt", "README.md"].map(str::to_owned);
        assert_eq!(strangers(&files), ["README.md", "ipc-old.txt"]);
    }

    #[test]
    fn every_library_has_its_list() {
        for name in CRATES {
            assert!(path_of(name).is_file(), "{LISTS}/{name}.txt: `cargo xtask api --bless`");
        }
    }
}

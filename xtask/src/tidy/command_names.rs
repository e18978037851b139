//! Refuses libraries whose texts name a command of the CLI.
//!
//! `tidy` comes here with the texts that `module_tree` found. A program that uses a library has
//! other commands, or none. So a library returns the remedy for an error as data, and only the CLI
//! turns it into a command, with `--home` and quotes where needed.

use super::module_tree::{self, Files, Text};

/// The programs, which may name their own commands.
const PROGRAMS: [&str; 2] = ["crates/web-ipc-cli/", "crates/ipc-bench/"];

/// The beginning of a command.
const COMMAND: &str = "web-ipc --";

/// The places where a library, tests apart, names a command in its strings. `root` is the root file
/// of a target. Targets that are not libraries have no problems.
pub(super) fn problems(files: &Files<'_>, root: &str) -> Vec<String> {
    let is_library = root.starts_with("crates/") && root.ends_with("/src/lib.rs");
    if !is_library || PROGRAMS.iter().any(|program| root.starts_with(program)) {
        return Vec::new();
    }
    let texts = module_tree::texts(files, root).into_iter();
    let said = |Text { file, line, .. }| {
        format!("{file}:{line}: names a command of the CLI; return the remedy as data")
    };
    texts.filter(|text| on_one_line(&text.text).contains(COMMAND)).map(said).collect()
}

/// A string without its backslash line breaks.
fn on_one_line(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + part.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = "crates/a/src/lib.rs";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        problems(&files.iter().copied().collect(), files[0].0)
    }

    #[test]
    fn a_command_in_a_string_is_told_with_its_place() {
        assert_eq!(
            found(&[(LIBRARY, "fn a() {\n    say(\"run web-ipc --init\");\n}\n")]),
            ["crates/a/src/lib.rs:2: names a command of the CLI; return the remedy as data"]
        );
        let in_a_child =
            [(LIBRARY, "mod b;"), ("crates/a/src/b.rs", "const C: &str = \"web-ipc --x\";")];
        assert!(found(&in_a_child)[0].starts_with("crates/a/src/b.rs:1:"));
    }

    #[test]
    fn a_command_is_found_however_the_string_is_written() {
        for source in [
            r#"const A: &str = r"run web-ipc --init";"#,
            r#"#[error("run web-ipc --init")] struct A;"#,
            r#"enum A { #[error("run web-ipc --init")] B }"#,
            r#"macro_rules! a { () => { "web-ipc --a" }; }"#,
            "fn a() { b(\"run web-ipc \\\n        --init\") }",
            r#"mod b { fn c() { d!("web-ipc --x {}", 1) } }"#,
            r#"fn a() { match b { C => "web-ipc --x", } }"#,
            r#"use d::e; fn a() { Self::new("web-ipc --x") }"#,
        ] {
            assert_eq!(found(&[(LIBRARY, source)]).len(), 1, "{source}");
        }
    }

    #[test]
    fn comments_tests_and_other_words_are_no_commands() {
        for source in [
            "//! Run `web-ipc --init`.\n",
            "/// As `web-ipc --init` does.\nfn a() {} // web-ipc --x\n/* web-ipc --x */",
            r#"#[cfg(test)] mod tests { const A: &str = "web-ipc --init"; }"#,
            r#"#[cfg(test)] #[error("web-ipc --init")] struct A;"#,
            r#"const A: &str = "web-ipc"; const B: &str = "web-ipc-cli --x";"#,
        ] {
            assert!(found(&[(LIBRARY, source)]).is_empty(), "{source}");
        }
        let tests = ("crates/a/src/tests.rs", "const A: &str = \"web-ipc --init\";");
        assert!(found(&[(LIBRARY, "#[cfg(test)] mod tests;"), tests]).is_empty());
        assert_eq!(found(&[(LIBRARY, "mod tests;"), tests]).len(), 1);
    }

    #[test]
    fn programs_tests_and_examples_may_name_commands() {
        for root in [
            "crates/web-ipc-cli/src/lib.rs",
            "crates/ipc-bench/src/lib.rs",
            "crates/a/src/main.rs",
            "crates/a/tests/api/main.rs",
            "crates/a/examples/b.rs",
            "xtask/src/main.rs",
        ] {
            assert!(found(&[(root, "const A: &str = \"web-ipc --init\";")]).is_empty(), "{root}");
        }
    }
}

//! What every source file must have, and must not have.
//!
//! `tidy` comes here with one file's path and text.

use super::read::TextFile;

/// Put together here, so that this file does not find itself.
const UNDONE: [&str; 2] = [concat!("to", "do!"), concat!("unim", "plemented!")];

/// Says so when a file outside tests does not open with what it is for.
pub(super) fn missing_module_docs(file: &TextFile) -> Option<String> {
    let is_test = file.path.split('/').any(|folder| folder == "tests");
    (!is_test && !file.text.starts_with("//!")).then(|| {
        format!(
            "{}: must begin with `//!`: what the room is for, who comes in, what it must not know",
            file.path
        )
    })
}

/// Says where a file panics instead of doing its work.
pub(super) fn left_undone(file: &TextFile) -> Vec<String> {
    file.text
        .lines()
        .enumerate()
        .flat_map(|(number, line)| {
            UNDONE
                .iter()
                .filter(move |undone| line.contains(**undone))
                .map(move |undone| format!("{}:{}: {undone}", file.path, number + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_file_that_says_what_it_is_for_is_good() {
        assert!(missing_module_docs(&file("crates/a/src/lib.rs", "//! A.\n")).is_none());
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_found() {
        for text in ["", "use std::fs;\n//! Late.\n", "// A.\n", "\n//! A.\n"] {
            assert!(missing_module_docs(&file("crates/a/src/lib.rs", text)).is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_test_need_not_say_what_it_is_for_and_a_folder_named_alike_must() {
        assert!(missing_module_docs(&file("crates/a/tests/api/main.rs", "")).is_none());
        assert!(missing_module_docs(&file("crates/a/src/my_tests/a.rs", "")).is_some());
    }

    #[test]
    fn what_is_left_undone_is_found_with_its_line() {
        let text = format!("fn a() {{\n    {}()\n}}\n", UNDONE[0]);
        assert_eq!(left_undone(&file("a.rs", &text)), [format!("a.rs:2: {}", UNDONE[0])]);
        assert_eq!(left_undone(&file("a.rs", UNDONE[1])).len(), 1);
        assert!(left_undone(&file("a.rs", "fn a() {}\n")).is_empty());
    }
}

//! Checks what every source file must have and must not have.
//!
//! `tidy` comes here with the path and the text of one file.

use super::read::TextFile;

/// Put together from parts, so that the check does not find this file.
const UNDONE: [&str; 2] = [concat!("to", "do!"), concat!("unim", "plemented!")];

/// The problem of a file outside tests that does not begin with a module comment.
pub(super) fn missing_module_docs(file: &TextFile) -> Option<String> {
    let is_test = file.path.split('/').any(|folder| folder == "tests");
    (!is_test && !file.text.starts_with("//!")).then(|| {
        format!(
            "{}: must begin with `//!`: the purpose of the file, which files call it, and what it must not know",
            file.path
        )
    })
}

/// The lines of a file that panic instead of doing their work.
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

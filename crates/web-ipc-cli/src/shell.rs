//! Quotes words and commands so that they can be pasted into a shell.
//!
//! Code that shows a path or a command comes here. Nothing is run here.

use std::path::Path;

/// A path or another text as one word for a POSIX shell. It is quoted only if it must be.
pub(crate) fn shell_quoted(word: impl AsRef<Path>) -> String {
    let text = word.as_ref().display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@' | ',');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A command of this program, with the `--home` that the user gave.
pub(crate) fn command(home: Option<&Path>, arguments: &str) -> String {
    match home {
        Some(home) => format!("web-ipc --home {} {arguments}", shell_quoted(home)),
        None => format!("web-ipc {arguments}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_or_a_leading_hyphen_is_one_shell_word() {
        assert_eq!(shell_quoted("/a/it's"), r"'/a/it'\''s'");
        assert_eq!(shell_quoted("-rf"), "'-rf'");
        assert_eq!(shell_quoted("/plain/path.d"), "/plain/path.d");
    }

    #[test]
    fn a_command_names_the_home_that_the_user_named() {
        assert_eq!(command(None, "--init --run"), "web-ipc --init --run");
        let home = Some(Path::new("/my home"));
        assert_eq!(command(home, "--init --run"), "web-ipc --home '/my home' --init --run");
    }
}

//! Pages of the manual, in the language of man(7), made from the same source as `--help`.
//!
//! `args.rs` comes here for `--manual`, and packages are made with it: one page for the program,
//! and one for each command.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::usage_error::usage_of;

/// The page of the program, or of one of its commands. `whole` is built.
pub(super) fn page(whole: &Command, command: Option<&Command>) -> String {
    let subject = command.unwrap_or(whole);
    let name = match command {
        Some(command) => format!("web-ipc-{}", command.get_name()),
        None => "web-ipc".to_owned(),
    };
    let about = subject.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = format!(
        ".TH {} 1 \"\" \"web\\-ipc {}\" \"web\\-ipc\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        escaped(&name.to_uppercase()),
        escaped(env!("CARGO_PKG_VERSION")),
        escaped(&name),
        escaped(about.split(": ").next().unwrap_or(&about)),
    );
    let _ = writeln!(page, ".B {}", escaped(&usage_of(subject)));
    let _ = writeln!(page, ".SH DESCRIPTION\n{}.", escaped(&about));
    if let Some(command) = command {
        let name = command.get_name();
        let spellings = command.get_short_flag().map_or_else(
            || format!("web-ipc {name}"),
            |letter| format!("web-ipc {name}, web-ipc -{letter}"),
        );
        let _ = writeln!(page, ".PP\nAlso written: {}.", escaped(&spellings));
    } else {
        page.push_str(".SH COMMANDS\n");
        for command in whole.get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let short = command.get_short_flag().map(|letter| format!(", -{letter}"));
            let spelt = match command.get_long_flag() {
                Some(long) => format!("--{long}{}", short.unwrap_or_default()),
                None => command.get_name().to_owned(),
            };
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(&spelt), escaped(&about));
        }
    }
    page.push_str(".SH OPTIONS\n");
    for one in subject.get_arguments().filter(|one| !one.is_hide_set()) {
        let _ = writeln!(page, ".TP\n{}\n{}", heading(one), escaped(&help(one)));
    }
    if let Some(after) = subject.get_after_help() {
        page.push_str(".SH NOTES\n");
        notes(&mut page, &after.to_string());
    }
    page.push_str(".SH SEE ALSO\n");
    let others = whole
        .get_subcommands()
        .filter(|one| has_page(one) && Some(one.get_name()) != command.map(Command::get_name));
    let others: Vec<String> = command
        .map(|_| "web-ipc".to_owned())
        .into_iter()
        .chain(others.map(|one| format!("web-ipc-{}", one.get_name())))
        .map(|name| format!(".BR {} (1)", escaped(&name)))
        .collect();
    let _ = writeln!(page, "{}", others.join(" ,\n"));
    page
}

/// Whether a command has a page: all that are defined here. clap adds `help`.
pub(super) fn has_page(command: &Command) -> bool {
    command.get_long_flag().is_some()
}

/// `-p, --port PORT`.
fn heading(one: &Arg) -> String {
    let mut heading: Vec<String> =
        one.get_short().map(|short| format!("\\fB\\-{short}\\fR")).into_iter().collect();
    heading.extend(one.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long))));
    let values = match one.get_action().takes_values() {
        true => one.get_value_names().unwrap_or_default(),
        false => &[],
    };
    let values: Vec<String> =
        values.iter().map(|name| format!("\\fI{}\\fR", escaped(name))).collect();
    let mut heading = heading.join(", ");
    if !values.is_empty() {
        let space = if heading.is_empty() { "" } else { " " };
        let _ = write!(heading, "{space}{}", values.join(" "));
    }
    heading
}

/// The help of an option, with what clap shows behind it.
fn help(one: &Arg) -> String {
    let mut help = one.get_help().map(ToString::to_string).unwrap_or_default();
    if !one.get_action().takes_values() {
        return help;
    }
    let default: Vec<_> =
        one.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !default.is_empty() && !one.is_hide_default_value_set() {
        let _ = write!(help, " [default: {}]", default.join(" "));
    }
    let possible = one.get_possible_values();
    let possible: Vec<&str> = possible
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name())
        .collect();
    if !possible.is_empty() {
        let _ = write!(help, " [possible values: {}]", possible.join(", "));
    }
    help
}

/// Paragraphs, of which lines that are indented stay as they are.
fn notes(page: &mut String, text: &str) {
    let mut is_list = false;
    for line in text.lines() {
        let is_indented = line.starts_with("  ");
        if is_indented != is_list {
            page.push_str(if is_indented { ".nf\n" } else { ".fi\n" });
            is_list = is_indented;
        }
        match line.trim().is_empty() {
            true => page.push_str(".PP\n"),
            false => {
                let _ = writeln!(page, "{}", escaped(line));
            }
        }
    }
    if is_list {
        page.push_str(".fi\n");
    }
}

/// Text without what roff would take for a request or an escape. A hyphen of an option must be
/// one that can be searched for and copied.
fn escaped(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::command;
    use super::*;

    #[test]
    fn every_command_has_a_page_with_all_its_options() {
        let mut whole = command();
        whole.build();
        let pages: Vec<&Command> = whole.get_subcommands().filter(|one| has_page(one)).collect();
        assert_eq!(pages.len(), whole.get_subcommands().count() - 1, "all but help");
        for command in pages {
            let page = page(&whole, Some(command));
            assert!(page.starts_with(".TH WEB\\-IPC\\-"), "{page}");
            for long in command.get_arguments().filter_map(Arg::get_long) {
                let shown = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
                assert!(page.contains(&shown), "{}: {long}", command.get_name());
            }
        }
    }

    #[test]
    fn the_page_of_the_program_has_its_commands_and_exit_statuses() {
        let mut whole = command();
        whole.build();
        let page = page(&whole, None);
        for expected in [
            ".B \\-\\-serve, \\-s\n",
            ".nf\n  65  the data",
            ".fi\n.SH SEE ALSO\n",
            ".BR web\\-ipc\\-send (1)",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }

    #[test]
    fn text_is_not_taken_for_a_request() {
        assert_eq!(escaped(".so \\x -y"), "\\&.so \\ex \\-y");
        assert_eq!(escaped("'quoted'"), "\\&'quoted'");
    }
}

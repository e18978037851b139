//! The texts for wrong usage.
//!
//! `args.rs` comes here with clap's error and the arguments. The form is clap's, but the sentences
//! are not: clap repeats an argument that it does not understand, and that may be a password, or
//! have control characters.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use super::configuration::Fault;
use super::spelling::command_word;
use crate::escape::printable;

/// Wrong usage: the whole text for stderr, with exit status 2. It never has what may be a password.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    /// `what` is wrong, `tip` may help, `usage` is the synopsis of the command.
    pub(super) fn new(what: &str, tip: Option<&str>, usage: &str) -> Self {
        let tip = tip.map(|tip| format!("  tip: {tip}\n\n")).unwrap_or_default();
        Self(format!(
            "error: {what}\n\n{tip}Usage: {usage}\n\nFor more information, try '--help'.\n"
        ))
    }

    /// A configuration with which the command does not run.
    pub(super) fn configuration(faults: &[Fault]) -> Self {
        let lines: String = faults.iter().map(|fault| format!("error: {fault}\n")).collect();
        Self(format!("{lines}\n  tip: web-ipc --config --check lists every fault\n"))
    }

    /// The same for a command line of which a part was configured.
    pub(super) fn with_configured(self) -> Self {
        let Self(text) = self;
        let tip = "Some options are configured: 'web-ipc --config --show' says where.";
        Self(format!("{text}{tip}\n"))
    }

    /// What is wrong, on one line.
    pub(crate) fn sentence(&self) -> String {
        let said: Vec<&str> =
            self.0.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        said.join("; ")
    }

    /// A command without an action: what is missing, and the help. It is an error, so that a script
    /// without the action does not take it for a success.
    pub(super) fn without_action(what: Option<&str>, help: &str) -> Self {
        let what = what.map(|what| format!("error: {what}\n\n")).unwrap_or_default();
        Self(format!("{what}{help}"))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The synopsis of a command: `web-ipc --users [OPTIONS]`.
pub(super) fn usage_of(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.strip_prefix("Usage: ").map(str::to_owned).unwrap_or(usage)
}

/// Explains what clap found wrong with `arguments`.
pub(super) fn explain(command: &Command, arguments: &[OsString], error: &Error) -> UsageError {
    let line = Line::read(command, arguments);
    if let Some(what) = ambiguous(&line, error) {
        return UsageError::new(&what, Some("write more of it"), &usage_of(line.command));
    }
    let (what, tip) = match error.kind() {
        ErrorKind::UnknownArgument => unknown_argument(&line, error),
        ErrorKind::InvalidSubcommand => {
            let name = context(error, ContextKind::InvalidSubcommand);
            let tip = error.get(ContextKind::SuggestedSubcommand).map(|similar| {
                format!("a similar command exists: '{}'", printable(&similar.to_string()))
            });
            (format!("there is no command '{name}'"), tip)
        }
        ErrorKind::InvalidValue if context(error, ContextKind::InvalidValue).is_empty() => {
            let option = context(error, ContextKind::InvalidArg);
            let what = format!("a value is required for '{option}' but none was supplied");
            (what, Some(needs_equals(&option)))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => invalid_value(error),
        ErrorKind::TooManyValues => {
            (format!("'{}' takes no value", context(error, ContextKind::InvalidArg)), None)
        }
        ErrorKind::ArgumentConflict => {
            let name =
                |kind| context(error, kind).split([' ', ',']).next().unwrap_or_default().to_owned();
            let (one, other) = (name(ContextKind::InvalidArg), name(ContextKind::PriorArg));
            (format!("'{one}' and '{other}' cannot be used together"), None)
        }
        ErrorKind::InvalidUtf8 => ("an argument is not UTF-8".to_owned(), None),
        // The commands defined here cause no other kind.
        kind => (kind.as_str().unwrap_or("the arguments cannot be understood").to_owned(), None),
    };
    UsageError::new(&what, tip.as_deref(), &usage_of(line.command))
}

/// Refuses `--users=list` and `-u=list`. clap would take `--users=list` for `--users` and ignore
/// the value.
pub(super) fn refuse_value_of_command(
    command: &Command,
    arguments: &[OsString],
) -> Result<(), UsageError> {
    let Some(word) = command_word(command, arguments).and_then(|at| arguments[at].to_str()) else {
        return Ok(());
    };
    let Some((flag, value)) = word.split_once('=') else { return Ok(()) };
    let mut commands = command.get_subcommands();
    let chosen = match flag.strip_prefix("--") {
        Some(long) => by_prefix(commands, long, Command::get_long_flag),
        None => commands.find(|command| {
            command
                .get_short_flag()
                .is_some_and(|letter| flag.strip_prefix('-') == Some(&letter.to_string()))
        }),
    };
    let Some(chosen) = chosen else { return Ok(()) };
    let name = chosen.get_name();
    let tip = by_prefix(chosen.get_arguments(), value, Arg::get_long)
        .and_then(Arg::get_long)
        .map(|option| format!("write '--{name} --{option}'"));
    let what = format!("'--{name}' picks the command and takes no value");
    Err(UsageError::new(&what, tip.as_deref(), &usage_of(chosen)))
}

/// The error for an ambiguous abbreviation, such as `--se` for `--serve` or `--send`. `None` for
/// any other error.
fn ambiguous(line: &Line<'_>, error: &Error) -> Option<String> {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else { return None };
    if line.valueless.is_some() || line.may_be_secret(word) {
        return None;
    }
    let commands = line.command.get_subcommands();
    let (dashes, stem, names): (_, _, Vec<&str>) = match word.strip_prefix("--") {
        Some(stem) => {
            let options = line.command.get_arguments().filter_map(Arg::get_long);
            ("--", stem, commands.filter_map(Command::get_long_flag).chain(options).collect())
        }
        None => ("", word.as_str(), commands.map(Command::get_name).collect()),
    };
    let meant: Vec<String> = names
        .into_iter()
        .filter(|name| !stem.is_empty() && name.starts_with(stem))
        .map(|name| format!("'{dashes}{name}'"))
        .collect();
    let (last, others) = meant.split_last().filter(|(_, others)| !others.is_empty())?;
    Some(format!("'{dashes}{stem}' may be {} or {last}", others.join(", ")))
}

/// The error for a word that clap takes, but the command does not.
pub(super) fn unexpected(command: &Command, arguments: &[OsString], word: &str) -> UsageError {
    let line = Line::read(command, arguments);
    let (what, tip) = unknown_word(&line, word, None);
    UsageError::new(&what, tip.as_deref(), &usage_of(line.command))
}

/// Whether a word may be a password, or part of one that a shell has split.
pub(super) fn may_be_secret(command: &Command, arguments: &[OsString], word: &str) -> bool {
    Line::read(command, arguments).may_be_secret(word)
}

fn unknown_argument(line: &Line<'_>, error: &Error) -> (String, Option<String>) {
    if let Some(option) = line.valueless {
        let what = format!("a value is required for '{option}' but none was supplied");
        return (what, Some(needs_equals(&option.to_string())));
    }
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    unknown_word(line, word, error.get(ContextKind::SuggestedArg))
}

fn unknown_word(
    line: &Line<'_>,
    word: &str,
    similar: Option<&ContextValue>,
) -> (String, Option<String>) {
    let option = (!word.starts_with('-'))
        .then(|| by_prefix(line.command.get_arguments(), word, Arg::get_long));
    if let Some(long) = option.flatten().and_then(Arg::get_long) {
        return (
            format!("unexpected argument '{}' found", printable(word)),
            Some(format!("write '--{long}'")),
        );
    }
    let may_be_object =
        line.takes_object() && (!word.starts_with('-') || line.has_half_an_object());
    if line.may_be_secret(word) {
        let what =
            "an unexpected argument was found; it is not shown, as it may be part of a password";
        let tip = match may_be_object {
            true => format!("{QUOTED_PASSWORD}, and so does an object: '{EXAMPLE}'"),
            false => QUOTED_PASSWORD.to_owned(),
        };
        return (what.to_owned(), Some(tip));
    }
    let what = format!("unexpected argument '{}' found", shortened(word));
    if may_be_object {
        return (
            what,
            Some(format!("a shell takes an object apart unless it is in quotes: '{EXAMPLE}'")),
        );
    }
    let tip = similar
        .map(|similar| format!("a similar argument exists: '{}'", printable(&similar.to_string())));
    (what, tip.or_else(|| line.belongs_to_a_command(word)))
}

/// The tip for a password that a shell has split.
const QUOTED_PASSWORD: &str =
    "a value with spaces or shell characters needs quotes: --password 'VALUE'";

/// An example of an object, to be put in single quotes in a shell.
const EXAMPLE: &str = r#"{"key": "value"}"#;

/// The most characters of an argument that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// An argument, shortened to less than a line and escaped.
fn shortened(word: &str) -> String {
    let mut shown: String = word.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    printable(&shown)
}

fn invalid_value(error: &Error) -> (String, Option<String>) {
    let option = context(error, ContextKind::InvalidArg);
    let value = context(error, ContextKind::InvalidValue);
    // `-p` is the password of one command and the port of others, so the value may be a password.
    let is_shown =
        !option.starts_with("--port") || value.bytes().all(|byte| !byte.is_ascii_alphabetic());
    let mut what = match is_shown {
        true => format!("invalid value '{value}' for '{option}'"),
        false => format!("invalid value for '{option}'"),
    };
    if let Some(reason) = error.source() {
        what.push_str(&format!(": {}", printable(&reason.to_string())));
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        what.push_str(&format!("\n  [possible values: {}]", values.join(", ")));
    }
    let tip = error
        .get(ContextKind::SuggestedValue)
        .map(|similar| format!("a similar value exists: '{}'", printable(&similar.to_string())));
    (what, tip)
}

/// What a value is not, as a clause: `it takes a whole number from 0 to 65535`. It never has the
/// value. `None` for errors that are not about values.
pub(super) fn reason(error: &Error) -> Option<String> {
    if error.kind() == ErrorKind::ArgumentConflict {
        return None;
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        return Some(format!("it takes one of {}", values.join(", ")));
    }
    let reason = error.source().map(|reason| printable(&reason.to_string()));
    Some(reason.unwrap_or_else(|| "it takes a value".to_owned()))
}

/// `option` as clap shows it: `--password <PASSWORD>`.
fn needs_equals(option: &str) -> String {
    let name = option.split(' ').next().unwrap_or(option);
    format!("a value that begins with - needs =: {name}=VALUE")
}

/// A text from clap's error, escaped.
fn context(error: &Error, kind: ContextKind) -> String {
    error.get(kind).map(|value| printable(&value.to_string())).unwrap_or_default()
}

/// The arguments, read roughly: clap has failed to parse them.
struct Line<'a> {
    /// The command that was picked, or the whole program.
    command: &'a Command,
    /// The first option that needs a value and is followed by a word that begins with `-`.
    valueless: Option<&'a Arg>,
    /// The words after the one that picks the command.
    words: &'a [OsString],
    /// The index of the first word that may be a password.
    password_from: Option<usize>,
}

impl<'a> Line<'a> {
    fn read(whole: &'a Command, arguments: &'a [OsString]) -> Self {
        let mut line = Line { command: whole, valueless: None, words: &[], password_from: None };
        let Some(at) = command_word(whole, arguments) else { return line };
        let word = arguments[at].to_string_lossy();
        // The letters after the command's own are options: `-uau` is `-u -a -u`.
        let mut cluster = "";
        let picked = if let Some(long) = word.strip_prefix("--") {
            by_prefix(whole.get_subcommands(), long, Command::get_long_flag)
        } else if let Some(short) = word.strip_prefix('-') {
            let mut letters = short.chars();
            let letter = letters.next();
            cluster = letters.as_str();
            whole.get_subcommands().find(|command| command.get_short_flag() == letter)
        } else {
            by_prefix(whole.get_subcommands(), &word, |command| Some(command.get_name()))
        };
        // clap's own `help` has no options.
        let Some(picked) = picked.filter(|command| command.get_name() != "help") else {
            return line;
        };
        line.command = picked;
        line.words = &arguments[at + 1..];
        let options = || picked.get_arguments().chain(whole.get_arguments());
        let cluster = format!("-{cluster}");
        line.password_from = names_password(options(), &cluster).then_some(0);
        let mut waiting = open_option(options(), &cluster);
        for (index, word) in line.words.iter().enumerate() {
            let word = word.to_string_lossy();
            let is_value = waiting.take().is_some_and(|option: &Arg| {
                let is_number = word.chars().nth(1).is_some_and(|digit| digit.is_ascii_digit());
                let is_taken = word == "-"
                    || !word.starts_with('-')
                    || is_number && option.is_allow_negative_numbers_set();
                if !is_taken {
                    line.valueless.get_or_insert(option);
                }
                is_taken
            });
            if is_value {
                continue;
            }
            if line.password_from.is_none() && names_password(options(), &word) {
                line.password_from = Some(index + 1);
            }
            waiting = open_option(options(), &word);
        }
        line
    }

    /// Whether the command takes a JSON object.
    fn takes_object(&self) -> bool {
        self.command.get_positionals().any(|argument| argument.get_id() == "object")
    }

    /// Whether one of the words begins an object that the same word does not end.
    fn has_half_an_object(&self) -> bool {
        let words = self.words.iter().map(|word| word.to_string_lossy());
        words.into_iter().any(|word| word.starts_with('{') && !word.ends_with('}'))
    }

    /// The tip for an option before the command that it belongs to.
    fn belongs_to_a_command(&self, word: &str) -> Option<String> {
        let commands = || self.command.get_subcommands();
        let is_option = |command: &Command| match word.strip_prefix("--") {
            Some(long) => by_prefix(command.get_arguments(), long, Arg::get_long).is_some(),
            None => command.get_arguments().any(|option| {
                option
                    .get_short()
                    .is_some_and(|letter| word.strip_prefix('-') == Some(&letter.to_string()))
            }),
        };
        let owner = commands().find(|command| is_option(command))?;
        let first = match word.starts_with("--") {
            true => owner.get_long_flag().map(|long| format!("--{long}")),
            false => owner.get_short_flag().map(|letter| format!("-{letter}")),
        };
        Some(format!("the command comes first, as in 'web-ipc {} {}'", first?, printable(word)))
    }

    /// Whether `word`, which clap did not understand, may be a password or part of one. It may be
    /// if it follows `--password`, or if it is a word without an option after `--users`, which most
    /// likely lacks its `--password`.
    fn may_be_secret(&self, word: &str) -> bool {
        let takes_password =
            self.command.get_arguments().any(|option| option.get_id() == "password");
        if !takes_password {
            return false;
        }
        if !word.starts_with('-') && self.command.get_name() == "users" {
            return true;
        }
        let at = self.words.iter().rposition(|other| {
            let other = other.to_string_lossy();
            if !word.starts_with('-') {
                return other == word;
            }
            let other = other.split('=').next().unwrap_or(&other);
            match word.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
                // Of `-xyz` clap reports only the letter that it does not know.
                Some(letter) => {
                    other.starts_with('-') && !other.starts_with("--") && other.contains(letter)
                }
                None => other == word,
            }
        });
        match (self.password_from, at) {
            (None, _) => false,
            (Some(password_from), Some(at)) => password_from <= at,
            (Some(_), None) => true,
        }
    }
}

/// The option in `word` whose value is the next word.
fn open_option<'a>(options: impl Iterator<Item = &'a Arg>, word: &str) -> Option<&'a Arg> {
    let found = if let Some(long) = word.strip_prefix("--") {
        by_prefix(options, long, Arg::get_long)
    } else {
        let letters = word.strip_prefix('-')?;
        let options: Vec<_> = options.collect();
        let of = |letter| options.iter().find(|option| option.get_short() == Some(letter)).copied();
        let last = letters.chars().next_back()?;
        // The first option that takes a value takes the rest of the word.
        let attached = letters.chars().rev().skip(1).filter_map(of).any(takes_value);
        of(last).filter(|_| !attached)
    };
    found.filter(|option| takes_value(option))
}

/// Whether `word` is the password option, with or without its value.
fn names_password<'a>(options: impl Iterator<Item = &'a Arg>, word: &str) -> bool {
    let is_password = |option: &Arg| option.get_id() == "password";
    if let Some(long) = word.strip_prefix("--") {
        let long = long.split('=').next().unwrap_or(long);
        return by_prefix(options, long, Arg::get_long).is_some_and(is_password);
    }
    let Some(letters) = word.strip_prefix('-') else { return false };
    let options: Vec<_> = options.collect();
    // The first option that takes a value takes the rest of the word.
    letters
        .chars()
        .filter_map(|letter| options.iter().find(|option| option.get_short() == Some(letter)))
        .find(|option| takes_value(option))
        .is_some_and(|option| is_password(option))
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

/// The item whose name is `name`, or the only one whose name begins with it.
fn by_prefix<'a, T>(
    all: impl Iterator<Item = &'a T>,
    name: &str,
    name_of: impl Fn(&'a T) -> Option<&'a str>,
) -> Option<&'a T> {
    let found: Vec<_> = all
        .filter_map(|one| Some((one, name_of(one)?)))
        .filter(|(_, full)| !name.is_empty() && full.starts_with(name))
        .collect();
    match found.as_slice() {
        [(one, _)] => Some(one),
        several => several.iter().find(|(_, full)| *full == name).map(|(one, _)| *one),
    }
}

//! Other spellings of commands and options: abbreviations, and hyphens for capital letters.
//!
//! `args.rs` comes here with the arguments before clap sees them, and gets every spelling of a
//! long name written in full. clap infers nothing: it would take an abbreviation for whatever it
//! fits at the time, and a new option would break scripts that use the abbreviation of another.

use std::ffi::OsString;

use clap::{Arg, Command};
use ipc_protocol::MessageId;

/// The shortest abbreviation of each command. Every longer one is good too. The list is closed:
/// commands that come later have no abbreviations.
const COMMANDS: [(&str, &str); 13] = [
    ("init", "i"),
    ("certs", "c"),
    ("users", "u"),
    ("test", "t"),
    ("serve", "ser"),
    ("send", "sen"),
    ("request", "r"),
    ("dead", "d"),
    ("backup", "b"),
    ("keys", "k"),
    ("enrol", "e"),
    ("doctor", "do"),
    ("help", "h"),
];

/// The same of options that stand before and behind a command.
const GLOBAL_OPTIONS: [(&str, &str); 3] = [("home", "ho"), ("help", "he"), ("version", "v")];

/// The same of the options of each command. This list is closed too.
const OPTIONS: [(&str, &[(&str, &str)]); 12] = [
    ("init", &[("run", "r"), ("force", "f"), ("usersDb", "u")]),
    (
        "certs",
        &[
            ("name", "n"),
            ("altNames", "a"),
            ("force", "f"),
            ("days", "d"),
            ("keyType", "k"),
            ("list", "l"),
            ("renew", "ren"),
            ("due", "du"),
            ("rotateCa", "ro"),
            ("dropOldCa", "dr"),
            ("revoke", "rev"),
            ("usersDb", "u"),
        ],
    ),
    (
        "users",
        &[
            ("add", "a"),
            ("delete", "d"),
            ("list", "l"),
            ("testCredentials", "t"),
            ("change", "c"),
            ("long", "lo"),
            ("disable", "di"),
            ("enable", "e"),
            ("bind", "b"),
            ("cert", "ce"),
            ("unbind", "un"),
            ("copyTo", "co"),
            ("force", "f"),
            ("user", "u"),
            ("usersDb", "users"),
            ("password", "p"),
        ],
    ),
    (
        "test",
        &[
            ("run", "r"),
            ("name", "n"),
            ("ip", "i"),
            ("port", "po"),
            ("protocol", "pr"),
            ("logLevel", "l"),
            ("user", "u"),
            ("usersDb", "users"),
            ("qty", "q"),
            ("password", "pa"),
        ],
    ),
    (
        "serve",
        &[
            ("name", "n"),
            ("port", "po"),
            ("protocol", "pr"),
            ("logLevel", "l"),
            ("usersDb", "u"),
            ("inbox", "in"),
            ("exec", "e"),
            ("jobs", "j"),
            ("tries", "t"),
            ("drain", "d"),
            ("stopWithin", "s"),
        ],
    ),
    (
        "send",
        &[
            ("timeout", "t"),
            ("batch", "b"),
            ("keep-going", "k"),
            ("name", "n"),
            ("port", "po"),
            ("protocol", "pr"),
            ("logLevel", "l"),
            ("identity", "id"),
            ("user", "u"),
            ("password", "pa"),
        ],
    ),
    (
        "request",
        &[
            ("timeout", "t"),
            ("name", "n"),
            ("port", "po"),
            ("protocol", "pr"),
            ("logLevel", "l"),
            ("identity", "id"),
            ("user", "u"),
            ("password", "pa"),
        ],
    ),
    ("dead", &[("list", "l"), ("putBack", "p"), ("discard", "d"), ("inbox", "i")]),
    ("backup", &[("run", "r"), ("out", "o")]),
    (
        "keys",
        &[
            ("list", "l"),
            ("rotate", "r"),
            ("drop", "d"),
            ("session", "s"),
            ("force", "f"),
            ("usersDb", "u"),
        ],
    ),
    (
        "enrol",
        &[
            ("create", "cr"),
            ("name", "n"),
            ("kind", "k"),
            ("altNames", "al"),
            ("user", "u"),
            ("server", "server"),
            ("serverName", "serverN"),
            ("days", "d"),
            ("out", "o"),
            ("accept", "ac"),
            ("list", "l"),
            ("cancel", "ca"),
            ("usersDb", "users"),
        ],
    ),
    (
        "doctor",
        &[("server", "s"), ("name", "n"), ("identity", "i"), ("protocol", "p"), ("json", "j")],
    ),
];

/// Writes every other spelling of a command or a long option in full.
pub(super) fn in_full(whole: &Command, arguments: &mut [OsString]) {
    let at = command_word(whole, arguments);
    for argument in arguments.iter_mut().take(at.unwrap_or(usize::MAX)).skip(1) {
        rewrite(argument, |word| long_in_full(word, &GLOBAL_OPTIONS, whole));
    }
    let Some(at) = at else { return };
    let is_command = |name: &str| whole.get_subcommands().any(|one| one.get_name() == name);
    rewrite(&mut arguments[at], |word| {
        if !word.starts_with("--") {
            return abbreviated(word, &COMMANDS).filter(|_| !is_command(word)).map(str::to_owned);
        }
        // As a flag, help is an option of every command.
        let commands = COMMANDS.strip_suffix(&[("help", "h")]).unwrap_or(&COMMANDS);
        long_in(word, commands, is_command).or_else(|| long_in_full(word, &GLOBAL_OPTIONS, whole))
    });
    let Some(picked) = picked(whole, &arguments[at].to_string_lossy()) else { return };
    let own = OPTIONS.iter().find(|(name, _)| *name == picked.get_name());
    let own = own.map_or(&[][..], |(_, options)| options);
    for index in at + 1..arguments.len() {
        // What follows is no option, whatever it begins with.
        if arguments[index] == "--" {
            break;
        }
        let next = arguments.get(index + 1).and_then(|next| next.to_str()).map(str::to_owned);
        rewrite(&mut arguments[index], |word| {
            id_or_identity(picked, word, next.as_deref())
                .or_else(|| long_in_full(word, own, picked))
                .or_else(|| long_in_full(word, &GLOBAL_OPTIONS, whole))
        });
    }
}

/// `--id` of `--send` was an abbreviation of `--identity` before it was an option of its own, which
/// takes a UUID. With any other value it still is.
fn id_or_identity(picked: &Command, word: &str, next: Option<&str>) -> Option<String> {
    let value = match word.split_once('=') {
        Some(("--id", value)) => Some(value),
        None if word == "--id" => next,
        _ => return None,
    };
    let is_id = value.is_some_and(|value| value.parse::<MessageId>().is_ok());
    let is_identity = picked.get_name() == "send" && !is_id;
    is_identity.then(|| word.replacen("--id", "--identity", 1))
}

/// The index of the word that picks the command: the first that is no option of every command.
pub(super) fn command_word(whole: &Command, arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = arguments.get(at).and_then(|word| word.to_str()) {
        let name = word.split('=').next().unwrap_or(word);
        let full = long_in_full(name, &GLOBAL_OPTIONS, whole).unwrap_or_else(|| name.to_owned());
        let option = full.strip_prefix("--").and_then(|full| option_named(whole, full));
        let Some(option) = option else { break };
        at += if option.get_action().takes_values() && name == word { 2 } else { 1 };
    }
    (at < arguments.len()).then_some(at)
}

/// The command that a word picks, written in full: `users`, `--users` or `-u`, with what follows.
fn picked<'a>(whole: &'a Command, word: &str) -> Option<&'a Command> {
    let mut commands = whole.get_subcommands();
    if let Some(long) = word.strip_prefix("--") {
        let long = long.split('=').next().unwrap_or(long);
        commands.find(|command| command.get_long_flag() == Some(long))
    } else if let Some(short) = word.strip_prefix('-') {
        commands.find(|command| command.get_short_flag() == short.chars().next())
    } else {
        commands.find(|command| command.get_name() == word)
    }
}

/// The option with this long name.
fn option_named<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|option| option.get_long() == Some(long))
}

fn rewrite(argument: &mut OsString, full: impl FnOnce(&str) -> Option<String>) {
    if let Some(full) = argument.to_str().and_then(full) {
        *argument = full.into();
    }
}

/// `--us=x` as `--user=x`, if this command has that option. `None` for what is in full already.
fn long_in_full(word: &str, rows: &[(&str, &str)], command: &Command) -> Option<String> {
    let is_option = |name: &str| option_named(command, name).is_some();
    long_in(word, rows, is_option).or_else(|| {
        let name = word.strip_prefix("--")?;
        let (name, value) = name.split_at(name.find('=').unwrap_or(name.len()));
        let other = other_case(name).filter(|other| is_option(other))?;
        Some(format!("--{other}{value}"))
    })
}

/// `--us=x` as `--user=x` by these rows, unless it is a name itself.
fn long_in(word: &str, rows: &[(&str, &str)], is_name: impl Fn(&str) -> bool) -> Option<String> {
    let name = word.strip_prefix("--")?;
    let (name, value) = name.split_at(name.find('=').unwrap_or(name.len()));
    if is_name(name) {
        return None;
    }
    abbreviated(name, rows).map(|full| format!("--{full}{value}"))
}

/// What a word is an abbreviation of.
fn abbreviated<'a>(word: &str, rows: &[(&'a str, &str)]) -> Option<&'a str> {
    let is_short_for = |(full, shortest): &&(&str, &str)| {
        word.starts_with(shortest) && full.starts_with(word) && word != *full
    };
    rows.iter().find(is_short_for).map(|(full, _)| *full)
}

/// `logLevel` for `log-level`, and the other way round. `None` where both are the same.
pub(super) fn other_case(name: &str) -> Option<String> {
    let mut other = String::with_capacity(name.len() + 2);
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '-' => {
                other.push(letters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase())
            }
            _ if letter.is_ascii_uppercase() => {
                other.push('-');
                other.push(letter.to_ascii_lowercase());
            }
            _ => other.push(letter),
        }
    }
    (other != name).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::super::commands::command;
    use super::*;

    fn full(line: &str) -> String {
        let mut arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        in_full(&command(), &mut arguments);
        let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    /// Every abbreviation that clap took before the list was closed, as `users --us user`: made by
    /// running that version with each beginning of each option.
    const FROZEN: &str = include_str!("abbreviations.txt");

    #[test]
    fn every_abbreviation_means_what_it_meant_when_the_list_was_closed() {
        let mut count = 0;
        for line in FROZEN.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [word, name] => {
                    assert_eq!(full(&format!("web-ipc {word}")), format!("web-ipc {name}"))
                }
                [command, word, name] => {
                    for (ending, first) in
                        [("", command.to_owned()), ("=x", format!("--{command}"))]
                    {
                        assert_eq!(
                            full(&format!("web-ipc {first} {word}{ending}")),
                            format!("web-ipc {first} {name}{ending}")
                        );
                    }
                }
                _ => panic!("{line}"),
            }
            count += 1;
        }
        let listed = |rows: &[(&str, &str)]| -> usize {
            rows.iter().map(|(full, shortest)| full.len() - shortest.len()).sum()
        };
        let own: usize = OPTIONS.iter().map(|(_, rows)| listed(rows)).sum();
        // Commands are words and flags, but for `help`, whose flag is that of everywhere.
        let commands = 2 * listed(&COMMANDS) - 3;
        let everywhere = listed(&GLOBAL_OPTIONS) * (OPTIONS.len() + 1);
        assert_eq!(count, own + commands + everywhere, "none is new, and none is missing");
    }

    #[test]
    fn commands_and_options_that_came_later_are_written_in_full() {
        for line in [
            "web-ipc --send --quie",
            "web-ipc --quie --send",
            "web-ipc --inb --list",
            "web-ipc inb --list",
            "web-ipc --serve --cou=3",
            "web-ipc --nothing",
            "web-ipc",
        ] {
            assert_eq!(full(line), line);
        }
    }

    #[test]
    fn an_option_in_camel_case_has_a_twin_with_hyphens_and_the_other_way_round() {
        for (line, expected) in [
            ("--test --log-level=info", "--test --logLevel=info"),
            ("-t --log-level info", "-t --logLevel info"),
            ("certs --alt-names a", "certs --altNames a"),
            ("--certs --rotate-ca", "--certs --rotateCa"),
            ("--certs --drop-old-ca", "--certs --dropOldCa"),
            ("--dead --put-back 1", "--dead --putBack 1"),
            ("--users --test-credentials", "--users --testCredentials"),
            ("--send --keepGoing", "--send --keep-going"),
            ("--send --id-key n", "--send --idKey n"),
            (
                "--send --id 01a21eda-5ee0-793e-8423-bfd2df81e5de",
                "--send --id 01a21eda-5ee0-793e-8423-bfd2df81e5de",
            ),
            ("--send --id worker1", "--send --identity worker1"),
            ("--request --id worker1", "--request --identity worker1"),
            // What is no option, and what stands behind `--`, stays as it is.
            ("--send --log-Level x", "--send --log-Level x"),
            ("--dead --log-level x", "--dead --log-level x"),
            ("--send -- --log-level", "--send -- --log-level"),
        ] {
            assert_eq!(full(&format!("web-ipc {line}")), format!("web-ipc {expected}"));
        }
        let whole = command();
        for command in whole.get_subcommands() {
            for long in command.get_arguments().filter_map(Arg::get_long) {
                let Some(twin) = other_case(long) else { continue };
                let name = command.get_name();
                assert_eq!(
                    full(&format!("web-ipc --{name} --{twin}")),
                    format!("web-ipc --{name} --{long}")
                );
            }
        }
    }

    #[test]
    fn the_home_before_the_command_is_passed_over() {
        for (line, expected) in [
            ("--ho x --us --li", "--home x --users --list"),
            ("--home=x us --li", "--home=x users --list"),
            ("--quiet --hom=x -u --li", "--quiet --home=x -u --list"),
            ("--he", "--help"),
            ("h us", "help us"),
            ("--v", "--version"),
        ] {
            assert_eq!(full(&format!("web-ipc {line}")), format!("web-ipc {expected}"));
        }
    }
}

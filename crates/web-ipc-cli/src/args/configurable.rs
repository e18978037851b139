//! Which options can be configured, under which names, and which values they take.
//!
//! The keys are derived from clap's definitions, so that a new option is a key at once. What is
//! said anew for each run, such as `--force`, is listed here and is no key.

use clap::{Arg, ArgAction, Command};

use super::spelling::other_case;

/// Commands without a table.
const WITHOUT_TABLE: [&str; 4] = ["completions", "config", "help", "manual"];

/// Options of every command that are no keys of a table. `home` stands outside the tables.
const GLOBAL_ONE_TIME: [&str; 3] = ["home", "help", "version"];

/// The options of each command that say what one run does, or to which user, peer, key or file.
pub(super) const ONE_TIME: [(&str, &[&str]); 10] = [
    ("init", &["run", "force", "importFrom"]),
    (
        "certs",
        &[
            "name",
            "altNames",
            "force",
            "list",
            "renew",
            "all",
            "due",
            "rotateCa",
            "dropOldCa",
            "revoke",
        ],
    ),
    (
        "users",
        &[
            "add",
            "delete",
            "list",
            "testCredentials",
            "change",
            "disable",
            "enable",
            "bind",
            "cert",
            "unbind",
            "copyTo",
            "force",
            "user",
            "password",
        ],
    ),
    ("test", &["run"]),
    ("send", &["id"]),
    ("dead", &["list", "putBack", "discard", "follow"]),
    ("backup", &["run", "out"]),
    ("restore", &["force"]),
    ("keys", &["list", "rotate", "drop", "session", "force"]),
    ("enrol", &["create", "name", "kind", "altNames", "user", "out", "accept", "list", "cancel"]),
];

/// The same of `inbox`, whose every option says what one run does.
const ONE_TIME_INBOX: &[&str] = &["list", "follow"];

/// Options whose value is a secret, or an address that may have a password in it.
const SECRETS: [&str; 3] = ["password", "usersDb", "inbox"];

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    /// A number in digits.
    Number,
    Text,
    /// One text or several.
    Texts,
    /// A text, or `true` for the option without a value.
    FlagOrText,
}

impl Kind {
    pub(super) fn of(option: &Arg) -> Self {
        if !option.get_action().takes_values() {
            return Self::Flag;
        }
        let count = option.get_num_args();
        if count.is_some_and(|count| count.min_values() == 0) {
            return Self::FlagOrText;
        }
        let repeats = count.is_some_and(|count| count.max_values() > 1)
            || matches!(option.get_action(), ArgAction::Append)
            || option.get_value_delimiter().is_some();
        match option.is_allow_negative_numbers_set() {
            _ if repeats => Self::Texts,
            true => Self::Number,
            false => Self::Text,
        }
    }

    /// What it takes, as a clause of an error.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::Flag => "it takes true or false",
            Self::Number => "it takes a whole number, without quotes",
            Self::Text => "it takes a text in quotes",
            Self::Texts => "it takes a text in quotes, or several in brackets: [\"a\", \"b\"]",
            Self::FlagOrText => "it takes a text in quotes, or true or false",
        }
    }
}

/// Whether the value may be a secret, which no configuration file has.
pub(super) fn may_be_secret(option: &Arg) -> bool {
    SECRETS.iter().any(|secret| option.get_id() == *secret)
}

/// Whether the option is a password itself.
pub(super) fn is_password(option: &Arg) -> bool {
    option.get_id() == "password"
}

/// The commands that have a table.
pub(super) fn tables(whole: &Command) -> impl Iterator<Item = &Command> {
    whole.get_subcommands().filter(|command| !WITHOUT_TABLE.contains(&command.get_name()))
}

/// The keys of a table: the options of the command, and those of every command.
pub(super) fn keys<'a>(whole: &'a Command, table: &'a Command) -> Vec<&'a Arg> {
    let mut keys: Vec<&Arg> = Vec::new();
    for option in table.get_arguments().chain(whole.get_arguments()) {
        let Some(name) = option.get_long() else { continue };
        let is_known = keys.iter().any(|key| key.get_id() == option.get_id());
        if !is_known && !GLOBAL_ONE_TIME.contains(&name) && !is_one_time(table, name) {
            keys.push(option);
        }
    }
    keys
}

/// Whether the command has this option for one run only.
pub(super) fn is_one_time(table: &Command, name: &str) -> bool {
    let own = match table.get_name() {
        "inbox" => ONE_TIME_INBOX,
        other => ONE_TIME.iter().find(|(name, _)| *name == other).map_or(&[][..], |(_, own)| own),
    };
    own.contains(&name)
}

/// The key of this name, in camel case or with hyphens.
pub(super) fn key_named<'a>(keys: &[&'a Arg], name: &str) -> Option<&'a Arg> {
    let other = other_case(name);
    let is_name = |key: &&&Arg| {
        key.get_long().is_some_and(|long| long == name || Some(long) == other.as_deref())
    };
    keys.iter().find(is_name).copied()
}

/// `WEB_IPC_SERVE_`: how the variables of a table begin.
pub(super) fn variable_prefix(table: &Command) -> String {
    format!("WEB_IPC_{}_", table.get_name().to_ascii_uppercase())
}

/// `LOG_LEVEL`: how the variable of a key ends.
pub(super) fn variable_suffix(option: &Arg) -> String {
    let mut suffix = String::new();
    for letter in option.get_long().unwrap_or_default().chars() {
        if letter.is_ascii_uppercase() {
            suffix.push('_');
        }
        suffix.push(if letter == '-' { '_' } else { letter.to_ascii_uppercase() });
    }
    suffix
}

/// The name that is nearest to `name`, if one is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    names
        .map(|known| (strsim::osa_distance(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3) && *distance < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::super::commands::command;
    use super::*;

    /// Of every option of every command it is known whether it is a key.
    #[test]
    fn every_option_is_a_key_of_its_command_or_is_listed_as_said_anew_for_each_run() {
        let whole = command();
        let mut listed = 0;
        for table in tables(&whole) {
            let keys = keys(&whole, table);
            for option in table.get_arguments() {
                let Some(name) = option.get_long() else { continue };
                let is_key = keys.iter().any(|key| key.get_long() == Some(name));
                assert_ne!(is_key, is_one_time(table, name), "{} {name}", table.get_name());
                listed += usize::from(!is_key);
            }
            assert!(keys.iter().any(|key| key.get_long() == Some("quiet")));
            assert!(!keys.iter().any(|key| key.get_long() == Some("home")));
        }
        let all: usize = ONE_TIME.iter().map(|(_, own)| own.len()).sum();
        assert_eq!(listed, all + ONE_TIME_INBOX.len(), "none is listed that there is not");
    }

    #[test]
    fn the_kinds_are_those_of_the_options() {
        let whole = command();
        let kind = |table: &str, name: &str| {
            let table = whole.find_subcommand(table).unwrap();
            Kind::of(key_named(&keys(&whole, table), name).unwrap())
        };
        for (table, name, expected) in [
            ("serve", "port", Kind::Number),
            ("serve", "stop-within", Kind::Number),
            ("serve", "body", Kind::Flag),
            ("serve", "quiet", Kind::Flag),
            ("serve", "exec", Kind::Text),
            ("serve", "log-level", Kind::Text),
            ("serve", "metrics", Kind::FlagOrText),
            ("send", "ip", Kind::Texts),
            ("send", "keepGoing", Kind::Flag),
            ("send", "password", Kind::Text),
            ("doctor", "server", Kind::Texts),
            ("certs", "days", Kind::Number),
        ] {
            assert_eq!(kind(table, name), expected, "{table} {name}");
        }
    }

    #[test]
    fn every_number_is_known_as_one() {
        let whole = command();
        for table in tables(&whole) {
            for key in keys(&whole, table) {
                let name = key.get_value_names().and_then(|names| names.first());
                let is_number =
                    name.is_some_and(|name| ["N", "SECONDS", "PORT"].contains(&&**name));
                assert_eq!(Kind::of(key) == Kind::Number, is_number, "{key}");
            }
        }
    }

    #[test]
    fn no_variable_has_two_meanings() {
        let whole = command();
        // Those of the home, of a bundle's code, of the tests, and those that `--exec` sets.
        let others = [
            "HOME",
            "CONFIG",
            "DANGEROUSLY_READABLE_HOME",
            "CODE",
            "BIN",
            "USER",
            "PEER",
            "ID",
            "TRY",
            "REDELIVERED",
            "REQUEST",
        ];
        let mut all: Vec<String> = others.iter().map(|other| format!("WEB_IPC_{other}")).collect();
        for table in tables(&whole) {
            let prefix = variable_prefix(table);
            assert!(!all.iter().any(|one| one.starts_with(&prefix)), "{prefix}");
            let suffixes = keys(&whole, table).into_iter().map(variable_suffix);
            all.extend(suffixes.map(|suffix| format!("{prefix}{suffix}")));
        }
        assert!(all.contains(&"WEB_IPC_SERVE_STOP_WITHIN".to_owned()));
        assert!(all.contains(&"WEB_IPC_SEND_KEEP_GOING".to_owned()));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_name_with_a_slip_is_recognised_and_any_other_is_not() {
        let names = ["port", "protocol", "logLevel", "exec"];
        let of = |name| nearest(name, names.into_iter());
        assert_eq!(of("prot"), Some("port"));
        assert_eq!(of("loglevel"), Some("logLevel"));
        assert_eq!(of("colour"), None);
        assert_eq!(of(""), None);
    }
}

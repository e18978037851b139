//! Which configured values apply to a command line, and the grammar with them as defaults.
//!
//! `args.rs` comes here with what it has parsed and with the configuration. What the command line
//! says wins, also over what it excludes: `--body` over a configured `exec`. A value that needs an
//! option that is not there is left out, as `jobs` without `exec`.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use zeroize::Zeroizing;

use super::configurable::{Kind, key_named, keys, tables};
use super::configuration::{Configuration, Configured, Fault, Level, Setting};
use super::inbox_address::inbox_at;
use super::usage_error;

/// The option that says which protocol the peer speaks.
const COMPAT: &str = "compat";

/// The inbox without an address.
const INBOX: &str = "inbox";

/// Options that do nothing without another one, which is refused on the command line.
const NEEDS: [(&str, &str, &str); 15] = [
    ("serve", "jobs", "exec"),
    ("serve", "allowRemoteMetrics", "metrics"),
    ("serve", "metricsNames", "metrics"),
    ("backup", "codeFile", "file"),
    ("send", "password", "user"),
    ("request", "password", "user"),
    ("test", "password", "user"),
    ("certs", "usersDb", "list"),
    ("certs", "days", "name"),
    ("certs", "keyType", "name"),
    ("keys", "usersDb", "list"),
    ("users", "long", "list"),
    ("enrol", "server", "create"),
    ("enrol", "serverName", "create"),
    ("enrol", "days", "create"),
];

/// A value that applies.
pub(super) struct Applied<'a> {
    pub(super) setting: &'a Setting,
    pub(super) values: Vec<Zeroizing<String>>,
}

/// What the command line gives; for the display of the configuration, nothing.
fn is_given(options: Option<&ArgMatches>, name: &str) -> bool {
    let known = |options: &&ArgMatches| options.try_contains_id(name).is_ok();
    options
        .filter(known)
        .is_some_and(|options| options.value_source(name) == Some(ValueSource::CommandLine))
}

/// The settings that win for a command, in the order of precedence, and those that exclude each
/// other within one source. Options that are switched off are among them.
pub(super) fn winning<'a>(
    whole: &Command,
    table: &str,
    options: Option<&ArgMatches>,
    configuration: &'a Configuration,
) -> (Vec<&'a Setting>, Vec<Fault>) {
    let (mut taken, mut faults): (Vec<&Setting>, _) = (Vec::new(), Vec::new());
    let Some(command) = whole.find_subcommand(table) else { return (taken, faults) };
    let mut own: Vec<&Setting> =
        configuration.settings.iter().filter(|setting| setting.table == table).collect();
    own.sort_by_key(|setting| std::cmp::Reverse(setting.level));
    for setting in own {
        let name = setting.option.as_str();
        if is_given(options, name) || taken.iter().any(|one| one.option == name) {
            continue;
        }
        if is_off(setting) {
            taken.push(setting);
            continue;
        }
        // `--quiet` on the command line is about the log too.
        if name == "logLevel" && is_given(options, "quiet") {
            continue;
        }
        let excluded = excluded_by(command, name);
        if let Some(other) = excluded.iter().find(|other| is_given(options, other)) {
            // What the peer speaks is no preference.
            if name == COMPAT {
                faults.push(setting.fault(format!("it cannot be used together with --{other}")));
            }
            continue;
        }
        let rival = taken
            .iter()
            .find(|one| !is_off(one) && excluded.iter().any(|other| *other == one.option));
        match rival {
            Some(rival) if rival.level == setting.level || name == COMPAT => {
                faults.push(
                    setting.fault(format!("it cannot be used together with {}", rival.key())),
                );
            }
            Some(_) => {}
            // The password of another user is none of this one's.
            None if name == "password" && !fits_user(setting, options, &taken) => {}
            None => taken.push(setting),
        }
    }
    (taken, faults)
}

/// Whether the setting switches its option off.
pub(super) fn is_off(setting: &Setting) -> bool {
    matches!(setting.configured, Configured::Off)
}

/// Whether a password was configured for the user that counts.
fn fits_user(password: &Setting, options: Option<&ArgMatches>, taken: &[&Setting]) -> bool {
    let user = taken.iter().find(|one| one.option == "user");
    let is_above = |level: Level| level > password.level;
    !is_given(options, "user") && !user.is_some_and(|user| is_above(user.level))
}

/// The options that exclude this one, or that it excludes.
fn excluded_by<'a>(command: &'a Command, name: &str) -> Vec<&'a str> {
    let conflicts = |one: &Arg| -> Vec<&str> {
        command.get_arg_conflicts_with(one).into_iter().map(|one| one.get_id().as_str()).collect()
    };
    let own = command.get_arguments().find(|one| one.get_id() == name);
    let mut excluded: Vec<&str> = own.map(conflicts).unwrap_or_default();
    let others = command.get_arguments().filter(|one| conflicts(one).contains(&name));
    excluded.extend(others.map(|one| one.get_id().as_str()));
    excluded
}

/// The values that apply to a command line.
///
/// # Errors
/// What is wrong with them.
pub(super) fn choose<'a>(
    whole: &Command,
    table: &str,
    options: &ArgMatches,
    configuration: &'a Configuration,
) -> Result<Vec<Applied<'a>>, Vec<Fault>> {
    let mut faults = configuration.faults_of(table);
    let (mut taken, excluding) = winning(whole, table, Some(options), configuration);
    faults.extend(excluding);
    taken.retain(|setting| !is_off(setting));
    let there: Vec<&str> = taken.iter().map(|setting| setting.option.as_str()).collect();
    let is_there = |name: &str| is_given(Some(options), name) || there.contains(&name);
    let has_what_it_needs = |option: &str| {
        NEEDS
            .iter()
            .filter(|(command, name, _)| *command == table && *name == option)
            .all(|(_, _, needed)| is_there(needed))
    };
    let mut chosen = Vec::new();
    // A secret that does not count need not be there.
    for setting in taken.iter().copied().filter(|one| has_what_it_needs(&one.option)) {
        match configuration.values(setting) {
            Ok(values) => chosen.push(Applied { setting, values }),
            Err(fault) => faults.push(fault),
        }
    }
    // One run of clap for all; each alone only if it finds a fault.
    if !chosen.is_empty() && accepts(whole, &chosen).is_some() {
        for one in &chosen {
            faults.extend(
                accepts(whole, std::slice::from_ref(one)).map(|what| one.setting.fault(what)),
            );
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    // A message in memory has no second try.
    let inbox = match is_given(Some(options), INBOX) {
        true => options.get_one::<String>(INBOX).cloned(),
        false => chosen
            .iter()
            .find(|one| one.setting.option == INBOX)
            .and_then(|one| one.values.first())
            .map(|value| value.as_str().to_owned()),
    };
    if table == "serve" && inbox.is_none_or(|inbox| inbox == "memory") {
        chosen.retain(|one| one.setting.option != "tries");
    }
    Ok(chosen)
}

/// Every fault of the configuration, whatever command is meant.
pub(super) fn faults(whole: &Command, configuration: &Configuration) -> Vec<Fault> {
    let mut faults = configuration.faults.clone();
    for setting in &configuration.settings {
        if is_off(setting) {
            continue;
        }
        match configuration.values(setting) {
            Ok(values) => {
                let one = Applied { setting, values };
                faults.extend(accepts(whole, &[one]).map(|what| setting.fault(what)));
            }
            Err(fault) => faults.push(fault),
        }
    }
    for table in tables(whole) {
        faults.extend(winning(whole, table.get_name(), None, configuration).1);
    }
    faults.sort_by_key(|fault| configuration.place(fault));
    faults
}

/// What clap, and who reads the address of an inbox, has against these values of one command.
fn accepts(whole: &Command, applied: &[Applied<'_>]) -> Option<String> {
    let table = &applied.first()?.setting.table;
    let mut words: Vec<OsString> = vec!["web-ipc".into(), table.into()];
    for one in applied {
        let (name, command) = (&one.setting.option, whole.find_subcommand(table)?);
        let is_flag =
            key_named(&keys(whole, command), name).is_some_and(|key| Kind::of(key) == Kind::Flag);
        if is_flag {
            continue;
        }
        if name == INBOX
            && let Some(address) = one.values.first().filter(|value| value.contains("://"))
            && let Err((what, _)) = inbox_at(address)
        {
            // It begins with the option, which is said already.
            return Some(
                what.split_once("'--inbox <KIND>': ")
                    .map_or(what.clone(), |(_, rest)| rest.to_owned()),
            );
        }
        for value in &one.values {
            words.push(format!("--{name}={}", value.as_str()).into());
        }
    }
    let error = whole.clone().try_get_matches_from(words).err()?;
    usage_error::reason(&error)
}

/// The grammar in which these values are the defaults of their options.
pub(super) fn with_defaults(mut whole: Command, applied: &[Applied<'_>]) -> Command {
    for one in applied {
        let (table, name) = (one.setting.table.as_str(), one.setting.option.as_str());
        let values: Vec<OsString> =
            one.values.iter().map(|value| OsString::from(value.as_str())).collect();
        let is_own = whole
            .find_subcommand(table)
            .is_some_and(|table| table.get_arguments().any(|option| option.get_id() == name));
        let set = |option: Arg| option.default_values(values);
        let id = name.to_owned();
        whole = match is_own {
            true => whole.mut_subcommand(table, |command| command.mut_arg(id, set)),
            false => whole.mut_arg(id, set),
        };
    }
    whole
}

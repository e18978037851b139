//! The grammar of the command line: flags in, one [`Invocation`] out.
//!
//! `main` comes here with the arguments as the system gave them. Nothing is looked up, opened or printed; what is wrong
//! with them comes back as a text. The spellings are those of the Python tool of the same name.

mod commands;
mod values;
mod wrong;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use ipc_server::Protocol;
use ipc_setup::KeyType;
use zeroize::Zeroizing;

use commands::command;
pub(crate) use wrong::WrongUsage;

/// The names under which the binary may be called to be one of its commands.
const OTHER_NAMES: [(&str, &str); 9] = [
    ("web-ipc-certs", "certs"),
    ("web-ipc-init", "init"),
    ("web-ipc-users", "users"),
    ("web-ipc-test", "test"),
    ("web-ipc-serve", "serve"),
    ("web-ipc-send", "send"),
    ("web-ipc-request", "request"),
    ("web-ipc-dead", "dead"),
    ("web-ipc-backup", "backup"),
];

/// What the user wants done.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// `--home`, where it was given.
    pub(crate) home: Option<PathBuf>,
    pub(crate) action: Action,
}

/// One command with what it needs.
#[derive(Debug)]
pub(crate) enum Action {
    /// This text: help or version, asked for, or help where nothing was.
    Help(String),
    Init {
        force: bool,
    },
    Certs(Certs),
    Users(Users),
    Test(Test),
    Serve(Serve),
    Send(Sending),
    Request(Asking),
    Dead(Dead),
    Backup {
        out: PathBuf,
    },
}

/// `--certs --name …`
#[derive(Debug)]
pub(crate) struct Certs {
    pub(crate) name: String,
    pub(crate) alt_names: Vec<String>,
    pub(crate) force: bool,
    pub(crate) days: Option<u32>,
    pub(crate) key_type: KeyType,
}

/// `--users …`: several may be asked for at once.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) add: bool,
    pub(crate) list: bool,
    pub(crate) change: bool,
    pub(crate) verify: bool,
    pub(crate) delete: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

/// `--test --run …`
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) log_level: LogLevel,
    pub(crate) quantity: u32,
}

/// `--serve …`
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) log_level: LogLevel,
    pub(crate) inbox: InboxKind,
    /// What a shell is to run for each message, instead of printing it.
    pub(crate) exec: Option<String>,
    /// How many of them at once.
    pub(crate) jobs: u16,
    /// How often a durable inbox hands a message out before it is a dead letter.
    pub(crate) tries: Option<u16>,
    /// How long a stop may go on with what is in hand and in memory, in seconds.
    pub(crate) stop_within_secs: u16,
}

/// Which server to send to, and as whom.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) identity: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) log_level: LogLevel,
}

/// `--send …`
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) target: Target,
    /// The message; without one they come from stdin.
    pub(crate) message: Option<String>,
    pub(crate) timeout_secs: u16,
    pub(crate) batch: u16,
    pub(crate) keep_going: bool,
}

/// `--request …`
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) target: Target,
    pub(crate) message: String,
    pub(crate) timeout_secs: u16,
}

/// `--dead …`
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) action: DeadAction,
}

/// What to do with dead letters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DeadAction {
    List,
    PutBack(Letters),
    Discard(Letters),
}

/// Which of the dead letters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    All,
    Numbers(Vec<u64>),
}

/// Where messages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboxKind {
    Memory,
    Durable,
}

/// How much of the log is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    /// Only the line that ends the command.
    Critical,
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, WrongUsage> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let other_name = arguments.first().and_then(|name| other_name(Path::new(name)));
    if let Some((_, command)) = other_name {
        arguments.insert(1, command.into());
    }
    let mut command = command();
    if let Some((program, name)) = other_name {
        command = command.mut_subcommand(name, |command| {
            let usage = usage_of(&command).replacen(&format!("web-ipc --{name}"), program, 1);
            command.override_usage(usage)
        });
    }
    wrong::refuse_value_of_command(&command, &arguments)?;
    let matches = match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => return Err(wrong::explain(&command, &arguments, &error)),
        // Help or version, which the user asked for.
        Err(error) => {
            return Ok(Invocation { home: None, action: Action::Help(error.render().to_string()) });
        }
    };
    let (name, options) = match matches.subcommand() {
        Some((name, options)) => (name, options),
        None => {
            let help = command.render_help().to_string();
            return Ok(Invocation { home: home(&matches), action: Action::Help(help) });
        }
    };
    let action = match name {
        "init" if options.get_flag("run") => Some(Action::Init { force: options.get_flag("force") }),
        "certs" => certs(&command, options)?.map(Action::Certs),
        "users" => users(options).map(Action::Users),
        "test" if options.get_flag("run") => Some(Action::Test(test(options))),
        "serve" => Some(Action::Serve(serve(&command, options)?)),
        "send" => Some(Action::Send(sending(options))),
        "request" => Some(Action::Request(asking(options))),
        "dead" => dead(options).map(Action::Dead),
        "backup" if options.get_flag("run") => Some(backup(&command, options)?),
        _ => None,
    };
    let action = match action {
        Some(action) => action,
        None => Action::Help(help_of(&mut command, name)),
    };
    Ok(Invocation { home: home(options), action })
}

/// The name by which the program was called, and the command that it stands for.
fn other_name(path: &Path) -> Option<(&'static str, &'static str)> {
    let name = path.file_name()?.to_str()?;
    OTHER_NAMES.iter().find(|(other, _)| *other == name).copied()
}

fn help_of(command: &mut Command, name: &str) -> String {
    let picked = command.find_subcommand_mut(name).expect("clap picked it from among them");
    picked.render_help().to_string()
}

/// What can be typed: `web-ipc --users [OPTIONS]`.
fn usage_of(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.strip_prefix("Usage: ").map(str::to_owned).unwrap_or(usage)
}

fn home(matches: &ArgMatches) -> Option<PathBuf> {
    matches.get_one::<PathBuf>("home").cloned()
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn certs(command: &Command, options: &ArgMatches) -> Result<Option<Certs>, WrongUsage> {
    let Some(name) = text(options, "name") else {
        let others = ["altNames", "days", "keyType"];
        if !options.get_flag("force") && !others.iter().any(|option| options.contains_id(option)) {
            return Ok(None);
        }
        let certs = command.find_subcommand("certs").expect("it is defined here");
        return Err(WrongUsage::new("'--name <NAME>' is required", None, &usage_of(certs)));
    };
    Ok(Some(Certs {
        name,
        alt_names: options
            .get_many::<String>("altNames")
            .map(|names| names.cloned().collect())
            .unwrap_or_default(),
        force: options.get_flag("force"),
        days: options.get_one("days").copied(),
        key_type: options.get_one("keyType").copied().unwrap_or_default(),
    }))
}

fn users(options: &ArgMatches) -> Option<Users> {
    let users = Users {
        add: options.get_flag("add"),
        list: options.get_flag("list"),
        change: options.get_flag("change"),
        verify: options.get_flag("testCredentials"),
        delete: options.get_flag("delete"),
        user: text(options, "user"),
        password: text(options, "password").map(Zeroizing::new),
    };
    (users.add || users.list || users.change || users.verify || users.delete).then_some(users)
}

fn test(options: &ArgMatches) -> Test {
    // clap fills each of these from its default.
    Test {
        name: text(options, "name").expect("has a default"),
        ip: *options.get_one("ip").expect("has a default"),
        port: *options.get_one("port").expect("has a default"),
        protocol: *options.get_one("protocol").expect("has a default"),
        log_level: *options.get_one("logLevel").expect("has a default"),
        quantity: *options.get_one("qty").expect("has a default"),
    }
}

fn serve(command: &Command, options: &ArgMatches) -> Result<Serve, WrongUsage> {
    let tries = options.get_one("tries").copied();
    // clap fills each of these from its default, but for those that say otherwise.
    let inbox = *options.get_one("inbox").expect("has a default");
    if tries.is_some() && inbox != InboxKind::Durable {
        let serve = command.find_subcommand("serve").expect("it is defined here");
        let what = "'--tries <N>' needs '--inbox durable'; one in memory hands out each message once";
        return Err(WrongUsage::new(what, None, &usage_of(serve)));
    }
    Ok(Serve {
        name: text(options, "name").expect("has a default"),
        ip: *options.get_one("ip").expect("has a default"),
        port: *options.get_one("port").expect("has a default"),
        protocol: *options.get_one("protocol").expect("has a default"),
        log_level: *options.get_one("logLevel").expect("has a default"),
        inbox,
        exec: text(options, "exec"),
        jobs: options.get_one("jobs").copied().unwrap_or(1),
        tries,
        stop_within_secs: *options.get_one("stopWithin").expect("has a default"),
    })
}

fn backup(command: &Command, options: &ArgMatches) -> Result<Action, WrongUsage> {
    match options.get_one::<PathBuf>("out") {
        Some(out) => Ok(Action::Backup { out: out.clone() }),
        None => {
            let backup = command.find_subcommand("backup").expect("it is defined here");
            Err(WrongUsage::new("'--out <DIR>' is required", None, &usage_of(backup)))
        }
    }
}

fn dead(options: &ArgMatches) -> Option<Dead> {
    let letters = |name: &str| {
        let picked: Vec<Option<u64>> = options.get_many(name)?.copied().collect();
        // Among all there are, those that are named besides are meant too.
        let numbers: Option<Vec<u64>> = picked.into_iter().collect();
        Some(numbers.map_or(Letters::All, Letters::Numbers))
    };
    let action = match (letters("putBack"), letters("discard")) {
        (Some(letters), _) => DeadAction::PutBack(letters),
        (None, Some(letters)) => DeadAction::Discard(letters),
        (None, None) if options.get_flag("list") => DeadAction::List,
        (None, None) => return None,
    };
    Some(Dead { action })
}

fn target(options: &ArgMatches) -> Target {
    Target {
        name: text(options, "name").expect("has a default"),
        ip: *options.get_one("ip").expect("has a default"),
        port: *options.get_one("port").expect("has a default"),
        protocol: *options.get_one("protocol").expect("has a default"),
        identity: text(options, "identity").expect("has a default"),
        user: text(options, "user"),
        password: text(options, "password").map(Zeroizing::new),
        log_level: *options.get_one("logLevel").expect("has a default"),
    }
}

fn sending(options: &ArgMatches) -> Sending {
    Sending {
        target: target(options),
        message: text(options, "object"),
        timeout_secs: *options.get_one("timeout").expect("has a default"),
        batch: *options.get_one("batch").expect("has a default"),
        keep_going: options.get_flag("keep-going"),
    }
}

fn asking(options: &ArgMatches) -> Asking {
    Asking {
        target: target(options),
        message: text(options, "object").expect("is required"),
        timeout_secs: *options.get_one("timeout").expect("has a default"),
    }
}

#[cfg(test)]
mod tests;

//! The grammar of the command line: flags in, one [`Invocation`] out.
//!
//! `main` comes here with the arguments as the system gave them. Nothing is looked up, opened or printed; what is wrong
//! with them comes back as a text. The spellings are those of the Python tool of the same name.

mod wrong;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ipc_server::Protocol;
use ipc_setup::KeyType;
use zeroize::Zeroizing;

pub(crate) use wrong::WrongUsage;

/// The names under which the binary may be called to be one of its commands.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("web-ipc-certs", "certs"),
    ("web-ipc-init", "init"),
    ("web-ipc-users", "users"),
    ("web-ipc-test", "test"),
    ("web-ipc-serve", "serve"),
    ("web-ipc-send", "send"),
    ("web-ipc-request", "request"),
    ("web-ipc-dead", "dead"),
];

/// The longest time that a client may go on trying, in seconds.
const DEADLINE_SECS_MAX: u16 = ipc_protocol::DEADLINE_SECS_MAX as u16;

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
    // clap fills each of these from its default, but for the last three.
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
    })
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

fn command() -> Command {
    Command::new("web-ipc")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("web-ipc [OPTIONS] [COMMAND]")
        .propagate_version(true)
        .about("Carries JSON messages between processes: sealed, over HTTPS with mutual TLS, from known users only")
        .after_help("Try: web-ipc --test --run --qty 3")
        .infer_long_args(true)
        .infer_subcommands(true)
        .args_override_self(true)
        .arg(
            Arg::new("home")
                .long("home")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .global(true)
                .help("The home to use [default: $WEB_IPC_HOME, else web-ipc in the user's data directory]"),
        )
        .subcommand(init_command())
        .subcommand(certs_command())
        .subcommand(users_command())
        .subcommand(test_command())
        .subcommand(serve_command())
        .subcommand(send_command())
        .subcommand(request_command())
        .subcommand(dead_command())
}

fn subcommand(name: &'static str, short: char, usage: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .override_usage(usage)
        .short_flag(short)
        .long_flag(name)
        .about(about)
        .infer_long_args(true)
        .args_override_self(true)
}

fn flag(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn option(name: &'static str, short: char, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).value_name(value_name).help(help)
}

fn init_command() -> Command {
    subcommand(
        "init",
        'I',
        "web-ipc --init --run [OPTIONS]",
        "Make a home: keys, a certificate authority, the user ipc-admin",
    )
    .arg(flag("run", 'r', "Do it; a home that is complete is left as it is"))
    .arg(flag("force", 'F', "Start over; the old home is kept aside under a dated name"))
}

fn certs_command() -> Command {
    let key_type = PossibleValuesParser::new(["p256", "rsa2048", "rsa3072", "rsa4096"])
        .try_map(|name| name.parse::<KeyType>());
    subcommand("certs", 'c', "web-ipc --certs --name NAME [OPTIONS]", "Issue a certificate for a peer")
        .arg(option("name", 'n', "NAME", "The peer's name: NAME.crt and NAME.key are made in the home"))
        .arg(
            option("altNames", 'a', "NAME", "What it is reached as: names and addresses [default: its name]")
                .num_args(1..),
        )
        .arg(flag("force", 'F', "Replace a pair of that name"))
        .arg(
            Arg::new("days")
                .long("days")
                .value_name("N")
                .allow_negative_numbers(true)
                .value_parser(whole_number::<u32>)
                .help("Days until it expires [default: 397]"),
        )
        .arg(
            Arg::new("keyType")
                .long("keyType")
                .value_name("TYPE")
                .value_parser(ValueParser::new(key_type))
                .help("The kind of key; RSA is for peers that need it [default: p256]"),
        )
}

fn users_command() -> Command {
    subcommand("users", 'u', "web-ipc --users [OPTIONS]", "Add, delete, list and check users")
        .arg(flag("add", 'a', "Add a user"))
        .arg(flag("delete", 'd', "Delete a user; their sessions end"))
        .arg(flag("list", 'l', "List the users in the order in which they were added"))
        .arg(flag("testCredentials", 't', "Check a user's password"))
        .arg(flag("change", 'c', "Change a user's password; their sessions end"))
        .arg(option("user", 'u', "NAME", "The user"))
        .arg(option(
            "password",
            'p',
            "PASSWORD",
            "The password; `-` reads a line from stdin [default: asks on a terminal]",
        ))
}

fn test_command() -> Command {
    let about = "Start a server and a client on this host, send messages and check what arrives";
    let test = subcommand("test", 't', "web-ipc --test --run [OPTIONS]", about).arg(flag(
        "run",
        'r',
        "Do it; a home that is missing is made first",
    ));
    with_server_options(test, "The certificate that both ends show").arg(
        option("qty", 'q', "N", "How many messages to send")
            .allow_negative_numbers(true)
            .value_parser(whole_number::<u32>)
            .default_value("100"),
    )
}

fn serve_command() -> Command {
    let inbox = PossibleValuesParser::new(["memory", "durable"])
        .map(|name| if name == "durable" { InboxKind::Durable } else { InboxKind::Memory });
    let about = "Run a server: each message is a JSON line on stdout, or the input of a command";
    let serve = subcommand("serve", 's', "web-ipc --serve [OPTIONS]", about);
    with_server_options(serve, "The certificate to show")
        .arg(
            option("inbox", 'b', "KIND", "Where messages wait; a durable inbox keeps them until they were dealt with")
                .value_parser(ValueParser::new(inbox))
                .default_value("memory"),
        )
        .arg(option("exec", 'x', "COMMAND", "Run this for each message, with the message on its stdin, WEB_IPC_USER and WEB_IPC_ID in its environment; 0 acknowledges, and its stdout is the reply to a request").value_parser(shell_command))
        .arg(
            option("jobs", 'j', "N", "How many commands may run at once [default: 1]")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX))
                .requires("exec"),
        )
        .arg(
            option(
                "tries",
                'r',
                "N",
                "How often a durable inbox hands a message out before it is a dead letter [default: 10]",
            )
            .allow_negative_numbers(true)
            .value_parser(|text: &str| number_between(text, 1, u16::MAX)),
        )
}

fn send_command() -> Command {
    let about = "Send a JSON object, or one a line from stdin";
    let send = subcommand("send", 'S', "web-ipc --send [OPTIONS] [OBJECT]", about)
        .arg(Arg::new("object").value_name("OBJECT").help("The message [default: lines of JSON from stdin]"))
        .arg(seconds("How long to try without any progress, 480 s at most"))
        .arg(
            option("batch", 'b', "N", "How many lines go out together at most, 1 to 1000")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, 1000))
                .default_value("500"),
        )
        .arg(flag("keep-going", 'k', "Report a line that is no JSON object, and go on with the next"));
    with_client_options(send)
}

fn request_command() -> Command {
    let about = "Send a JSON object and print the reply";
    let request = subcommand("request", 'R', "web-ipc --request [OPTIONS] OBJECT", about)
        .arg(Arg::new("object").value_name("OBJECT").required(true).help("The request"))
        .arg(seconds("How long to wait for the reply, and before that for the server, 480 s at most"));
    with_client_options(request)
}

fn dead_command() -> Command {
    let letters = |name: &'static str, short, help| {
        option(name, short, "NUMBER", help).num_args(1..).value_parser(letter)
    };
    let about = "List messages that a durable inbox handed out too often, put them back, or discard them";
    subcommand("dead", 'd', "web-ipc --dead [OPTIONS]", about)
        .arg(
            flag("list", 'l', "List them, a JSON line each, with the number of each")
                .conflicts_with_all(["putBack", "discard"]),
        )
        .arg(
            letters("putBack", 'p', "Have these handed out again, or `all`; the next --serve does")
                .conflicts_with("discard"),
        )
        .arg(letters("discard", 'x', "Remove these for good, or `all`"))
}

fn seconds(help: &'static str) -> Arg {
    option("timeout", 'T', "SECONDS", help)
        .allow_negative_numbers(true)
        .value_parser(|text: &str| number_between(text, 1, DEADLINE_SECS_MAX))
        .default_value("30")
}

/// Adds what every command takes that only sends.
fn with_client_options(command: Command) -> Command {
    with_common_options(
        command,
        "The name in the server's certificate",
        "The server's address",
        "The server's port",
        "3000",
    )
    .arg(option("identity", 'c', "NAME", "The certificate to show").default_value("localhost"))
    .arg(option("user", 'u', "NAME", "The user to log in as [default: the home's ipc-admin]"))
    .arg(
        Arg::new("password")
            .long("password")
            .value_name("PASSWORD")
            .requires("user")
            .help("The user's password; `-` reads a line from stdin [default: asks on a terminal]"),
    )
}

/// Adds what every command takes that runs a server.
fn with_server_options(command: Command, name_help: &'static str) -> Command {
    let port = "The port; 0 is the first free one of 3000 to 3999";
    with_common_options(command, name_help, "The address to listen on", port, "0")
}

/// Adds what every command takes that goes over the network.
fn with_common_options(
    command: Command,
    name_help: &'static str,
    ip_help: &'static str,
    port_help: &'static str,
    port: &'static str,
) -> Command {
    let protocol = PossibleValuesParser::new(["https", "http"])
        .map(|name| if name == "http" { Protocol::Http } else { Protocol::Https });
    let log_level =
        PossibleValuesParser::new(["debug", "info", "warning", "error", "critical"]).map(|name| {
            match name.as_str() {
                "debug" => LogLevel::Debug,
                "info" => LogLevel::Info,
                "warning" => LogLevel::Warning,
                "error" => LogLevel::Error,
                _ => LogLevel::Critical,
            }
        });
    command
        .arg(option("name", 'n', "NAME", name_help).default_value("localhost"))
        .arg(option("ip", 'i', "ADDRESS", ip_help).value_parser(address).default_value("127.0.0.1"))
        .arg(
            option("port", 'p', "PORT", port_help)
                .allow_negative_numbers(true)
                .value_parser(whole_number::<u16>)
                .default_value(port),
        )
        .arg(
            option("protocol", 'P', "PROTOCOL", "https, or http on a loopback address")
                .value_parser(ValueParser::new(protocol))
                .default_value("https"),
        )
        .arg(
            option("logLevel", 'l', "LEVEL", "How much to log; critical shows only what ends the command")
                .value_parser(ValueParser::new(log_level))
                .default_value("info"),
        )
}

/// A number in digits; what it takes is told, rather than how Rust fails to read it.
fn whole_number<N: FromStr + Bounded>(text: &str) -> Result<N, String> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits_only)
        .ok_or_else(|| format!("it takes a whole number from 0 to {}", N::LARGEST))
}

/// A number in digits from `smallest` to `largest`.
fn number_between(text: &str, smallest: u16, largest: u16) -> Result<u16, String> {
    whole_number::<u16>(text)
        .ok()
        .filter(|number| (smallest..=largest).contains(number))
        .ok_or_else(|| format!("it takes a whole number from {smallest} to {largest}"))
}

/// The number of a dead letter; `None` is all of them.
fn letter(text: &str) -> Result<Option<u64>, &'static str> {
    if text == "all" {
        return Ok(None);
    }
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits_only);
    number.map(Some).ok_or("it takes numbers as --list shows them, or all")
}

/// What a shell is to run.
fn shell_command(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it takes a command for a shell") } else { Ok(text.to_owned()) }
}

/// The largest of a type of numbers.
trait Bounded {
    const LARGEST: u32;
}

impl Bounded for u16 {
    const LARGEST: u32 = u16::MAX as u32;
}

impl Bounded for u32 {
    const LARGEST: u32 = u32::MAX;
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "it takes an IP address such as 127.0.0.1 or ::1")
}

#[cfg(test)]
mod tests;

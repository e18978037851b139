//! The grammar of the command line: flags in, one [`Invocation`] out.
//!
//! `main` comes here with the arguments as the system gave them. Nothing is looked up, opened or printed; what clap has
//! to say comes back as its error. The spellings are those of the Python tool of the same name.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error, value_parser};
use ipc_server::Protocol;
use ipc_setup::KeyType;
use zeroize::Zeroizing;

/// The names under which the binary may be called to be one of its commands.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("web-ipc-certs", "certs"),
    ("web-ipc-init", "init"),
    ("web-ipc-users", "users"),
    ("web-ipc-test", "test"),
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
    /// Nothing was asked for: this text says what could be.
    Help(String),
    Init {
        force: bool,
    },
    Certs(Certs),
    Users(Users),
    Test(Test),
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
/// clap's own: wrong usage, or help and version, which the user asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(command) = arguments.first().and_then(|name| command_of_name(Path::new(name))) {
        arguments.insert(1, command.into());
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let (name, options) = match matches.subcommand() {
        Some((name, options)) => (name, options),
        None => {
            let help = command.render_help().to_string();
            return Ok(Invocation { home: home(&matches), action: Action::Help(help) });
        }
    };
    let action = match name {
        "init" if options.get_flag("run") => Some(Action::Init { force: options.get_flag("force") }),
        "certs" => certs(options).map(Action::Certs),
        "users" => users(options).map(Action::Users),
        "test" if options.get_flag("run") => Some(Action::Test(test(options))),
        _ => None,
    };
    let action = match action {
        Some(action) => action,
        None => Action::Help(help_of(&mut command, name)?),
    };
    Ok(Invocation { home: home(options), action })
}

fn command_of_name(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, command)| *command)
}

fn help_of(command: &mut Command, name: &str) -> Result<String, Error> {
    let unknown = Error::new(ErrorKind::InvalidSubcommand);
    command.find_subcommand_mut(name).map(|command| command.render_help().to_string()).ok_or(unknown)
}

fn home(matches: &ArgMatches) -> Option<PathBuf> {
    matches.get_one::<PathBuf>("home").cloned()
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn certs(options: &ArgMatches) -> Option<Certs> {
    Some(Certs {
        name: text(options, "name")?,
        alt_names: options
            .get_many::<String>("altNames")
            .map(|names| names.cloned().collect())
            .unwrap_or_default(),
        force: options.get_flag("force"),
        days: options.get_one("days").copied(),
        key_type: options.get_one("keyType").copied().unwrap_or_default(),
    })
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

fn command() -> Command {
    Command::new("web-ipc")
        .version(env!("CARGO_PKG_VERSION"))
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
}

fn subcommand(name: &'static str, short: char, about: &'static str) -> Command {
    Command::new(name)
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
    subcommand("init", 'I', "Make a home: keys, a certificate authority, the user ipc-admin")
        .arg(flag("run", 'r', "Do it; a home that is complete is left as it is"))
        .arg(flag("force", 'F', "Start over; the old home is kept aside under a dated name"))
}

fn certs_command() -> Command {
    let key_type = PossibleValuesParser::new(["p256", "rsa2048", "rsa3072", "rsa4096"])
        .try_map(|name| name.parse::<KeyType>());
    subcommand("certs", 'c', "Issue a certificate for a peer")
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
                .value_parser(value_parser!(u32))
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
    subcommand("users", 'u', "Add, delete, list and check users")
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
    subcommand("test", 't', "Start a server and a client on this host, send messages and check what arrives")
        .arg(flag("run", 'r', "Do it; a home that is missing is made first"))
        .arg(option("name", 'n', "NAME", "The certificate that both ends show").default_value("localhost"))
        .arg(
            option("ip", 'i', "ADDRESS", "The address to listen on")
                .value_parser(value_parser!(IpAddr))
                .default_value("127.0.0.1"),
        )
        .arg(
            option("port", 'p', "PORT", "The port; 0 is the first free one of 3000 to 3999")
                .value_parser(value_parser!(u16))
                .default_value("0"),
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
        .arg(
            option("qty", 'q', "N", "How many messages to send")
                .value_parser(value_parser!(u32))
                .default_value("100"),
        )
}

#[cfg(test)]
mod tests;

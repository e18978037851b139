//! The commands and their options, as clap knows them: spellings, help, defaults.
//!
//! The grammar comes here once for the whole. What a value may be is said in `values.rs`; what the
//! options mean together, in `args.rs`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, Command, value_parser};
use ipc_server::Protocol;
use ipc_setup::KeyType;

use super::invocation::{InboxKind, LogLevel};
use super::values::{address, letter, number_between, place, shell_command, whole_number};

/// The longest time that a client may go on trying, in seconds.
const DEADLINE_SECS_MAX: u16 = ipc_protocol::DEADLINE_SECS_MAX as u16;

pub(super) fn command() -> Command {
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
        .subcommand(backup_command())
}

fn subcommand(
    name: &'static str,
    short: char,
    usage: &'static str,
    about: &'static str,
) -> Command {
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
    subcommand(
        "certs",
        'c',
        "web-ipc --certs --name NAME [OPTIONS]",
        "Issue a certificate for a peer",
    )
    .arg(option("name", 'n', "NAME", "The peer's name: NAME.crt and NAME.key are made in the home"))
    .arg(
        option(
            "altNames",
            'a',
            "NAME",
            "What it is reached as: names and addresses [default: its name]",
        )
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
    with_server_options(test, "The certificate that both ends show", "0")
        .arg(
            option("qty", 'q', "N", "How many messages to send")
                .allow_negative_numbers(true)
                .value_parser(whole_number::<u32>)
                .default_value("100"),
        )
        .arg(option(
            "user",
            'u',
            "NAME",
            "The user to log in as [default: ipc-admin, or where it was deleted a user of the test's own]",
        ))
        .arg(login_password())
}

fn serve_command() -> Command {
    let inbox = PossibleValuesParser::new(["memory", "durable"])
        .map(|name| if name == "durable" { InboxKind::Durable } else { InboxKind::Memory });
    let about = "Run a server: each message is a JSON line on stdout, or the input of a command";
    let serve = subcommand("serve", 's', "web-ipc --serve [OPTIONS]", about);
    with_server_options(serve, "The certificate to show", "3000")
        .arg(
            option("inbox", 'b', "KIND", "Where messages wait; a durable inbox keeps them until they were dealt with")
                .value_parser(ValueParser::new(inbox))
                .default_value("memory"),
        )
        .arg(option("exec", 'x', "COMMAND", "Run this for each message, with the message on its stdin, and WEB_IPC_USER, WEB_IPC_ID and WEB_IPC_HOME in its environment; its stdout is the reply to a request. Status 0 acknowledges the message, 75 puts it back for 10 s, 65 rejects it as a dead letter").value_parser(shell_command))
        .arg(
            option("jobs", 'j', "N", "How many commands may run at once [default: 1]")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX)),
        )
        .arg(
            option(
                "tries",
                'r',
                "N",
                "How often a durable inbox delivers a message before it is a dead letter [default: 10]",
            )
            .allow_negative_numbers(true)
            .value_parser(|text: &str| number_between(text, 1, u16::MAX)),
        )
        .arg(
            option("stopWithin", 'w', "SECONDS", "How long a stop may take: commands that run are waited for, and what is in memory is dealt with first")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX))
                .default_value("60"),
        )
}

fn send_command() -> Command {
    let about = "Send a JSON object, or one a line from stdin";
    let send = subcommand("send", 'S', "web-ipc --send [OPTIONS] [OBJECT]", about)
        .arg(
            Arg::new("object")
                .value_name("OBJECT")
                .help("The message [default, and for `-`: an object a line from stdin]"),
        )
        .arg(seconds("How long to try without any progress, 480 s at most"))
        .arg(
            option("batch", 'b', "N", "How many lines go out together at most, 1 to 1000")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, 1000))
                .default_value("500"),
        )
        .arg(flag(
            "keep-going",
            'k',
            "Report a line that is no JSON object, and go on with the next",
        ));
    with_client_options(send)
}

fn request_command() -> Command {
    let about = "Send a JSON object and print the reply";
    let request = subcommand("request", 'R', "web-ipc --request [OPTIONS] [OBJECT]", about)
        .arg(
            Arg::new("object")
                .value_name("OBJECT")
                .help("The request [default, and for `-`: one object from stdin]"),
        )
        .arg(seconds(
            "How long to wait for the reply, and before that for the server, 480 s at most",
        ));
    with_client_options(request)
}

fn dead_command() -> Command {
    let letters = |name: &'static str, short, help| {
        option(name, short, "NUMBER", help).num_args(1..).value_parser(letter)
    };
    let about =
        "List messages that a durable inbox handed out too often, put them back, or discard them";
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

fn backup_command() -> Command {
    let about = "Copy a home to a directory that is not there yet, also while a server runs on it";
    subcommand("backup", 'B', "web-ipc --backup --run --out DIR", about)
        .arg(flag(
            "run",
            'r',
            "Do it; the copy is a home with everything that this one has at this moment",
        ))
        .arg(
            option("out", 'o', "DIR", "Where to make the copy; what is there is never overwritten")
                .value_parser(value_parser!(PathBuf)),
        )
}

fn seconds(help: &'static str) -> Arg {
    option("timeout", 'T', "SECONDS", help)
        .allow_negative_numbers(true)
        .value_parser(|text: &str| number_between(text, 1, DEADLINE_SECS_MAX))
        .default_value("30")
}

/// Adds what every command takes that only sends.
fn with_client_options(command: Command) -> Command {
    let ip = option(
        "ip",
        'i',
        "ADDRESS",
        "Where the server is: a host name or an IP address, with a port of its own or without. Of several, with commas \
         between them or each behind an option of its own, the first that answers is taken, and the next when one fails",
    )
    .action(ArgAction::Append)
    .value_delimiter(',')
    .value_parser(place)
    .default_value("127.0.0.1");
    with_common_options(
        command,
        "The name in the server's certificate, at every address",
        ip,
        "The server's port, where its address has none",
        "3000",
    )
    .arg(option("identity", 'c', "NAME", "The certificate to show").default_value("localhost"))
    .arg(option("user", 'u', "NAME", "The user to log in as [default: the home's ipc-admin]"))
    .arg(login_password())
}

/// The password of whom to log in as: only long, since `-p` is the port.
fn login_password() -> Arg {
    Arg::new("password")
        .long("password")
        .value_name("PASSWORD")
        .help("The user's password; `-` reads a line from stdin [default: asks on a terminal]")
}

/// Adds what every command takes that runs a server.
fn with_server_options(command: Command, name_help: &'static str, port: &'static str) -> Command {
    let port_help = "The port; 0 is the first free one of 3000 to 3999";
    let ip = option("ip", 'i', "ADDRESS", "The address to listen on")
        .value_parser(address)
        .default_value("127.0.0.1");
    with_common_options(command, name_help, ip, port_help, port)
}

/// Adds what every command takes that goes over the network.
fn with_common_options(
    command: Command,
    name_help: &'static str,
    ip: Arg,
    port_help: &'static str,
    port: &'static str,
) -> Command {
    let protocol = PossibleValuesParser::new(["https", "http"])
        .map(|name| if name == "http" { Protocol::Http } else { Protocol::Https });
    let log_level = PossibleValuesParser::new(["debug", "info", "warning", "error", "critical"])
        .map(|name| match name.as_str() {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warning" => LogLevel::Warning,
            "error" => LogLevel::Error,
            _ => LogLevel::Critical,
        });
    command
        .arg(option("name", 'n', "NAME", name_help).default_value("localhost"))
        .arg(ip)
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
            option(
                "logLevel",
                'l',
                "LEVEL",
                "How much to log; critical shows only what ends the command [default: $RUST_LOG, else info]",
            )
            .value_parser(ValueParser::new(log_level)),
        )
}

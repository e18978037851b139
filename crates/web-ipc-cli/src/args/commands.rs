//! The commands and their options, as clap knows them: spellings, help, defaults.
//!
//! `args.rs` builds the grammar from here once. `values.rs` parses single values; `args.rs` checks
//! combinations of options.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, Command, ValueHint, value_parser};
use ipc_protocol::MessageId;
use ipc_server::Protocol;
use ipc_setup::{KeyId, KeyType};

use super::completions::SHELLS;
use super::invocation::{LogFormat, LogLevel};
use super::values::{
    letter, listener, number_between, place, positive, shell_command, whole_number,
};

/// The longest timeout of a client, in seconds.
const DEADLINE_SECS_MAX: u16 = ipc_protocol::DEADLINE_SECS_MAX as u16;

pub(super) fn command() -> Command {
    Command::new("web-ipc")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("web-ipc [OPTIONS] [COMMAND]")
        .propagate_version(true)
        .about("Delivers JSON messages between processes over HTTPS with mutual TLS: encrypted, authenticated, exactly once into the inbox")
        .after_help(
            "Write a command as a subcommand or as a flag, in full or abbreviated: users --list, --users --list, -u -l. \
             First steps: web-ipc --test --run --qty 3\n\n\
             Exit status: 0 done, 1 failed or refused, 2 wrong usage, 129, 130 or 143 ended early by a signal. Of init, certs, \
             users and test no other; of the others also:\n\
             \x20 65  the data is refused, and will be again\n\
             \x20 69  the server cannot be reached\n\
             \x20 70  a bug of web-ipc\n\
             \x20 75  it is not known what became of a message, or the same may succeed later\n\
             \x20 77  a user, password, key or certificate is missing or refused",
        )
        .args_override_self(true)
        .arg(
            Arg::new("home")
                .long("home")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath)
                .global(true)
                .help("The home: the directory with keys, certificates and users [default: $WEB_IPC_HOME, else what /etc/web-ipc/config.toml names, else web-ipc in the user's data directory]"),
        )
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("Say nothing of what goes well: only warnings, errors, and what was asked for, such as a list or a reply"),
        )
        .subcommand(init_command())
        .subcommand(certs_command())
        .subcommand(users_command())
        .subcommand(test_command())
        .subcommand(serve_command())
        .subcommand(send_command())
        .subcommand(request_command())
        .subcommand(dead_command())
        .subcommand(inbox_command())
        .subcommand(backup_command())
        .subcommand(restore_command())
        .subcommand(keys_command())
        .subcommand(enrol_command())
        .subcommand(doctor_command())
        .subcommand(config_command())
        .subcommand(completions_command())
        .subcommand(manual_command())
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
        .args_override_self(true)
}

fn flag(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn option(name: &'static str, short: char, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).value_name(value_name).help(help)
}

/// Where the users are, for every command that has to do with them.
fn users_db() -> Arg {
    Arg::new("usersDb")
        .long("usersDb")
        .value_name("URL")
        .help("The PostgreSQL database with the users: postgres://USER:PASSWORD@HOST/DATABASE [default: what users.url in the home names, else users.db in the home]")
}

fn init_command() -> Command {
    subcommand(
        "init",
        'I',
        "web-ipc --init --run [OPTIONS]",
        "Make a home: keys, a certificate authority, a certificate for localhost, the user ipc-admin",
    )
    .arg(flag("run", 'r', "Make it; a complete home stays as it is, an incomplete one is completed"))
    .arg(flag("force", 'F', "Start over; the old home is kept beside the new one under a dated name"))
    .arg(
        Arg::new("importFrom")
            .long("importFrom")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with_all(["force", "usersDb"])
            .help("Make it from the environment of the Python tool in DIR (its web_env), which stays as it is: users, passwords, keys and certificates"),
    )
    .arg(users_db())
}

fn certs_command() -> Command {
    let key_type = PossibleValuesParser::new(["p256", "rsa2048", "rsa3072", "rsa4096"])
        .try_map(|name| name.parse::<KeyType>());
    subcommand(
        "certs",
        'c',
        "web-ipc --certs [OPTIONS]",
        "Issue, list, renew and revoke certificates",
    )
    .arg(option("name", 'n', "NAME", "Issue a certificate for the peer of this name, for use as a server and as a client; the command writes NAME.crt and NAME.key into the home"))
    .arg(
        option(
            "altNames",
            'a',
            "NAME",
            "The DNS names and IP addresses that clients verify (subjectAltName) [default: the peer's name]",
        )
        .num_args(1..),
    )
    .arg(flag("force", 'F', "Replace the pair of that name; servers and clients that are running take the new one"))
    .arg(
        Arg::new("days")
            .long("days")
            .value_name("N")
            .allow_negative_numbers(true)
            .value_parser(whole_number::<u32>)
            .help("Days until the certificate expires [default: 365]"),
    )
    .arg(
        Arg::new("keyType")
            .long("keyType")
            .value_name("TYPE")
            .value_parser(ValueParser::new(key_type))
            .help("The type of the key; use RSA for peers that need it [default: p256]"),
    )
    .arg(
        flag("list", 'l', "List the certificates of the home and those issued for others; warn of those that expire within 30 days")
            .conflicts_with_all(["name", "altNames", "force", "days", "keyType", "renew", "revoke", "all", "due"]),
    )
    .arg(
        flag("renew", 'r', "Replace pairs of this home by new ones with the same names: that of --name, those that are --due, or all")
            .conflicts_with_all(["altNames", "force", "days", "keyType", "revoke"]),
    )
    .arg(flag("all", 'A', "Renew every pair of this home").conflicts_with_all(["name", "due"]))
    .arg(
        flag("due", 'D', "Renew the pairs that have less than a third of their life left, as from a timer")
            .conflicts_with("name"),
    )
    .arg(
        Arg::new("rotateCa")
            .long("rotateCa")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["name", "altNames", "force", "days", "keyType", "list", "renew", "revoke", "all", "due", "dropOldCa"])
            .help("Make a new authority, and issue every pair of this home anew; the old authority stays trusted until --dropOldCa"),
    )
    .arg(
        Arg::new("dropOldCa")
            .long("dropOldCa")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["name", "altNames", "days", "keyType", "list", "renew", "revoke", "all", "due"])
            .help("Remove the authority that --rotateCa replaced; with --force although a client has not followed"),
    )
    .arg(
        option("revoke", 'R', "NAME|SERIAL", "Revoke the certificates of this name, or the one with this serial number; no restart is needed")
            .conflicts_with_all(["name", "altNames", "force", "days", "keyType", "all", "due"]),
    )
    .arg(users_db())
}

fn users_command() -> Command {
    subcommand(
        "users",
        'u',
        "web-ipc --users [OPTIONS]",
        "Add, list, check, change, disable, bind and delete users",
    )
    .arg(flag("add", 'a', "Add a user"))
    .arg(flag("delete", 'd', "Delete a user; the user's sessions end within a second"))
    .arg(flag("list", 'l', "List the users in the order in which they were added"))
    .arg(flag("testCredentials", 't', "Check a user's password"))
    .arg(flag("change", 'c', "Change a user's password; the user's sessions end within a second"))
    .arg(flag("long", 'L', "With --list: also when each user was added and last logged in, failed logins since, whether the user is disabled, the bound certificate"))
    .arg(flag("disable", 'x', "Disable a user: logins are refused, and the user's sessions end within a second"))
    .arg(flag("enable", 'e', "Let a disabled user log in again"))
    .arg(option("bind", 'b', "NAME", "Bind a user to the certificate of a peer; needs --cert"))
    .arg(option("cert", 'C', "PEER", "The peer's name in the certificate that the user must use"))
    .arg(option("unbind", 'U', "NAME", "Let a bound user log in with any certificate"))
    .arg(
        option("copyTo", 'T', "URL", "Copy all users to this PostgreSQL database, with their hashes, rights and dates; their sessions go on. Users who are there already and differ stop the copy")
            .conflicts_with_all(["add", "delete", "list", "testCredentials", "change", "disable", "enable", "bind", "unbind"]),
    )
    .arg(flag("force", 'F', "With --copyTo: overwrite users who are there already and differ"))
    .arg(users_db())
    .arg(option("user", 'u', "NAME", "The name of the user"))
    .arg(option(
        "password",
        'p',
        "PASSWORD",
        "The password; `-` reads the first line of stdin [default: ask on a terminal]",
    ))
}

fn test_command() -> Command {
    let about = "Start a server and a client on this host, send messages, and check that they arrive unaltered";
    let test = subcommand("test", 't', "web-ipc --test --run [OPTIONS]", about).arg(flag(
        "run",
        'r',
        "Run the test; a missing home is made first",
    ));
    with_server_options(test, "The certificate that server and client present", "0")
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
            "The user to log in as [default: ipc-admin, or a temporary user if ipc-admin was deleted]",
        ))
        .arg(login_password())
}

/// What `--metrics` without a value means.
pub(super) const METRICS_ADDRESS: &str = "127.0.0.1:9464";

/// The form of an address of an inbox, as it is listed beside the kinds with a name.
const INBOX_ADDRESS: &str = "nats://HOST:PORT/NAME";

/// The kinds with these names, and addresses. Whether an address is one is checked in `args.rs`:
/// clap would repeat it, and it may have a password.
fn inbox_kind(names: &'static [&'static str]) -> ValueParser {
    let named = PossibleValuesParser::new(names.iter().copied().chain([INBOX_ADDRESS]));
    ValueParser::new(InboxKindParser { named })
}

#[derive(Clone)]
struct InboxKindParser {
    named: PossibleValuesParser,
}

impl TypedValueParser for InboxKindParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        // Also what was to be an address, and has no scheme.
        match value.to_str().filter(|text| text.contains([':', '/', '@']) && *text != INBOX_ADDRESS)
        {
            Some(address) => Ok(address.to_owned()),
            None => self.named.parse_ref(command, argument, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.named.possible_values()
    }
}

fn serve_command() -> Command {
    let about = "Run a server: print each message as a line of JSON, or run a command for it";
    let serve = subcommand("serve", 's', "web-ipc --serve [OPTIONS]", about);
    with_server_options(serve, "The certificate to present", "3000")
        .arg(
            option("inbox", 'b', "KIND", "Where messages wait: memory loses them when the process is killed; durable keeps them in the home until they are printed, or their command exits 0; nats://HOST:PORT/NAME keeps them on NATS JetStream, for several servers (docs/jetstream.md)")
                .value_parser(inbox_kind(&["memory", "durable"]))
                .default_value("memory"),
        )
        .arg(option("exec", 'x', "COMMAND", "Run this shell command for each message. The body is on its stdin; WEB_IPC_USER, WEB_IPC_PEER, WEB_IPC_ID, WEB_IPC_TRY, WEB_IPC_REDELIVERED, WEB_IPC_REQUEST and WEB_IPC_HOME are in its environment; its stdout is the reply to a request. Exit status 0 acknowledges the message, 65 makes it a dead letter, 75 puts it back for 10 s, any other leaves it in the durable inbox for another try").value_parser(shell_command))
        .arg(
            option("jobs", 'j', "N", "Run up to N commands at once [default: 1]")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX)),
        )
        .arg(
            option(
                "tries",
                'r',
                "N",
                "Make a message a dead letter after N deliveries without success; needs --inbox durable [default: 10]",
            )
            .allow_negative_numbers(true)
            .value_parser(|text: &str| number_between(text, 1, u16::MAX)),
        )
        .arg(
            option("drain", 'd', "SECONDS", "When stopped by a signal, go on for so long first while /is/running answers 503, so that a load balancer sends clients elsewhere; another signal ends that")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 0, u16::MAX))
                .default_value("0"),
        )
        .arg(
            option("stopWithin", 'w', "SECONDS", "How long a stop may take: it waits for running commands, and for messages in memory")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX))
                .default_value("60"),
        )
        .arg(
            Arg::new("metrics")
                .long("metrics")
                .value_name("ADDRESS")
                .num_args(0..=1)
                .default_missing_value(METRICS_ADDRESS)
                .help("Show figures at this IP address and port: /metrics for Prometheus, /healthz and /readyz, and a status page at / [default without an address: 127.0.0.1:9464]"),
        )
        .arg(
            Arg::new("allowRemoteMetrics")
                .long("allowRemoteMetrics")
                .action(ArgAction::SetTrue)
                .help("Let --metrics listen where other hosts reach it; it has neither TLS nor a login, and shows the names of peers and users"),
        )
        .arg(
            Arg::new("metricsNames")
                .long("metricsNames")
                .value_name("NAMES")
                .num_args(1..)
                .value_delimiter(',')
                .help("Host names by which --metrics is asked for; by others than these, localhost and IP addresses it is not answered"),
        )
        .arg(
            Arg::new("compat")
                .long("compat")
                .value_name("PEER")
                .value_parser(["python"])
                .help("Also take messages of peers that run the unmodified Python tool, as pickled dicts; nothing in a pickle is run. Such a peer has no session of its own: see docs/from-the-python-tool.md"),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .allow_negative_numbers(true)
                .value_parser(positive)
                .help("End after N messages, with status 0, or 75 if it was stopped before; the others stay in the durable inbox"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, u16::MAX))
                .help("End when no message has come for so long, not counting those that were put back and wait for their delay; with status 75 if --count is not reached, else with 0"),
        )
        .arg(
            Arg::new("body")
                .long("body")
                .action(ArgAction::SetTrue)
                .conflicts_with("exec")
                .help("Print the body of each message alone, without its id and sender"),
        )
}

fn send_command() -> Command {
    let about = "Send a JSON object, or one object a line from files or stdin";
    let send = subcommand("send", 'S', "web-ipc --send [OPTIONS] [OBJECT | FILE...]", about)
        .arg(
            Arg::new("object")
                .value_name("OBJECT")
                .num_args(1..)
                .action(ArgAction::Append)
                .value_hint(ValueHint::FilePath)
                .help("The message, a JSON object in quotes; or files with one object a line each [default, or `-`: stdin]"),
        )
        .arg(
            Arg::new("id")
                .long("id")
                .value_name("ID")
                .value_parser(|text: &str| text.parse::<MessageId>())
                .conflicts_with("idKey")
                .help("Send the one message under this id, a UUID: if it was sent under the id before, it is not delivered again"),
        )
        .arg(
            Arg::new("idKey")
                .long("idKey")
                .value_name("MEMBER")
                .help("Take the id of each message from its member of this name: a UUID as it is; of any other text or number an id is made"),
        )
        .arg(
            Arg::new("ids")
                .long("ids")
                .action(ArgAction::SetTrue)
                .help("Print the id of each message on a line, before it is sent, instead of the summary"),
        )
        .arg(seconds("How long to retry without progress, 480 s at most"))
        .arg(
            option("batch", 'b', "N", "Send at most N lines together, 1 to 1000")
                .allow_negative_numbers(true)
                .value_parser(|text: &str| number_between(text, 1, 1000))
                .default_value("500"),
        )
        .arg(
            Arg::new("compat")
                .long("compat")
                .value_name("PEER")
                .value_parser(["python"])
                .conflicts_with_all(["id", "idKey", "ids", "batch"])
                .help("Send to a server of the unmodified Python tool, as pickled dicts; it knows no ids, so that nothing which may have arrived is sent again: see docs/from-the-python-tool.md"),
        )
        .arg(flag(
            "keep-going",
            'k',
            "Report a line that is not a JSON object, and go on; the exit status is then 65 or 75",
        ));
    with_client_options(send)
}

fn request_command() -> Command {
    let about = "Send a JSON object, wait for the reply, and print it";
    let request =
        subcommand("request", 'R', "web-ipc --request [OPTIONS] [OBJECT]", about)
            // Known only to be refused with the reason.
            .arg(Arg::new("compat").long("compat").value_name("PEER").hide(true))
            .arg(Arg::new("object").value_name("OBJECT").help(
                "The request, a JSON object in quotes [default, or `-`: one object from stdin]",
            ))
            .arg(seconds(
                "How long to look for the server, and then to wait for the reply, 480 s at most",
            ));
    with_client_options(request)
}

fn dead_command() -> Command {
    let letters = |name: &'static str, short, help| {
        option(name, short, "NUMBER", help).num_args(1..).value_parser(letter)
    };
    let about = "List dead letters (messages that a durable inbox delivered too often), requeue or discard them";
    subcommand("dead", 'd', "web-ipc --dead [OPTIONS]", about)
        .arg(
            flag("list", 'l', "List the dead letters, one line of JSON each, with its number; works while a server runs")
                .conflicts_with_all(["putBack", "discard"]),
        )
        .arg(
            letters("putBack", 'p', "Requeue these dead letters (`all` for every one) for the next --serve")
                .conflicts_with("discard"),
        )
        .arg(follow("With --list: go on with dead letters that are new, until a signal comes"))
        .arg(letters("discard", 'x', "Delete these dead letters (`all` for every one)"))
        .arg(
            option("inbox", 'b', "KIND", "The inbox that has them: durable in the home, or nats://HOST:PORT/NAME")
                .value_parser(inbox_kind(&["durable"]))
                .default_value("durable"),
        )
}

fn inbox_command() -> Command {
    let about = "List the messages of the durable inbox that are not acknowledged yet";
    subcommand("inbox", 'b', "web-ipc --inbox --list [OPTIONS]", about)
        .arg(flag("list", 'l', "List the messages, one line of JSON each; works while a server runs, and changes nothing"))
        .arg(follow("With --list: go on with messages that are new, until a signal comes"))
}

fn follow(help: &'static str) -> Arg {
    Arg::new("follow").long("follow").short('f').action(ArgAction::SetTrue).help(help)
}

fn backup_command() -> Command {
    let about = "Back up a home to one sealed file, or copy it to a new directory, also while a server runs on it";
    subcommand("backup", 'B', "web-ipc --backup FILE [OPTIONS]\n       web-ipc --backup --run --out DIR", about)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The new file; the code that opens it is printed on stderr, and is shown only once"),
        )
        .arg(code_file("Seal the file under the code in this file, or on the first line of stdin for `-`, instead of a new one: for cron"))
        .arg(flag(
            "run",
            'r',
            "With --out: make the copy, a home with everything that this one has at this moment",
        ))
        .arg(
            option("out", 'o', "DIR", "The new directory, which is not sealed; an existing one is never overwritten")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath),
        )
}

fn restore_command() -> Command {
    Command::new("restore")
        .override_usage("web-ipc --restore FILE [OPTIONS]")
        .long_flag("restore")
        .about("Make a home of a sealed backup")
        .args_override_self(true)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The file that --backup FILE has made"),
        )
        .arg(code_file("Take the code from this file, or from the first line of stdin for `-` [default: WEB_IPC_CODE, else ask on a terminal, else the first line of stdin]"))
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("Keep the home that is there aside under a dated name; without it, only an empty directory or none may be there"),
        )
}

fn code_file(help: &'static str) -> Arg {
    Arg::new("codeFile")
        .long("codeFile")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn keys_command() -> Command {
    let about = "List, rotate and drop the keys that seal messages and session tokens";
    subcommand("keys", 'k', "web-ipc --keys [OPTIONS]", about)
        .arg(
            flag("list", 'l', "List the keys of both rings with their ids, never the keys")
                .conflicts_with_all(["rotate", "drop"]),
        )
        .arg(
            flag("rotate", 'r', "Make a new key, which seals from now on; the others still open")
                .conflicts_with("drop"),
        )
        .arg(
            option("drop", 'd', "ID", "Drop the key with this id; what it sealed opens no more")
                .value_parser(|text: &str| text.parse::<KeyId>()),
        )
        .arg(
            flag("session", 's', "Rotate or drop a key for session tokens instead of messages")
                .conflicts_with("list"),
        )
        .arg(
            flag(
                "force",
                'F',
                "With --drop: drop the key although a client still uses it, which is refused then",
            )
            .requires("drop")
            .conflicts_with_all(["list", "rotate"]),
        )
        .arg(users_db())
}

/// The options that only `--enrol --create` has.
pub(super) const OF_ENROL_CREATE: [&str; 8] =
    ["name", "user", "server", "serverName", "days", "out", "kind", "altNames"];

fn enrol_command() -> Command {
    let about =
        "Enrol a client on another host, or a further server: make a bundle here, accept it there";
    let of_create = OF_ENROL_CREATE;
    let others: Vec<&str> = ["create", "list", "cancel"].into_iter().chain(of_create).collect();
    subcommand("enrol", 'e', "web-ipc --enrol [OPTIONS]", about)
        .arg(
            flag("create", 'c', "Make a certificate and a user for the client --name, and print them as a bundle; the code that opens it goes to stderr")
                .conflicts_with_all(["list", "cancel"]),
        )
        .arg(option("name", 'n', "NAME", "The client's name, or the further server's"))
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .value_parser(["client", "server"])
                .help("What is enrolled: a client, or a further server of this installation with every key that servers share, and a copy of the users or the address of their database [default: client]"),
        )
        .arg(
            Arg::new("altNames")
                .long("altNames")
                .value_name("NAME")
                .num_args(1..)
                .help("The DNS names and IP addresses that clients verify in the further server's certificate, besides its name and those of this server"),
        )
        .arg(option("user", 'u', "NAME", "The user to make for it [default: the client's name]"))
        .arg(
            option("server", 's', "ADDRESS", "Where the client reaches the server: host names or IP addresses, with a port or without [default: the addresses of this host, port 3000]")
                .num_args(1..)
                .value_delimiter(',')
                .value_parser(place),
        )
        .arg(
            Arg::new("serverName")
                .long("serverName")
                .value_name("NAME")
                .help("The name in the server's certificate, as --serve --name has it [default: localhost]"),
        )
        .arg(
            option("days", 'd', "N", "Days until the client's certificate expires [default: 365]")
                .allow_negative_numbers(true)
                .value_parser(whole_number::<u32>),
        )
        .arg(
            option("out", 'o', "FILE", "Write the bundle to this new file instead of stdout")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            option("accept", 'a', "FILE", "Make a home of the bundle in this file, or on stdin for `-`. The code is asked for on the terminal, or is the first line of stdin, or WEB_IPC_CODE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(others),
        )
        .arg(flag("list", 'l', "List the enrolments of this home").conflicts_with_all(of_create))
        .arg(
            option("cancel", 'x', "NAME", "Revoke the certificates of the client or server and delete its user")
                .conflicts_with("list")
                .conflicts_with_all(of_create),
        )
        .arg(users_db().conflicts_with_all(["accept", "list"]))
}

fn doctor_command() -> Command {
    let about =
        "Say what is wrong with this home and with the way to its server, and what mends it";
    subcommand("doctor", 'D', "web-ipc --doctor [OPTIONS]", about)
        .arg(
            option("server", 's', "ADDRESS", "Try the server at these addresses: host names or IP addresses, with a port or without [default: those of an enrolled client's home; in a server's home, whether port 3000 is free or has its server]")
                .num_args(1..)
                .value_delimiter(',')
                .value_parser(place),
        )
        .arg(option("name", 'n', "NAME", "The name in the server's certificate [default: that of an enrolled client's home, else localhost]"))
        .arg(option("identity", 'c', "NAME", "The certificate to present [default: that of an enrolled client's home, else localhost]"))
        .arg(protocol())
        .arg(flag("json", 'j', "Print one JSON object instead of lines"))
}

/// It came last, and has no letter: those of its name are taken.
fn config_command() -> Command {
    let one =
        |name: &'static str, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("config")
        .override_usage("web-ipc --config --show [OPTIONS] [COMMAND]")
        .long_flag("config")
        .about("Show what is configured and where each value comes from, or check it")
        .args_override_self(true)
        .arg(one("show", "Show each option that can be configured, with its value and where that comes from"))
        .arg(
            one("check", "List what is wrong with the configuration, one fault a line; exit 1 if there is any")
                .conflicts_with("show"),
        )
        .arg(one("json", "Print one JSON object instead of lines"))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("Show the options of this command alone, such as serve"),
        )
}

/// A command that tells of the program itself. It came after the letters and abbreviations.
fn of_the_program(name: &'static str, usage: &'static str, about: &'static str) -> Command {
    Command::new(name).long_flag(name).override_usage(usage).about(about).args_override_self(true)
}

fn completions_command() -> Command {
    let about = "Print completions for a shell";
    of_the_program("completions", "web-ipc --completions SHELL", about).arg(
        Arg::new("shell")
            .value_name("SHELL")
            .value_parser(PossibleValuesParser::new(SHELLS))
            .help("The shell"),
    )
}

fn manual_command() -> Command {
    let about = "Print a page of the manual, to be shown by: man -l -";
    of_the_program("manual", "web-ipc --manual [COMMAND]", about).arg(
        Arg::new("page")
            .value_name("COMMAND")
            .help("The command whose page it is [default: the page of web-ipc]"),
    )
}

fn seconds(help: &'static str) -> Arg {
    option("timeout", 'T', "SECONDS", help)
        .allow_negative_numbers(true)
        .value_parser(|text: &str| number_between(text, 1, DEADLINE_SECS_MAX))
        .default_value("30")
}

/// Adds the options of every command that only sends.
fn with_client_options(command: Command) -> Command {
    let ip = option(
        "ip",
        'i',
        "ADDRESS",
        "The server's address: a host name or an IP address, with or without a port. Separate several by commas, or repeat \
         the option; the first that answers is used, and the next one when it fails",
    )
    .action(ArgAction::Append)
    .value_delimiter(',')
    .value_parser(place)
    .default_value("127.0.0.1");
    with_common_options(
        command,
        "The name in the server's certificate, verified at every address",
        ip,
        "The port of addresses that have none",
        "3000",
    )
    .arg(option("identity", 'c', "NAME", "The certificate to present").default_value("localhost"))
    .arg(option(
        "user",
        'u',
        "NAME",
        "The user to log in as [default: ipc-admin, with the password in the home]",
    ))
    .arg(login_password())
}

/// The password of the user to log in as. It has no letter, since `-p` is the port.
fn login_password() -> Arg {
    Arg::new("password")
        .long("password")
        .value_name("PASSWORD")
        .help("The user's password; `-` reads the first line of stdin [default: ask on a terminal]")
}

/// Adds the options of every command that runs a server.
fn with_server_options(command: Command, name_help: &'static str, port: &'static str) -> Command {
    let port_help = "The port to listen on; 0 takes the first free one of 3000 to 3999";
    let ip = option("ip", 'i', "ADDRESS", "The IP address to listen on, with or without a port")
        .value_parser(listener)
        .default_value("127.0.0.1");
    with_common_options(command, name_help, ip, port_help, port).arg(users_db())
}

fn protocol() -> Arg {
    let protocol = PossibleValuesParser::new(["https", "http"])
        .map(|name| if name == "http" { Protocol::Http } else { Protocol::Https });
    option(
        "protocol",
        'P',
        "PROTOCOL",
        "https, or http without TLS, which needs a loopback address",
    )
    .value_parser(ValueParser::new(protocol))
    .default_value("https")
}

/// Adds the options of every command that uses the network.
fn with_common_options(
    command: Command,
    name_help: &'static str,
    ip: Arg,
    port_help: &'static str,
    port: &'static str,
) -> Command {
    let levels = ["debug", "info", "warning", "error", "critical"].map(PossibleValue::new);
    let levels = levels.map(|level| match level.get_name() {
        "warning" => level.alias("warn"),
        _ => level,
    });
    let log_format = PossibleValuesParser::new(["text", "json"])
        .map(|name| if name == "json" { LogFormat::Json } else { LogFormat::Text });
    let log_level = PossibleValuesParser::new(levels).map(|name| match name.as_str() {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warning" | "warn" => LogLevel::Warning,
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
        .arg(protocol())
        .arg(
            option(
                "logLevel",
                'l',
                "LEVEL",
                "How much to log on stderr; critical logs only what ends the command [default: $RUST_LOG, else info]",
            )
            .value_parser(ValueParser::new(log_level)),
        )
        .arg(
            Arg::new("logFormat")
                .long("logFormat")
                .value_name("FORMAT")
                .value_parser(ValueParser::new(log_format))
                .default_value("text")
                .help("The form of the log: text, or json with one object a line"),
        )
}

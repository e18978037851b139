//! Parses the command line into an [`Invocation`].
//!
//! `main` comes here with the arguments from the system. Nothing is opened or printed here; an
//! error is returned as text. The spellings are those of the Python tool of the same name.

mod applied;
mod commands;
mod completions;
mod configurable;
mod configuration;
mod inbox_address;
mod invocation;
mod manual;
mod shown;
mod source;
mod spelling;
mod toml_file;
mod urls;
mod usage_error;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use ipc_setup::{Renew, Ring};
use zeroize::Zeroizing;

use commands::{OF_ENROL_CREATE, command};
use configuration::Configuration;
pub(crate) use configuration::Surroundings;
use inbox_address::inbox_at;
pub(crate) use invocation::{
    AccountChange, Action, Certs, Dead, DeadAction, Doctor, Enrol, EnrolCreate, Given, GivenIds,
    InboxKind, Input, Invocation, Keys, Letters, LogFormat, LogLevel, Metrics, RequestArgs,
    SendArgs, Serve, Settings, Target, Test, ToSend, Users,
};
pub(crate) use source::{ConfigView, Row, Shown, Source};
pub(crate) use usage_error::UsageError;
use usage_error::usage_of;
use values::{Listener, Place};

use crate::escape::printable;

/// The port of a server that is told no other: that of `--serve`.
const SERVER_PORT: u16 = 3000;

/// Names of the program that stand for a command: a link `web-ipc-users` runs `web-ipc users`.
const OTHER_NAMES: [(&str, &str); 15] = [
    ("web-ipc-certs", "certs"),
    ("web-ipc-init", "init"),
    ("web-ipc-users", "users"),
    ("web-ipc-test", "test"),
    ("web-ipc-serve", "serve"),
    ("web-ipc-send", "send"),
    ("web-ipc-request", "request"),
    ("web-ipc-dead", "dead"),
    ("web-ipc-inbox", "inbox"),
    ("web-ipc-backup", "backup"),
    ("web-ipc-restore", "restore"),
    ("web-ipc-keys", "keys"),
    ("web-ipc-enrol", "enrol"),
    ("web-ipc-doctor", "doctor"),
    ("web-ipc-config", "config"),
];

/// Parses the command line, which begins with the program's name, with what is configured.
///
/// # Errors
/// Wrong usage, or a fault of the configuration, with what to do.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
) -> Result<Invocation, UsageError> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let other_name = arguments.first().and_then(|name| other_name(Path::new(name)));
    if let Some((_, command)) = other_name {
        arguments.insert(1, command.into());
    }
    let mut command = command_called(other_name);
    spelling::in_full(&command, &mut arguments);
    usage_error::refuse_value_of_command(&command, &arguments)?;
    let matches = match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            return Err(usage_error::explain(&command, &arguments, &error));
        }
        // The user asked for the help or the version.
        Err(error) => {
            return Ok(Invocation {
                home: None,
                quiet: false,
                users_db: None,
                log_format: LogFormat::Text,
                settings: Settings::default(),
                action: Action::Help(error.render().to_string()),
            });
        }
    };
    let Some((name, options)) = matches.subcommand() else {
        return Err(UsageError::without_action(None, &command.render_help().to_string()));
    };
    // These tell of the program alone, whatever is configured.
    let of_the_program = match name {
        "completions" => completions(options),
        "manual" => Some(Action::Help(manual(&command, options)?)),
        _ => None,
    };
    if let Some(action) = of_the_program {
        return Ok(Invocation {
            home: None,
            quiet: options.get_flag("quiet"),
            users_db: None,
            log_format: LogFormat::Text,
            settings: Settings::default(),
            action,
        });
    }
    let explicit_home = home(options);
    // As it is before clap has built it, which copies the global options into each command.
    let whole = command_called(other_name);
    let configuration = Configuration::load(&whole, explicit_home.as_deref(), surroundings);
    if name == "config" {
        let action = config(&command, options, &whole, &configuration)?;
        return Ok(Invocation {
            home: explicit_home,
            quiet: options.get_flag("quiet"),
            users_db: None,
            log_format: LogFormat::Text,
            settings: Settings::default(),
            action,
        });
    }
    let applied = applied::choose(&whole, name, options, &configuration)
        .map_err(|faults| UsageError::configuration(&faults))?;
    let configured: Vec<&str> = applied.iter().map(|one| one.setting.option.as_str()).collect();
    let mut command = applied::with_defaults(whole, &applied);
    let matches = command
        .try_get_matches_from_mut(&arguments)
        .map_err(|error| usage_error::explain(&command, &arguments, &error).with_configured())?;
    let options = matches.subcommand_matches(name).expect("the same arguments name it");
    let said = Said { options, configured: &configured };
    let action = action(&command, name, &arguments, &said)
        .map_err(|error| if configured.is_empty() { error } else { error.with_configured() })?;
    match action {
        Some(action) => {
            // Commands that have nothing to do with users do not know the option.
            let users_db = options.try_get_one::<String>("usersDb").ok().flatten().cloned();
            // Nor do those without a log know its form.
            let log_format = options.try_get_one::<LogFormat>("logFormat").ok().flatten().copied();
            Ok(Invocation {
                log_format: log_format.unwrap_or_default(),
                home: explicit_home.or(configuration.home),
                quiet: options.get_flag("quiet"),
                users_db: users_db.map(Zeroizing::new),
                settings: settings(&command, name, options),
                action,
            })
        }
        None => Err(UsageError::without_action(
            Some(missing_action(name)),
            &help_of(&mut command_called(other_name), name),
        )),
    }
}

/// The grammar for a program of this name.
fn command_called(other_name: Option<(&'static str, &'static str)>) -> Command {
    let command = command();
    let Some((program, name)) = other_name else { return command };
    command.mut_subcommand(name, |command| {
        let usage = usage_of(&command).replacen(&format!("web-ipc --{name}"), program, 1);
        command.override_usage(usage)
    })
}

/// The options of a command, and which of them were configured.
struct Said<'a> {
    options: &'a ArgMatches,
    configured: &'a [&'a str],
}

impl Said<'_> {
    /// Whether somebody has said it, as opposed to its default.
    fn is_given(&self, name: &str) -> bool {
        self.is_on_the_command_line(name) || self.is_configured(name)
    }

    fn is_on_the_command_line(&self, name: &str) -> bool {
        self.options.value_source(name) == Some(ValueSource::CommandLine)
    }

    fn is_configured(&self, name: &str) -> bool {
        !self.is_on_the_command_line(name) && self.configured.contains(&name)
    }
}

fn action(
    command: &Command,
    name: &str,
    arguments: &[OsString],
    said: &Said<'_>,
) -> Result<Option<Action>, UsageError> {
    let options = said.options;
    Ok(match name {
        "init" if options.get_flag("run") => Some(match options.get_one::<PathBuf>("importFrom") {
            Some(from) => Action::Import { from: from.clone() },
            None => Action::Init { force: options.get_flag("force") },
        }),
        "certs" => {
            refuse_users_db_without_list(command, "certs", options)?;
            certs_action(command, options)?
        }
        "users" => users(command, options)?.map(Action::Users),
        "test" => test(command, said)?.map(Action::Test),
        "serve" => Some(Action::Serve(serve(command, said)?)),
        "send" => Some(Action::Send(send_args(command, arguments, said)?)),
        "request" => Some(Action::Request(request_args(command, said)?)),
        "dead" => dead(command, options)?.map(Action::Dead),
        "inbox" if options.get_flag("list") => {
            Some(Action::Inbox { follow: options.get_flag("follow") })
        }
        "enrol" => enrol(command, options)?.map(Action::Enrol),
        "keys" => {
            refuse_users_db_without_list(command, "keys", options)?;
            keys(options).map(Action::Keys)
        }
        "doctor" => Some(Action::Doctor(doctor(options))),
        "backup" => backup(command, options)?,
        "restore" => restore(command, options)?,
        _ => None,
    })
}

fn config(
    command: &Command,
    options: &ArgMatches,
    whole: &Command,
    configuration: &Configuration,
) -> Result<Action, UsageError> {
    let config = command.find_subcommand("config").expect("it is defined here");
    let refused = |what: &str, tip: Option<&str>| UsageError::new(what, tip, &usage_of(config));
    let table = text(options, "command");
    let (shows, checks) = (options.get_flag("show"), options.get_flag("check"));
    if !shows && !checks {
        let help = help_of(&mut command.clone(), "config");
        return Err(UsageError::without_action(Some(missing_action("config")), &help));
    }
    if checks && table.is_some() {
        return Err(refused("'--check' looks at all of it and takes no command", None));
    }
    if let Some(table) = table.as_deref()
        && !configurable::tables(whole).any(|one| one.get_name() == table)
    {
        let tables: Vec<&str> = configurable::tables(whole).map(Command::get_name).collect();
        let tip = format!("it takes one of {}", tables.join(", "));
        let what = format!("there is nothing to configure for '{}'", printable(table));
        return Err(refused(&what, Some(&tip)));
    }
    let view = shown::view(whole, configuration, table.as_deref(), shows);
    Ok(Action::Config { view, json: options.get_flag("json") })
}

/// What counts for each option of a command, wherever it comes from.
fn settings(command: &Command, name: &str, options: &ArgMatches) -> Settings {
    let own = command.find_subcommand(name).expect("clap picked it from among them");
    let value = |option: &clap::Arg| {
        // The home is compared by its path.
        let id = Some(option.get_id().as_str()).filter(|id| *id != "home")?;
        let raw = options.try_get_raw(id).ok().flatten()?;
        Some((id.to_owned(), raw.map(OsString::from).collect()))
    };
    Settings(own.get_arguments().filter_map(value).collect())
}

/// The error for a command that lacks its action.
fn missing_action(name: &str) -> &'static str {
    match name {
        "init" => "'--init' does nothing without '--run'",
        "certs" => "'--certs' needs '--name <NAME>', '--list', '--renew' or '--revoke <NAME>'",
        "users" => {
            "'--users' needs '--add', '--delete', '--list', '--testCredentials', '--change', '--disable', '--enable', '--bind', '--unbind' or '--copyTo'"
        }
        "test" => "'--test' does nothing without '--run'",
        "enrol" => "'--enrol' needs '--create', '--accept <FILE>', '--list' or '--cancel <NAME>'",
        "keys" => "'--keys' needs '--list', '--rotate' or '--drop <ID>'",
        "dead" => "'--dead' needs '--list', '--putBack' or '--discard'",
        "inbox" => "'--inbox' needs '--list'",
        "backup" => "'--backup' needs '<FILE>', or '--run' and '--out <DIR>'",
        "restore" => "'--restore' needs '<FILE>'",
        "config" => "'--config' needs '--show' or '--check'",
        "completions" => "'--completions' needs the name of a shell: bash, zsh or fish",
        // No other command needs an action.
        _ => "an action is missing",
    }
}

/// The name under which the program was started, and its command, if the name stands for one.
fn other_name(path: &Path) -> Option<(&'static str, &'static str)> {
    let name = path.file_name()?.to_str()?;
    OTHER_NAMES.iter().find(|(other, _)| *other == name).copied()
}

fn help_of(command: &mut Command, name: &str) -> String {
    let picked = command.find_subcommand_mut(name).expect("clap picked it from among them");
    picked.render_help().to_string()
}

fn home(matches: &ArgMatches) -> Option<PathBuf> {
    matches.get_one::<PathBuf>("home").cloned()
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

/// `--logLevel`, if it was given.
fn log_level(matches: &ArgMatches) -> Option<LogLevel> {
    matches.get_one("logLevel").copied()
}

/// Refuses the option `given` of the command `name` if the option `needed` is missing, without
/// which it has no effect.
fn refuse_lone(
    command: &Command,
    name: &str,
    options: &ArgMatches,
    (given, needed): (&str, &str),
) -> Result<(), UsageError> {
    if !options.contains_id(given) || options.contains_id(needed) {
        return Ok(());
    }
    let command = command.find_subcommand(name).expect("it is defined here");
    let shown =
        |id| command.get_arguments().find(|option| option.get_id() == id).map(ToString::to_string);
    let (given, needed) = (shown(given).unwrap_or_default(), shown(needed).unwrap_or_default());
    Err(UsageError::new(&format!("'{given}' needs '{needed}'"), None, &usage_of(command)))
}

/// Only the lists of these commands have to do with users.
fn refuse_users_db_without_list(
    command: &Command,
    name: &str,
    options: &ArgMatches,
) -> Result<(), UsageError> {
    if options.get_flag("list") || !options.contains_id("usersDb") {
        return Ok(());
    }
    let command = command.find_subcommand(name).expect("it is defined here");
    Err(UsageError::new("'--usersDb <URL>' needs '--list'", None, &usage_of(command)))
}

fn certs_action(command: &Command, options: &ArgMatches) -> Result<Option<Action>, UsageError> {
    if options.get_flag("list") {
        return Ok(Some(Action::ListCertificates));
    }
    if let Some(which) = text(options, "revoke") {
        return Ok(Some(Action::Revoke(which)));
    }
    if options.get_flag("rotateCa") {
        return Ok(Some(Action::RotateAuthority));
    }
    if options.get_flag("dropOldCa") {
        return Ok(Some(Action::DropOldAuthority { force: options.get_flag("force") }));
    }
    let is_due = options.get_flag("due");
    if options.get_flag("renew") {
        return Ok(Some(Action::Renew(match text(options, "name") {
            Some(name) => Renew::Name(name),
            None if is_due => Renew::Due,
            None => Renew::All,
        })));
    }
    if is_due || options.get_flag("all") {
        let what = if is_due { "'--due' needs '--renew'" } else { "'--all' needs '--renew'" };
        let certs = command.find_subcommand("certs").expect("it is defined here");
        return Err(UsageError::new(what, None, &usage_of(certs)));
    }
    Ok(certs(command, options)?.map(Action::Certs))
}

fn certs(command: &Command, options: &ArgMatches) -> Result<Option<Certs>, UsageError> {
    let Some(name) = text(options, "name") else {
        let others = ["altNames", "days", "keyType"];
        if !options.get_flag("force") && !others.iter().any(|option| options.contains_id(option)) {
            return Ok(None);
        }
        let certs = command.find_subcommand("certs").expect("it is defined here");
        return Err(UsageError::new("'--name <NAME>' is required", None, &usage_of(certs)));
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

fn users(command: &Command, options: &ArgMatches) -> Result<Option<Users>, UsageError> {
    refuse_lone(command, "users", options, ("bind", "cert"))?;
    refuse_lone(command, "users", options, ("cert", "bind"))?;
    let account = account_change(options);
    let users = Users {
        long: options.get_flag("long"),
        account,
        copy_to: text(options, "copyTo")
            .map(|url| (Zeroizing::new(url), options.get_flag("force"))),
        add: options.get_flag("add"),
        list: options.get_flag("list"),
        change: options.get_flag("change"),
        verify: options.get_flag("testCredentials"),
        delete: options.get_flag("delete"),
        user: text(options, "user"),
        password: text(options, "password").map(Zeroizing::new),
    };
    // Several actions of the Python tool are allowed, as in that tool. It has no --change.
    let others = ["add", "list", "testCredentials", "delete"];
    if users.change
        && let Some(other) = others.into_iter().find(|other| options.get_flag(other))
    {
        let what = format!("'--change' and '--{other}' cannot be used together");
        let users = command.find_subcommand("users").expect("it is defined here");
        return Err(UsageError::new(&what, None, &usage_of(users)));
    }
    // Neither does it know these.
    let new = ["disable", "enable", "bind", "unbind"];
    let is_given = |name: &&str| match *name {
        "bind" | "unbind" => options.contains_id(name),
        _ => options.get_flag(name),
    };
    if let Some(one) = new.into_iter().find(is_given)
        && let Some(other) = new
            .into_iter()
            .chain(others)
            .chain(["change"])
            .find(|other| *other != one && is_given(other))
    {
        let what = format!("'--{one}' and '--{other}' cannot be used together");
        let users = command.find_subcommand("users").expect("it is defined here");
        return Err(UsageError::new(&what, None, &usage_of(users)));
    }
    if options.get_flag("force") && users.copy_to.is_none() {
        let users = command.find_subcommand("users").expect("it is defined here");
        return Err(UsageError::new("'--force' needs '--copyTo <URL>'", None, &usage_of(users)));
    }
    if users.long && !users.list {
        let users = command.find_subcommand("users").expect("it is defined here");
        return Err(UsageError::new("'--long' needs '--list'", None, &usage_of(users)));
    }
    let is_any = users.add
        || users.list
        || users.change
        || users.verify
        || users.delete
        || users.copy_to.is_some()
        || users.account.is_some();
    Ok(is_any.then_some(users))
}

fn account_change(options: &ArgMatches) -> Option<AccountChange> {
    if options.get_flag("disable") {
        return Some(AccountChange::Disable);
    }
    if options.get_flag("enable") {
        return Some(AccountChange::Enable);
    }
    if let (Some(user), Some(peer)) = (text(options, "bind"), text(options, "cert")) {
        return Some(AccountChange::Bind { user, peer });
    }
    text(options, "unbind").map(|user| AccountChange::Unbind { user })
}

/// Where the server of the command `name` listens.
fn listen_at(command: &Command, name: &str, said: &Said<'_>) -> Result<SocketAddr, UsageError> {
    let options = said.options;
    let listener: Listener = *options.get_one("ip").expect("has a default");
    let port: u16 = *options.get_one("port").expect("has a default");
    let Some(own) = listener.port.filter(|own| *own != port && said.is_given("port")) else {
        return Ok(listener.with_port(port));
    };
    // The command line wins over what is configured.
    if said.is_configured("port") && !said.is_configured("ip") {
        return Ok(listener.with_port(port));
    }
    if said.is_configured("ip") && !said.is_configured("port") {
        return Ok(listener.at_port(port));
    }
    let command = command.find_subcommand(name).expect("it is defined here");
    let what = format!("'--ip <ADDRESS>' names port {own}, but '--port <PORT>' names port {port}");
    Err(UsageError::new(&what, Some("give the port once"), &usage_of(command)))
}

fn test(command: &Command, said: &Said<'_>) -> Result<Option<Test>, UsageError> {
    let options = said.options;
    if !options.get_flag("run") {
        return Ok(None);
    }
    refuse_lone(command, "test", options, ("password", "user"))?;
    // clap fills in the defaults.
    Ok(Some(Test {
        name: text(options, "name").expect("has a default"),
        address: listen_at(command, "test", said)?,
        protocol: *options.get_one("protocol").expect("has a default"),
        log_level: log_level(options),
        quantity: *options.get_one("qty").expect("has a default"),
        user: text(options, "user"),
        password: text(options, "password").map(Zeroizing::new),
    }))
}

fn serve(command: &Command, said: &Said<'_>) -> Result<Serve, UsageError> {
    let options = said.options;
    refuse_lone(command, "serve", options, ("jobs", "exec"))?;
    let allows_remote = options.get_flag("allowRemoteMetrics");
    let host_names: Vec<String> =
        options.get_many("metricsNames").map(|names| names.cloned().collect()).unwrap_or_default();
    if !options.contains_id("metrics") && (allows_remote || !host_names.is_empty()) {
        let serve = command.find_subcommand("serve").expect("it is defined here");
        let name = if allows_remote { "allowRemoteMetrics" } else { "metricsNames" };
        let what = format!("'--{name}' needs '--metrics'");
        return Err(UsageError::new(&what, None, &usage_of(serve)));
    }
    let tries = options.get_one("tries").copied();
    // clap fills in the defaults.
    let inbox = inbox(command, "serve", options)?;
    if tries.is_some() && inbox == InboxKind::Memory {
        let serve = command.find_subcommand("serve").expect("it is defined here");
        let what = "'--tries <N>' needs '--inbox durable'; a message in memory is lost when its command fails";
        return Err(UsageError::new(what, None, &usage_of(serve)));
    }
    Ok(Serve {
        name: text(options, "name").expect("has a default"),
        address: listen_at(command, "serve", said)?,
        is_address_given: ["ip", "port"].iter().any(|id| said.is_on_the_command_line(id)),
        protocol: *options.get_one("protocol").expect("has a default"),
        log_level: log_level(options),
        inbox,
        exec: text(options, "exec"),
        jobs: options.get_one("jobs").copied().unwrap_or(1),
        tries,
        drain_secs: *options.get_one("drain").expect("has a default"),
        stop_within_secs: *options.get_one("stopWithin").expect("has a default"),
        metrics: text(options, "metrics").map(|address| Metrics {
            address,
            allows_remote,
            host_names,
        }),
        python_compat: serves_python(command, options)?,
        count: options.get_one("count").copied(),
        timeout_secs: options.get_one("timeout").copied(),
        body_only: options.get_flag("body"),
    })
}

/// Whether `--serve` takes messages of the Python tool. Over http no certificate would tell such a
/// peer from others.
fn serves_python(command: &Command, options: &ArgMatches) -> Result<bool, UsageError> {
    let is_told = python_compat(command, "serve", options)?;
    if is_told && options.get_one("protocol") == Some(&ipc_server::Protocol::Http) {
        let serve = command.find_subcommand("serve").expect("it is defined here");
        let what = "'--compat python' needs '--protocol https'";
        return Err(UsageError::new(what, None, &usage_of(serve)));
    }
    Ok(is_told)
}

/// Whether the command `name` is told that the other end may be the Python tool.
fn python_compat(command: &Command, name: &str, options: &ArgMatches) -> Result<bool, UsageError> {
    let is_told = options.contains_id("compat");
    if is_told && !cfg!(feature = "python-compat") {
        let command = command.find_subcommand(name).expect("it is defined here");
        let what = "this web-ipc was built without '--compat python'";
        let tip = "build it with --features python-compat";
        return Err(UsageError::new(what, Some(tip), &usage_of(command)));
    }
    Ok(is_told)
}

fn inbox(command: &Command, name: &str, options: &ArgMatches) -> Result<InboxKind, UsageError> {
    let kind = match text(options, "inbox").as_deref().expect("has a default") {
        "memory" => Ok(InboxKind::Memory),
        "durable" => Ok(InboxKind::Durable),
        address => inbox_at(address),
    };
    kind.map_err(|(what, tip)| {
        let named = command.find_subcommand(name).expect("it is defined here");
        UsageError::new(&what, tip, &usage_of(named))
    })
}

fn backup(command: &Command, options: &ArgMatches) -> Result<Option<Action>, UsageError> {
    let out = options.get_one::<PathBuf>("out");
    let wrong = |what: &str| {
        let backup = command.find_subcommand("backup").expect("it is defined here");
        Err(UsageError::new(what, None, &usage_of(backup)))
    };
    match (sealed_file(command, "backup", options)?, out) {
        (Some(_), Some(_)) => wrong("'<FILE>' and '--out <DIR>' cannot be used together"),
        (Some(_), None) if options.get_flag("run") => {
            wrong("'--run' makes a copy in '--out <DIR>', and not in '<FILE>'")
        }
        (Some(file), None) => {
            Ok(Some(Action::SealedBackup { file, code_file: code_file(options) }))
        }
        (None, _) if options.contains_id("codeFile") => {
            wrong("'--codeFile <FILE>' needs the '<FILE>' of a backup")
        }
        (None, _) if !options.get_flag("run") => Ok(None),
        (None, Some(out)) => Ok(Some(Action::Backup { out: out.clone() })),
        (None, None) => wrong("'--out <DIR>' is required"),
    }
}

fn restore(command: &Command, options: &ArgMatches) -> Result<Option<Action>, UsageError> {
    let file = sealed_file(command, "restore", options)?;
    Ok(file.map(|file| Action::Restore {
        file,
        code_file: code_file(options),
        force: options.get_flag("force"),
    }))
}

/// The file of a sealed backup.
fn sealed_file(
    command: &Command,
    name: &str,
    options: &ArgMatches,
) -> Result<Option<PathBuf>, UsageError> {
    match options.get_one::<PathBuf>("file") {
        Some(file) if file.as_os_str() == "-" => {
            let named = command.find_subcommand(name).expect("it is defined here");
            let what = "a sealed backup is a file, and '-' names none";
            Err(UsageError::new(what, None, &usage_of(named)))
        }
        file => Ok(file.cloned()),
    }
}

fn code_file(options: &ArgMatches) -> Option<PathBuf> {
    options.get_one::<PathBuf>("codeFile").cloned()
}

fn enrol(command: &Command, options: &ArgMatches) -> Result<Option<Enrol>, UsageError> {
    if let Some(file) = options.get_one::<PathBuf>("accept") {
        return Ok(Some(Enrol::Accept((file.as_os_str() != "-").then(|| file.clone()))));
    }
    if let Some(name) = text(options, "cancel") {
        return Ok(Some(Enrol::Cancel(name)));
    }
    if options.get_flag("list") {
        return Ok(Some(Enrol::List));
    }
    let enrol = command.find_subcommand("enrol").expect("it is defined here");
    if !options.get_flag("create") {
        return match OF_ENROL_CREATE.into_iter().find(|option| options.contains_id(option)) {
            Some(option) => {
                let what = format!("'--{option}' needs '--create'");
                Err(UsageError::new(&what, None, &usage_of(enrol)))
            }
            None => Ok(None),
        };
    }
    let Some(name) = text(options, "name") else {
        return Err(UsageError::new("'--name <NAME>' is required", None, &usage_of(enrol)));
    };
    let is_server = options.get_one::<String>("kind").is_some_and(|kind| kind == "server");
    let alt_names: Vec<String> =
        options.get_many("altNames").into_iter().flatten().cloned().collect();
    if !is_server && !alt_names.is_empty() {
        let what = "'--altNames' needs '--kind server'";
        return Err(UsageError::new(what, None, &usage_of(enrol)));
    }
    let port = SERVER_PORT;
    let places = options.get_many::<Place>("server").into_iter().flatten();
    Ok(Some(Enrol::Create(EnrolCreate {
        name,
        is_server,
        alt_names,
        user: text(options, "user"),
        addresses: places.map(|place| place.with_port(port)).collect(),
        port,
        server: text(options, "serverName").unwrap_or_else(|| "localhost".to_owned()),
        days: options.get_one("days").copied(),
        out: options.get_one("out").cloned(),
    })))
}

fn completions(options: &ArgMatches) -> Option<Action> {
    let shell = text(options, "shell")?;
    let links = OTHER_NAMES.map(|(link, _)| link);
    Some(Action::Help(completions::script(&shell, &built(), &links)))
}

fn manual(command: &Command, options: &ArgMatches) -> Result<String, UsageError> {
    let whole = built();
    let Some(name) = text(options, "page") else { return Ok(manual::page(&whole, None)) };
    match whole.find_subcommand(&name).filter(|found| manual::has_page(found)) {
        Some(found) => Ok(manual::page(&whole, Some(found))),
        None => {
            let manual = command.find_subcommand("manual").expect("it is defined here");
            let (what, tip) = ("there is no such command", "web-ipc --help lists the commands");
            Err(UsageError::new(what, Some(tip), &usage_of(manual)))
        }
    }
}

/// The grammar, with each option of all commands in each of them.
fn built() -> Command {
    let mut whole = commands::command();
    whole.build();
    whole
}

fn doctor(options: &ArgMatches) -> Doctor {
    let places = options.get_many::<Place>("server").into_iter().flatten();
    Doctor {
        addresses: places.map(|place| place.with_port(SERVER_PORT)).collect(),
        name: text(options, "name"),
        identity: text(options, "identity"),
        protocol: *options.get_one("protocol").expect("has a default"),
        port: SERVER_PORT,
        json: options.get_flag("json"),
    }
}

fn keys(options: &ArgMatches) -> Option<Keys> {
    let ring = if options.get_flag("session") { Ring::Session } else { Ring::Envelope };
    if let Some(id) = options.get_one("drop") {
        return Some(Keys::Drop { ring, id: *id, force: options.get_flag("force") });
    }
    if options.get_flag("rotate") {
        return Some(Keys::Rotate(ring));
    }
    options.get_flag("list").then_some(Keys::List)
}

fn dead(command: &Command, options: &ArgMatches) -> Result<Option<Dead>, UsageError> {
    let letters = |name: &str| {
        let picked: Vec<Option<u64>> = options.get_many(name)?.copied().collect();
        // `all` includes any numbers beside it.
        let numbers: Option<Vec<u64>> = picked.into_iter().collect();
        Some(numbers.map_or(Letters::All, Letters::Numbers))
    };
    let action = match (letters("putBack"), letters("discard")) {
        (Some(letters), _) => DeadAction::PutBack(letters),
        (None, Some(letters)) => DeadAction::Discard(letters),
        (None, None) if options.get_flag("list") => DeadAction::List,
        (None, None) => return Ok(None),
    };
    let follow = options.get_flag("follow");
    if follow && action != DeadAction::List {
        let dead = command.find_subcommand("dead").expect("it is defined here");
        return Err(UsageError::new("'--follow' needs '--list'", None, &usage_of(dead)));
    }
    Ok(Some(Dead { action, inbox: inbox(command, "dead", options)?, follow }))
}

fn target(command: &Command, name: &str, said: &Said<'_>) -> Result<Target, UsageError> {
    let options = said.options;
    refuse_lone(command, name, options, ("password", "user"))?;
    let port = *options.get_one("port").expect("has a default");
    let places = options.get_many::<Place>("ip").expect("has a default");
    let is_given = |id| said.is_given(id);
    Ok(Target {
        given: Given {
            name: is_given("name"),
            addresses: is_given("ip") || is_given("port"),
            identity: is_given("identity"),
        },
        name: text(options, "name").expect("has a default"),
        addresses: places.map(|place| place.with_port(port)).collect(),
        protocol: *options.get_one("protocol").expect("has a default"),
        identity: text(options, "identity").expect("has a default"),
        user: text(options, "user"),
        password: text(options, "password").map(Zeroizing::new),
        log_level: log_level(options),
    })
}

fn send_args(
    command: &Command,
    arguments: &[OsString],
    said: &Said<'_>,
) -> Result<SendArgs, UsageError> {
    let options = said.options;
    let what = to_send(command, arguments, options)?;
    let id = options.get_one("id").copied();
    if id.is_some() && !matches!(what, ToSend::Object(_)) {
        let send = command.find_subcommand("send").expect("it is defined here");
        let tip = "of lines, --idKey names the member that has the id of each";
        return Err(UsageError::new("'--id <ID>' needs an object", Some(tip), &usage_of(send)));
    }
    Ok(SendArgs {
        target: target(command, "send", said)?,
        what,
        prints_ids: options.get_flag("ids"),
        ids: match (id, text(options, "idKey")) {
            (Some(id), _) => GivenIds::Id(id),
            (None, Some(member)) => GivenIds::Member(member),
            (None, None) => GivenIds::New,
        },
        timeout_secs: *options.get_one("timeout").expect("has a default"),
        batch: *options.get_one("batch").expect("has a default"),
        keep_going: options.get_flag("keep-going"),
        python_compat: python_compat(command, "send", options)?,
    })
}

/// An object, or the inputs with lines. Of several words each must be an input: a shell has taken
/// an object apart that is among them.
fn to_send(
    command: &Command,
    arguments: &[OsString],
    options: &ArgMatches,
) -> Result<ToSend, UsageError> {
    let words: Vec<&String> = options.get_many("object").into_iter().flatten().collect();
    let is_json = |word: &str| {
        let text = word.trim_start_matches('\u{feff}').trim_start();
        text.is_empty() || text.starts_with(['{', '['])
    };
    match words.as_slice() {
        [] => return Ok(ToSend::Lines(vec![Input::Stdin])),
        [word] if is_json(word) => return Ok(ToSend::Object((*word).clone())),
        [word] if *word == "-" || Path::new(word).exists() => {}
        // Neither is shown: a shell may have split a password, or the object lacks its braces.
        [word] if usage_error::may_be_secret(command, arguments, word) => {
            return Err(usage_error::unexpected(command, arguments, word));
        }
        [word] if word.contains(['"', ':']) => return Ok(ToSend::Object((*word).clone())),
        [_] => {}
        [_, second, ..] => {
            let odd =
                words.iter().find(|word| usage_error::may_be_secret(command, arguments, word));
            let odd = odd.or_else(|| words.iter().any(|word| is_json(word)).then_some(second));
            if let Some(odd) = odd {
                return Err(usage_error::unexpected(command, arguments, odd));
            }
        }
    }
    let input = |word: &&String| match word.as_str() {
        "-" => Input::Stdin,
        file => Input::File(file.into()),
    };
    Ok(ToSend::Lines(words.iter().map(input).collect()))
}

fn request_args(command: &Command, said: &Said<'_>) -> Result<RequestArgs, UsageError> {
    let options = said.options;
    if options.contains_id("compat") {
        let request = command.find_subcommand("request").expect("it is defined here");
        let tip = "--send has it";
        let what = "a server of the Python tool gives no replies: '--compat' is not for requests";
        return Err(UsageError::new(what, Some(tip), &usage_of(request)));
    }
    Ok(RequestArgs {
        target: target(command, "request", said)?,
        message: text(options, "object"),
        timeout_secs: *options.get_one("timeout").expect("has a default"),
    })
}

#[cfg(test)]
mod configured_tests;
#[cfg(test)]
mod tests;

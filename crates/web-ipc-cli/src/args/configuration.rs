//! The configuration: the file of the host, that of the home, and the environment.
//!
//! `args.rs` comes here before it parses a command line for good, and `--config` shows what was
//! found. Nothing is applied here; `applied.rs` does that. No file has a secret in it: it names a
//! file, or a credential of the service manager.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use ipc_base::chain;
use ipc_home::{HOME_VARIABLE, Home, HomeError, locate, read_configuration, read_credential};
use zeroize::Zeroizing;

use super::commands::METRICS_ADDRESS;
use super::configurable::{
    Kind, is_one_time, is_password, key_named, keys, may_be_secret, nearest, tables,
    variable_prefix, variable_suffix,
};
use super::source::Source;
use super::toml_file::{self, Entry, Value};
use super::urls::has_password;
use crate::escape::printable;

/// The configuration of the host.
pub(super) const SYSTEM_FILE: &str = "/etc/web-ipc/config.toml";

/// Names another file instead of [`SYSTEM_FILE`].
pub(super) const FILE_VARIABLE: &str = "WEB_IPC_CONFIG";

/// The value of [`FILE_VARIABLE`] that stands for no file.
const NO_FILE: &str = "/dev/null";

/// The directory of the credentials that systemd passes on (systemd.exec(5)).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Stands behind the variable of a secret that is in a file.
const FILE_SUFFIX: &str = "_FILE";

/// What a process is started with, besides its arguments.
pub(crate) struct Surroundings {
    pub(super) variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    pub(crate) fn of_process() -> Self {
        Surroundings { variables: std::env::vars_os().collect() }
    }

    /// Those in which nothing is configured.
    #[cfg(test)]
    pub(crate) fn without_files() -> Self {
        let variables = [(FILE_VARIABLE, NO_FILE), (HOME_VARIABLE, "/nowhere")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        Surroundings { variables: variables.into() }
    }

    /// A variable. An empty one counts as not set.
    fn variable(&self, name: &str) -> Option<&OsString> {
        let found = self.variables.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    }
}

/// How much a source counts: a later one wins over an earlier one, and the command line over all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    System,
    Home,
    Environment,
}

/// A value that was configured.
pub(super) enum Configured {
    /// The option is not used, whatever a lower source says.
    Off,
    /// As on the command line.
    Values(Vec<Zeroizing<String>>),
    /// The secret is in this file.
    File(PathBuf),
    /// The secret is this credential.
    Credential(String),
}

/// A key with its value.
pub(super) struct Setting {
    pub(super) table: String,
    /// The long name of the option.
    pub(super) option: String,
    pub(super) configured: Configured,
    pub(super) level: Level,
    pub(super) source: Source,
}

impl Setting {
    /// Its name in a sentence: `serve.port`.
    pub(super) fn key(&self) -> String {
        format!("{}.{}", self.table, self.option)
    }

    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault {
            table: Some(self.table.clone()),
            source: self.source.clone(),
            key: Some(self.key()),
            what: what.into(),
        }
    }
}

/// What is wrong with the configuration. The text never has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The table whose commands it keeps from running; all of them if there is none.
    pub(super) table: Option<String>,
    source: Source,
    key: Option<String>,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if let Some(key) = &self.key {
            write!(f, "{}: ", printable(key))?;
        }
        f.write_str(&self.what)
    }
}

/// All that is configured.
pub(super) struct Configuration {
    pub(super) settings: Vec<Setting>,
    pub(super) faults: Vec<Fault>,
    /// The home that the file of the host names, if nothing else does.
    pub(super) home: Option<PathBuf>,
    /// The home, as far as it can be found, and where its place comes from.
    pub(super) home_found: (Option<PathBuf>, Source),
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    credentials: Option<PathBuf>,
}

impl Configuration {
    /// Reads all of it. `home` is the `--home` of the command line.
    pub(super) fn load(whole: &Command, home: Option<&Path>, around: &Surroundings) -> Self {
        let mut all = Configuration {
            settings: Vec::new(),
            faults: Vec::new(),
            home: None,
            home_found: (None, Source::Default),
            files: Vec::new(),
            credentials: around.variable(CREDENTIALS_VARIABLE).map(PathBuf::from),
        };
        let mut named = None;
        match around.variable(FILE_VARIABLE) {
            None => named = all.read(whole, Path::new(SYSTEM_FILE), Level::System, false),
            Some(path) if path == NO_FILE => {}
            Some(path) => match std::path::absolute(path) {
                Ok(path) => named = all.read(whole, &path, Level::System, true),
                Err(error) => all.faults.push(Fault {
                    table: None,
                    source: Source::Variable(FILE_VARIABLE.to_owned()),
                    key: None,
                    what: error.to_string(),
                }),
            },
        }
        let of_variable = around.variable(HOME_VARIABLE).map(PathBuf::from);
        let (path, source) = match (home, of_variable, named) {
            (Some(home), _, _) => (Some(home.to_owned()), Source::CommandLine),
            (None, Some(home), _) => (Some(home), Source::Variable(HOME_VARIABLE.to_owned())),
            (None, None, Some((home, source))) => {
                all.home = Some(home.clone());
                (Some(home), source)
            }
            (None, None, None) => (None, Source::Default),
        };
        // What is wrong with the path is said by the command, which needs it.
        let root = locate(path.as_deref()).ok();
        if let Some(root) = &root {
            all.read(whole, &Home::at(root).configuration_file(), Level::Home, false);
        }
        all.home_found = (root, source);
        all.read_environment(whole, around);
        all
    }

    /// The faults that keep a command from running.
    pub(super) fn faults_of(&self, table: &str) -> Vec<Fault> {
        let concerns = |fault: &&Fault| fault.table.as_deref().is_none_or(|one| one == table);
        self.faults.iter().filter(concerns).cloned().collect()
    }

    /// Where a fault stands among the others: by file, then by line, then the environment.
    pub(super) fn place(&self, fault: &Fault) -> (usize, usize) {
        match &fault.source {
            Source::File { path, line } => {
                let at = self.files.iter().position(|file| file == path);
                (at.unwrap_or(self.files.len()), *line)
            }
            _ => (usize::MAX, 0),
        }
    }

    /// The values of a setting, secrets included.
    pub(super) fn values(&self, setting: &Setting) -> Result<Vec<Zeroizing<String>>, Fault> {
        let path = match &setting.configured {
            Configured::Off => return Ok(Vec::new()),
            Configured::Values(values) => return Ok(values.clone()),
            Configured::File(path) => path.clone(),
            Configured::Credential(name) => match &self.credentials {
                Some(directory) => directory.join(name),
                None => {
                    return Err(setting.fault(format!(
                        "there is no credential `{}`: ${CREDENTIALS_VARIABLE} is not set; it is for a unit \
                         with LoadCredential=",
                        printable(name)
                    )));
                }
            },
        };
        let bytes = read_credential(&path).map_err(|error| setting.fault(told(&error, &path)))?;
        let text = std::str::from_utf8(&bytes).ok().map(|text| text.trim_end_matches(['\r', '\n']));
        match text {
            Some(text) if !text.is_empty() && !text.contains(['\r', '\n']) => {
                Ok(vec![Zeroizing::new(text.to_owned())])
            }
            _ => Err(setting
                .fault(format!("{} is not one line of text", printable(&path.to_string_lossy())))),
        }
    }

    /// Reads a file, if it is there or must be. Returns the home that it names.
    fn read(
        &mut self,
        whole: &Command,
        path: &Path,
        level: Level,
        must_be_there: bool,
    ) -> Option<(PathBuf, Source)> {
        let fault = |what: String| Fault {
            table: None,
            source: Source::File { path: path.to_owned(), line: 0 },
            key: None,
            what,
        };
        match path.symlink_metadata() {
            Err(error) if !must_be_there => {
                let is_missing =
                    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                // Why a home cannot be looked into is said by the command.
                if !is_missing && level == Level::System {
                    self.faults.push(fault(format!("it cannot be read: {error}")));
                }
                return None;
            }
            _ => self.files.push(path.to_owned()),
        }
        let text = read_configuration(path)
            .map_err(|error| told(&error, path))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        let parsed = match text {
            Ok(text) => toml_file::parse(&text),
            Err(what) => {
                self.faults.push(fault(what));
                return None;
            }
        };
        let at = |line| Source::File { path: path.to_owned(), line };
        for (line, what) in parsed.faults {
            self.faults.push(Fault {
                table: None,
                source: at(line),
                key: None,
                what: printable(&what),
            });
        }
        for (name, line) in &parsed.tables {
            if !tables(whole).any(|table| table.get_name() == name) {
                let known = nearest(name, tables(whole).map(Command::get_name));
                let what = match known {
                    Some(known) => format!("there is no table [{name}]; the nearest is [{known}]"),
                    None => format!(
                        "there is no table [{name}]; tables are named like commands, as [serve]"
                    ),
                };
                self.faults.push(Fault {
                    table: None,
                    source: at(*line),
                    key: None,
                    what: printable(&what),
                });
            }
        }
        let mut home = None;
        for entry in parsed.entries {
            let source = at(entry.line);
            match &entry.table {
                None => match self.home_of(entry, level, &source) {
                    Some(named) => home = Some((named, source)),
                    None => continue,
                },
                Some(name) => {
                    if let Some(table) = tables(whole).find(|table| table.get_name() == name) {
                        self.take(whole, table, entry, level, source, path);
                    }
                }
            }
        }
        home
    }

    /// What stands in no table: the home, in the file of the host alone.
    fn home_of(&mut self, entry: Entry, level: Level, source: &Source) -> Option<PathBuf> {
        let what = match (entry.key.as_str(), level, entry.value) {
            ("home", Level::System, Value::Text(path)) if Path::new(&path).is_absolute() => {
                return Some(path.into());
            }
            ("home", Level::System, _) => "it takes an absolute path in quotes",
            ("home", _, _) => {
                "a home cannot name another; only the file of the host names one, /etc/web-ipc/config.toml"
            }
            _ => "it stands in no table; write it below the command that it is for, as [serve]",
        };
        self.faults.push(Fault {
            table: None,
            source: source.clone(),
            key: Some(entry.key),
            what: what.to_owned(),
        });
        None
    }

    /// Takes an entry of a table, or says what is wrong with it.
    fn take(
        &mut self,
        whole: &Command,
        table: &Command,
        entry: Entry,
        level: Level,
        source: Source,
        path: &Path,
    ) {
        let name = table.get_name();
        let fault = |what: String| Fault {
            table: Some(name.to_owned()),
            source: source.clone(),
            key: Some(format!("{name}.{}", entry.key)),
            what,
        };
        let keys = keys(whole, table);
        let Some(option) = key_named(&keys, &entry.key) else {
            self.faults.push(fault(unknown(table, &keys, &entry.key)));
            return;
        };
        let long = option.get_long().unwrap_or_default();
        let is_same = |one: &Setting| one.table == name && one.option == long && one.level == level;
        if self.settings.iter().any(is_same) {
            self.faults.push(fault("it is set twice in this file".to_owned()));
            return;
        }
        let beside = path.parent().unwrap_or(Path::new("/"));
        match configured(option, entry.value, beside) {
            Ok(configured) => self.settings.push(Setting {
                table: name.to_owned(),
                option: long.to_owned(),
                configured,
                level,
                source,
            }),
            Err(what) => self.faults.push(fault(what)),
        }
    }

    fn read_environment(&mut self, whole: &Command, around: &Surroundings) {
        for (variable, value) in &around.variables {
            let Some(variable) = variable.to_str() else { continue };
            let mut tables = tables(whole);
            let named = tables
                .find_map(|table| Some((table, variable.strip_prefix(&variable_prefix(table))?)));
            let Some((table, suffix)) = named else { continue };
            if value.is_empty() {
                continue;
            }
            let name = table.get_name();
            let keys = keys(whole, table);
            let is_named = |suffix: &str| keys.iter().find(|key| variable_suffix(key) == suffix);
            let of_file = || {
                let option = is_named(suffix.strip_suffix(FILE_SUFFIX)?)?;
                may_be_secret(option).then_some(option)
            };
            let fault = |what: String| Fault {
                table: Some(name.to_owned()),
                source: Source::Variable(variable.to_owned()),
                key: None,
                what,
            };
            let taken = match (is_named(suffix), of_file(), value.to_str()) {
                (_, _, None) => Err("it is not UTF-8".to_owned()),
                (Some(option), _, Some(value)) => {
                    from_variable(option, value).map(|configured| (option, configured))
                }
                (None, Some(option), Some(path)) => std::path::absolute(path)
                    .map(|path| (option, Configured::File(path)))
                    .map_err(|error| error.to_string()),
                (None, None, _) => {
                    let suffixes: Vec<String> =
                        keys.iter().map(|key| variable_suffix(key)).collect();
                    let known = nearest(suffix, suffixes.iter().map(String::as_str));
                    Err(match known {
                        Some(known) => {
                            let prefix = variable_prefix(table);
                            format!("there is no such variable; the nearest is {prefix}{known}")
                        }
                        None => format!("--{name} has no such variable"),
                    })
                }
            };
            match taken {
                Ok((option, configured)) => self.settings.push(Setting {
                    table: name.to_owned(),
                    option: option.get_long().unwrap_or_default().to_owned(),
                    configured,
                    level: Level::Environment,
                    source: Source::Variable(variable.to_owned()),
                }),
                Err(what) => self.faults.push(fault(what)),
            }
        }
    }
}

/// What is said of a key that a table does not have.
fn unknown(table: &Command, keys: &[&Arg], name: &str) -> String {
    if let Some(long) = table
        .get_arguments()
        .filter_map(Arg::get_long)
        .find(|long| *long == name && is_one_time(table, long))
    {
        return format!("--{long} says what one run does, and is given on the command line alone");
    }
    if name == "home" {
        return "the home is named outside the tables, in /etc/web-ipc/config.toml alone"
            .to_owned();
    }
    match nearest(name, keys.iter().filter_map(|key| key.get_long())) {
        Some(known) => {
            format!("there is no such key; the nearest is {}.{known}", table.get_name())
        }
        None => {
            format!("there is no such key; web-ipc --config --show {} lists all", table.get_name())
        }
    }
}

/// The value of a key, if it has the right type. `beside` is the directory that relative paths
/// begin at.
fn configured(option: &Arg, value: Value, beside: &Path) -> Result<Configured, String> {
    let kind = Kind::of(option);
    let long = option.get_long().unwrap_or_default();
    let one = |text: String| Configured::Values(vec![Zeroizing::new(text)]);
    let is_secret = may_be_secret(option);
    let elsewhere = || {
        format!(
            "write {long} = {{ file = \"PATH\" }}, or {{ credential = \"NAME\" }} for a unit with LoadCredential="
        )
    };
    match (kind, value) {
        (_, Value::File(path)) if is_secret => Ok(Configured::File(beside.join(path))),
        (_, Value::Credential(name)) if is_secret => {
            let is_name = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
            is_name
                .then_some(Configured::Credential(name))
                .ok_or_else(|| "a credential is named like a file, without a directory".to_owned())
        }
        (_, Value::Text(_)) if is_password(option) => {
            Err(format!("no password stands in this file: {}", elsewhere()))
        }
        (_, _) if is_password(option) => Err(elsewhere()),
        (_, Value::Text(url)) if is_secret && has_password(&url) => Err(format!(
            "the address has a password, and none stands in this file: {}",
            elsewhere()
        )),
        (Kind::Flag | Kind::FlagOrText, Value::Flag(is_on)) => Ok(on_or_off(kind, is_on)),
        (Kind::Number, Value::Number(number)) => Ok(one(number)),
        (Kind::Text | Kind::Texts | Kind::FlagOrText, Value::Text(text)) => Ok(one(text)),
        (Kind::Texts, Value::Texts(texts)) if !texts.is_empty() => {
            Ok(Configured::Values(texts.into_iter().map(Zeroizing::new).collect()))
        }
        _ => Err(kind.takes().to_owned()),
    }
}

/// The value of a variable.
fn from_variable(option: &Arg, value: &str) -> Result<Configured, String> {
    let one = |text: &str| Ok(Configured::Values(vec![Zeroizing::new(text.to_owned())]));
    let is_on = match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    let kind = Kind::of(option);
    match (kind, is_on) {
        (Kind::Flag | Kind::FlagOrText, Some(is_on)) => Ok(on_or_off(kind, is_on)),
        (Kind::Flag, None) => Err(kind.takes().to_owned()),
        (Kind::Texts, _) => Ok(Configured::Values(
            value.split(',').map(|text| Zeroizing::new(text.trim().to_owned())).collect(),
        )),
        _ => one(value),
    }
}

/// An option without a value, or none at all. `--metrics` is the only one that may have a value.
fn on_or_off(kind: Kind, is_on: bool) -> Configured {
    let value = match kind {
        _ if !is_on => return Configured::Off,
        Kind::FlagOrText => METRICS_ADDRESS,
        _ => "true",
    };
    Configured::Values(vec![Zeroizing::new(value.to_owned())])
}

/// Why a file is not read, and what to do.
fn told(error: &HomeError, path: &Path) -> String {
    let shown = printable(&path.to_string_lossy());
    match error {
        HomeError::TooOpen { mode, .. } if mode & 0o022 != 0 => {
            format!(
                "{shown} can be changed by other users (mode {mode:04o}); run chmod go-w {shown}"
            )
        }
        HomeError::TooOpen { mode, .. } => {
            format!("{shown} can be read by other users (mode {mode:04o}); run chmod o= {shown}")
        }
        _ => match error.remedy() {
            Some(remedy) => printable(&format!("{}; {remedy}", chain(error))),
            None => printable(&chain(error).to_string()),
        },
    }
}

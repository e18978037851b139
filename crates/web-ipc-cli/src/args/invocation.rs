//! The parsed command line, as plain values.
//!
//! `args.rs` makes them, and each command takes its own. This file does not know the spelling of
//! the options.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(feature = "jetstream")]
use ipc_inbox_jetstream::JetStreamOptions;
use ipc_protocol::MessageId;
use ipc_server::Protocol;
use ipc_setup::{KeyId, KeyType, Renew, Ring};
use zeroize::Zeroizing;

use super::source::ConfigView;

/// The command to run, and the home to run it in.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// `--home`, if it was given.
    pub(crate) home: Option<PathBuf>,
    /// Say nothing of what goes well.
    pub(crate) quiet: bool,
    /// `--usersDb`, which may have a password in it.
    pub(crate) users_db: Option<Zeroizing<String>>,
    /// The form of the log.
    pub(crate) log_format: LogFormat,
    /// What counts for each option of the command.
    pub(crate) settings: Settings,
    pub(crate) action: Action,
}

/// The options of a command with their values as text, defaults included. A value may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(pub(super) BTreeMap<String, Vec<OsString>>);

impl Settings {
    /// The options that have another value in `other`.
    pub(crate) fn changed(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys());
        let mut changed: Vec<String> =
            names.filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }

    /// Whether there is a value for this option.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes the value of one option from `other`.
    pub(crate) fn take(&mut self, name: &str, other: &Self) {
        match other.0.get(name) {
            Some(values) => self.0.insert(name.to_owned(), values.clone()),
            None => self.0.remove(name),
        };
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One command with its options.
#[derive(Debug)]
pub(crate) enum Action {
    /// Print this text: the help or the version.
    Help(String),
    Init {
        force: bool,
    },
    /// Make a home from the environment of the Python tool in this directory.
    Import {
        from: PathBuf,
    },
    Certs(Certs),
    ListCertificates,
    /// The name or serial number of the certificates to revoke.
    Revoke(String),
    Renew(Renew),
    RotateAuthority,
    DropOldAuthority {
        /// Although a client has not followed.
        force: bool,
    },
    Users(Users),
    Test(Test),
    Serve(Serve),
    Send(SendArgs),
    Request(RequestArgs),
    Dead(Dead),
    /// List the messages of the home's durable inbox.
    Inbox {
        follow: bool,
    },
    Keys(Keys),
    Enrol(Enrol),
    Backup {
        out: PathBuf,
    },
    /// `--backup FILE`.
    SealedBackup {
        file: PathBuf,
        /// The file with the code, or `-`; without one, a new code is printed.
        code_file: Option<PathBuf>,
    },
    Restore {
        file: PathBuf,
        /// The file with the code, or `-`.
        code_file: Option<PathBuf>,
        /// Although a home is there, which is kept aside.
        force: bool,
    },
    Doctor(Doctor),
    /// Show or check the configuration.
    Config {
        view: ConfigView,
        json: bool,
    },
}

/// `--doctor …`
#[derive(Debug)]
pub(crate) struct Doctor {
    /// `HOST:PORT` of the server; none for what the home says.
    pub(crate) addresses: Vec<String>,
    /// The name in the server's certificate.
    pub(crate) name: Option<String>,
    /// The certificate to present.
    pub(crate) identity: Option<String>,
    pub(crate) protocol: Protocol,
    /// The port of a server that is told no other.
    pub(crate) port: u16,
    pub(crate) json: bool,
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

/// `--users …`. With several actions, `users.rs` does those that the Python tool would do.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) add: bool,
    pub(crate) list: bool,
    /// With all that is known of each user.
    pub(crate) long: bool,
    pub(crate) account: Option<AccountChange>,
    /// The database to copy all users to, and whether to overwrite those who differ.
    pub(crate) copy_to: Option<(Zeroizing<String>, bool)>,
    pub(crate) change: bool,
    pub(crate) verify: bool,
    pub(crate) delete: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

/// What else is changed about a user.
#[derive(Debug)]
pub(crate) enum AccountChange {
    Disable,
    Enable,
    Bind { user: String, peer: String },
    Unbind { user: String },
}

/// `--test --run …`
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    /// Where the server listens. Port 0 is the first free one of 3000 to 3999.
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) quantity: u32,
    /// The user to log in as. Without one it is the home's admin, or a temporary user.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

/// `--serve …`
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) name: String,
    /// Where the server listens. Port 0 is the first free one of 3000 to 3999.
    pub(crate) address: SocketAddr,
    /// Whether the user gave the address, or a part of it.
    pub(crate) is_address_given: bool,
    pub(crate) protocol: Protocol,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) inbox: InboxKind,
    /// The shell command to run for each message, instead of printing it.
    pub(crate) exec: Option<String>,
    /// How many commands run at once.
    pub(crate) jobs: u16,
    /// After how many deliveries a durable inbox makes a message a dead letter.
    pub(crate) tries: Option<u16>,
    /// How long it goes on before a stop while `/is/running` answers 503, in seconds.
    pub(crate) drain_secs: u16,
    /// How long a stop may take, in seconds.
    pub(crate) stop_within_secs: u16,
    /// How many messages it takes before it ends.
    pub(crate) count: Option<u32>,
    /// How long it waits for a message before it ends, in seconds.
    pub(crate) timeout_secs: Option<u16>,
    /// Whether a line is the body alone.
    pub(crate) body_only: bool,
    /// Whether peers that run the Python tool are accepted too.
    pub(crate) python_compat: bool,
    /// Where to show figures, if anywhere.
    pub(crate) metrics: Option<Metrics>,
}

/// Where a server shows its figures.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metrics {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// Whether other hosts may reach it.
    pub(crate) allows_remote: bool,
    /// The names by which other hosts ask for it.
    pub(crate) host_names: Vec<String>,
}

/// The server to send to, and the user to log in as.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// At least one `HOST:PORT`, in the order in which the client tries them.
    pub(crate) addresses: Vec<String>,
    pub(crate) protocol: Protocol,
    pub(crate) identity: String,
    /// Which of these the user gave. In the home of an enrolled client the others come from there.
    pub(crate) given: Given,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) log_level: Option<LogLevel>,
}

/// Which options that say where a server is were given, as opposed to their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: bool,
    pub(crate) addresses: bool,
    pub(crate) identity: bool,
}

/// `--send …`
#[derive(Debug)]
pub(crate) struct SendArgs {
    pub(crate) target: Target,
    pub(crate) what: ToSend,
    /// Whether to print the id of each message.
    pub(crate) prints_ids: bool,
    /// Where the ids are from.
    pub(crate) ids: GivenIds,
    pub(crate) timeout_secs: u16,
    pub(crate) batch: u16,
    pub(crate) keep_going: bool,
    /// Whether the server is one of the unmodified Python tool.
    pub(crate) python_compat: bool,
}

/// What `--send` sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToSend {
    /// This text, which should be an object.
    Object(String),
    /// The lines of these inputs, one after the other. At least one.
    Lines(Vec<Input>),
}

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Stdin,
    File(PathBuf),
}

/// Where the ids of messages are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenIds {
    /// Each is new.
    New,
    /// The one message has this id.
    Id(MessageId),
    /// Each message has the id that is in its member of this name, or that is made of it.
    Member(String),
}

/// `--request …`
#[derive(Debug)]
pub(crate) struct RequestArgs {
    pub(crate) target: Target,
    /// The request. Without one, or for `-`, it comes from stdin.
    pub(crate) message: Option<String>,
    pub(crate) timeout_secs: u16,
}

/// `--dead …`
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) action: DeadAction,
    /// Not the one in memory, which no other process can look into.
    pub(crate) inbox: InboxKind,
    /// Whether a list goes on with dead letters that are new.
    pub(crate) follow: bool,
}

/// The action on dead letters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DeadAction {
    List,
    PutBack(Letters),
    Discard(Letters),
}

/// The dead letters to act on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    All,
    Numbers(Vec<u64>),
}

/// `--enrol …`
#[derive(Debug)]
pub(crate) enum Enrol {
    Create(EnrolCreate),
    /// The file with the bundle, or stdin.
    Accept(Option<PathBuf>),
    List,
    Cancel(String),
}

/// `--enrol --create …`
#[derive(Debug)]
pub(crate) struct EnrolCreate {
    pub(crate) name: String,
    /// Whether it is a further server.
    pub(crate) is_server: bool,
    /// What clients verify in the certificate of a further server, besides its name.
    pub(crate) alt_names: Vec<String>,
    /// The user to make; without one, that of the client's name.
    pub(crate) user: Option<String>,
    /// `HOST:PORT` of the server; without any, the addresses of this host.
    pub(crate) addresses: Vec<String>,
    /// The port of addresses of this host.
    pub(crate) port: u16,
    /// The name in the server's certificate.
    pub(crate) server: String,
    pub(crate) days: Option<u32>,
    /// Where the bundle goes instead of stdout.
    pub(crate) out: Option<PathBuf>,
}

/// `--keys …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// List the keys of both rings.
    List,
    Rotate(Ring),
    Drop {
        ring: Ring,
        id: KeyId,
        /// Although somebody uses it.
        force: bool,
    },
}

/// The kind of inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InboxKind {
    Memory,
    Durable,
    /// One that several servers share.
    #[cfg(feature = "jetstream")]
    JetStream(Box<JetStreamOptions>),
}

/// The level of the log. Without one, `$RUST_LOG` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    /// Only the line that ends the command is logged.
    Critical,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `[time][LEVEL][module,line]: text`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

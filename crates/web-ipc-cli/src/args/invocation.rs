//! What a command line asks for, as plain values.
//!
//! The grammar makes them, and each command comes here for its own. How they are spelled is not
//! known here.

use std::net::IpAddr;
use std::path::PathBuf;

use ipc_server::Protocol;
use ipc_setup::KeyType;
use zeroize::Zeroizing;

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
    /// This text: help or version, which was asked for.
    Help(String),
    Init {
        force: bool,
    },
    Certs(Certs),
    Users(Users),
    Test(Test),
    Serve(Serve),
    Send(SendArgs),
    Request(RequestArgs),
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

/// `--users …`: of several actions those are done that the Python tool would do.
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
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) quantity: u32,
    /// Whom to log in as; without one the home's admin, or a user of the test's own.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
}

/// `--serve …`
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) inbox: InboxKind,
    /// What a shell is to run for each message, instead of printing it.
    pub(crate) exec: Option<String>,
    /// How many of them at once.
    pub(crate) jobs: u16,
    /// How often a durable inbox delivers a message before it is a dead letter.
    pub(crate) tries: Option<u16>,
    /// How long a stop may go on with what is in hand and in memory, in seconds.
    pub(crate) stop_within_secs: u16,
}

/// Which server to send to, and as whom.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `HOST:PORT`, in the order in which they are tried; at least one.
    pub(crate) addresses: Vec<String>,
    pub(crate) protocol: Protocol,
    pub(crate) identity: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) log_level: Option<LogLevel>,
}

/// `--send …`
#[derive(Debug)]
pub(crate) struct SendArgs {
    pub(crate) target: Target,
    /// The message; without one, or for `-`, they come from stdin.
    pub(crate) message: Option<String>,
    pub(crate) timeout_secs: u16,
    pub(crate) batch: u16,
    pub(crate) keep_going: bool,
}

/// `--request …`
#[derive(Debug)]
pub(crate) struct RequestArgs {
    pub(crate) target: Target,
    /// The request; without one, or for `-`, it comes from stdin.
    pub(crate) message: Option<String>,
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

/// How much of the log is shown. Where it was not given, `$RUST_LOG` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    /// Only the line that ends the command.
    Critical,
}

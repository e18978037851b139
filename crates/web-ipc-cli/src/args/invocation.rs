//! The parsed command line, as plain values.
//!
//! `args.rs` makes them, and each command takes its own. This file does not know the spelling of
//! the options.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipc_server::Protocol;
use ipc_setup::KeyType;
use zeroize::Zeroizing;

/// The command to run, and the home to run it in.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// `--home`, if it was given.
    pub(crate) home: Option<PathBuf>,
    pub(crate) action: Action,
}

/// One command with its options.
#[derive(Debug)]
pub(crate) enum Action {
    /// Print this text: the help or the version.
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

/// `--users …`. With several actions, `users.rs` does those that the Python tool would do.
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
    pub(crate) protocol: Protocol,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) inbox: InboxKind,
    /// The shell command to run for each message, instead of printing it.
    pub(crate) exec: Option<String>,
    /// How many commands run at once.
    pub(crate) jobs: u16,
    /// After how many deliveries a durable inbox makes a message a dead letter.
    pub(crate) tries: Option<u16>,
    /// How long a stop may take, in seconds.
    pub(crate) stop_within_secs: u16,
}

/// The server to send to, and the user to log in as.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// At least one `HOST:PORT`, in the order in which the client tries them.
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
    /// The message. Without one, or for `-`, messages come from stdin.
    pub(crate) message: Option<String>,
    pub(crate) timeout_secs: u16,
    pub(crate) batch: u16,
    pub(crate) keep_going: bool,
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

/// The kind of inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboxKind {
    Memory,
    Durable,
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

//! The options of a JetStream inbox, and the address that names one.
//!
//! Plain values; nothing here connects. No password is shown: neither by `Debug`, nor in an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::{PLAINTEXT_BYTES_MAX_DEFAULT, REMEMBERED_SECS};
use zeroize::Zeroizing;

/// The port of a NATS server whose address names none.
const PORT: u16 = 4222;

/// Room for the frame around the body of a reply, in bytes, with a margin.
const FRAME_BYTES: usize = 1024;

/// The longest name of a stream that is accepted. Two more names are made of it.
const NAME_LEN_MAX: usize = 64;

/// How a server reaches NATS JetStream, and how the inbox there behaves.
///
/// # Defaults
///
/// | option | default |
/// |---|---|
/// | [`replicas`](Self::replicas) | 1 |
/// | [`messages_max`](Self::messages_max) | 1,000,000 messages |
/// | [`stored_messages_max`](Self::stored_messages_max) | 20,000,000 messages |
/// | [`stored_bytes_max`](Self::stored_bytes_max) | what the account of the NATS server allows |
/// | [`remembered_for`](Self::remembered_for) | 10 minutes |
/// | [`visibility_timeout`](Self::visibility_timeout) | 5 minutes |
/// | [`takeover_after`](Self::takeover_after) | 5 s |
/// | [`nack_delay`](Self::nack_delay) | 10 s |
/// | [`max_deliveries`](Self::max_deliveries) | 10 |
/// | [`max_unacknowledged`](Self::max_unacknowledged) | 20,000 messages |
/// | [`prefetch`](Self::prefetch) | 256 messages |
/// | [`replies_bytes_max`](Self::replies_bytes_max) | 64 MiB |
/// | [`reply_bytes_max`](Self::reply_bytes_max) | 16 MiB less 1 KiB, or less |
#[derive(Clone, PartialEq, Eq)]
pub struct JetStreamOptions {
    pub(crate) servers: Vec<String>,
    pub(crate) name: String,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) credentials_file: Option<PathBuf>,
    pub(crate) authority_file: Option<PathBuf>,
    pub(crate) identity_files: Option<(PathBuf, PathBuf)>,
    pub(crate) replicas: usize,
    pub(crate) messages_max: u64,
    pub(crate) stored_messages_max: u64,
    pub(crate) stored_bytes_max: Option<u64>,
    pub(crate) remembered_for: Duration,
    pub(crate) visibility_timeout: Duration,
    pub(crate) takeover_after: Duration,
    pub(crate) nack_delay: Duration,
    pub(crate) max_deliveries: u32,
    pub(crate) max_unacknowledged: u32,
    pub(crate) prefetch: usize,
    pub(crate) replies_bytes_max: u64,
    pub(crate) reply_bytes_max: usize,
}

/// Why a text is not the address of a JetStream inbox. No message repeats a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins with neither `nats://` nor `tls://`.
    #[error("the address of a JetStream inbox begins with nats:// or tls://")]
    Scheme,
    /// One of its servers is not a host with a port, or there is none.
    #[error(
        "a server of the address is not HOST:PORT: nats://HOST:PORT,HOST2:PORT/NAME is expected"
    )]
    Servers,
    /// The name of the stream is missing, too long, or has other characters.
    #[error(
        "the address names no stream: after the servers, /NAME of 1 to 64 letters, digits, - and \
         _ is expected"
    )]
    Name,
    /// A parameter is not known.
    #[error(
        "{0:?} is no parameter of a JetStream inbox; known are replicas, credentials, user, \
         passwordFile, ca, cert, key and bytes"
    )]
    Unknown(String),
    /// A parameter does not have a value that it can have.
    #[error("the parameter {name} is not {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A file with a password, without a user.
    #[error("the parameter passwordFile needs a user")]
    PasswordAlone,
    /// A certificate without a key, or a key without a certificate.
    #[error("the parameters cert and key belong together")]
    HalfIdentity,
}

impl JetStreamOptions {
    /// The inbox `name` at the servers with these addresses, `HOST` or `HOST:PORT`, which are of
    /// one NATS cluster.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new<S: Into<String>>(
        servers: impl IntoIterator<Item = S>,
        name: impl Into<String>,
    ) -> Result<Self, AddressError> {
        let name = name.into();
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(is_letter) {
            return Err(AddressError::Name);
        }
        let servers: Vec<_> = servers.into_iter().map(|server| address(&server.into())).collect();
        let servers = servers.into_iter().collect::<Option<Vec<_>>>();
        let servers = servers.filter(|all| !all.is_empty()).ok_or(AddressError::Servers)?;
        Ok(JetStreamOptions {
            servers,
            name,
            tls: false,
            user: None,
            password: None,
            password_file: None,
            credentials_file: None,
            authority_file: None,
            identity_files: None,
            replicas: 1,
            messages_max: 1_000_000,
            stored_messages_max: 20_000_000,
            stored_bytes_max: None,
            remembered_for: Duration::from_secs(REMEMBERED_SECS),
            visibility_timeout: Duration::from_secs(5 * 60),
            takeover_after: Duration::from_secs(5),
            nack_delay: Duration::from_secs(10),
            max_deliveries: 10,
            max_unacknowledged: 20_000,
            prefetch: 256,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT - FRAME_BYTES,
        })
    }

    /// The inbox with this address:
    /// `nats://[USER[:PASSWORD]@]HOST[:PORT][,HOST2[:PORT]…]/NAME[?PARAMETER=VALUE&…]`. With
    /// `tls://` it is reached over TLS alone.
    ///
    /// | parameter | option |
    /// |---|---|
    /// | `replicas` | [`replicas`](Self::replicas) |
    /// | `takeover` | [`takeover_after`](Self::takeover_after), in seconds |
    /// | `credentials` | [`credentials_file`](Self::credentials_file) |
    /// | `user`, `passwordFile` | [`user_and_password_file`](Self::user_and_password_file) |
    /// | `ca` | [`authority_file`](Self::authority_file) |
    /// | `cert`, `key` | [`identity_files`](Self::identity_files) |
    /// | `bytes` | [`stored_bytes_max`](Self::stored_bytes_max) |
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn of_address(address: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = address.split_once("://").ok_or(AddressError::Scheme)?;
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(AddressError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.rsplit_once('/').ok_or(AddressError::Name)?;
        let (account, servers) = match authority.rsplit_once('@') {
            Some((account, servers)) => (Some(account), servers),
            None => (None, authority),
        };
        let mut options = JetStreamOptions::new(servers.split(','), name)?;
        options.tls = tls;
        if let Some(account) = account {
            let (user, password) = account.split_once(':').unwrap_or((account, ""));
            options.user = Some(decoded(user).ok_or(AddressError::Servers)?);
            let password = decoded(password).ok_or(AddressError::Servers)?;
            options.password = Some(Zeroizing::new(password));
        }
        options.set_parameters(query)?;
        Ok(options)
    }

    fn set_parameters(&mut self, query: &str) -> Result<(), AddressError> {
        let (mut certificate, mut key) = (None, None);
        for parameter in query.split('&').filter(|one| !one.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let path = |name: &'static str| {
                let expected = "the path of a file";
                let text = decoded(value).filter(|text| !text.is_empty());
                text.map(PathBuf::from).ok_or(AddressError::Value { name, expected })
            };
            match name {
                "replicas" => {
                    let expected = "1, 3 or 5";
                    let wrong = AddressError::Value { name: "replicas", expected };
                    let count = value.parse().ok().filter(|count| [1, 3, 5].contains(count));
                    self.replicas = count.ok_or(wrong)?;
                }
                "bytes" => {
                    let expected = "a number of bytes above 0";
                    let wrong = AddressError::Value { name: "bytes", expected };
                    let bytes = value.parse().ok().filter(|bytes| *bytes > 0);
                    self.stored_bytes_max = Some(bytes.ok_or(wrong)?);
                }
                "takeover" => {
                    let expected = "a number of seconds from 1 to 3600";
                    let wrong = AddressError::Value { name: "takeover", expected };
                    let secs = value.parse().ok().filter(|secs| (1..=3600).contains(secs));
                    self.takeover_after = Duration::from_secs(secs.ok_or(wrong)?);
                }
                "user" => {
                    let expected = "the name of a user";
                    let user = decoded(value).filter(|user| !user.is_empty());
                    let wrong = AddressError::Value { name: "user", expected };
                    self.user = Some(user.ok_or(wrong)?);
                }
                "passwordFile" => self.password_file = Some(path("passwordFile")?),
                "credentials" => self.credentials_file = Some(path("credentials")?),
                "ca" => self.authority_file = Some(path("ca")?),
                "cert" => certificate = Some(path("cert")?),
                "key" => key = Some(path("key")?),
                other => return Err(AddressError::Unknown(other.to_owned())),
            }
        }
        if self.password_file.is_some() && self.user.is_none() {
            return Err(AddressError::PasswordAlone);
        }
        self.identity_files = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(AddressError::HalfIdentity),
        };
        self.tls |= self.authority_file.is_some() || self.identity_files.is_some();
        Ok(())
    }

    /// The name of the inbox: that of its stream.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many replicas an inbox has that is made now.
    pub fn replica_count(&self) -> usize {
        self.replicas
    }

    /// Connects over TLS or not at all.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Logs in with a user and a password.
    pub fn user_and_password(mut self, user: &str, password: &str) -> Self {
        self.user = Some(user.to_owned());
        self.password = Some(Zeroizing::new(password.to_owned()));
        self
    }

    /// Logs in with a user and the password in a file, without the line's end.
    pub fn user_and_password_file(mut self, user: &str, file: impl AsRef<Path>) -> Self {
        self.user = Some(user.to_owned());
        self.password_file = Some(file.as_ref().to_owned());
        self
    }

    /// Logs in with a credentials file, as `nsc` makes it: a JWT and the seed of its key.
    pub fn credentials_file(mut self, file: impl AsRef<Path>) -> Self {
        self.credentials_file = Some(file.as_ref().to_owned());
        self
    }

    /// Connects over TLS, and trusts the authorities in this PEM file instead of the system's.
    pub fn authority_file(mut self, file: impl AsRef<Path>) -> Self {
        self.authority_file = Some(file.as_ref().to_owned());
        self.tls()
    }

    /// Connects over TLS with this certificate and its key, both PEM files.
    pub fn identity_files(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identity_files = Some((certificate.as_ref().to_owned(), key.as_ref().to_owned()));
        self.tls()
    }

    /// On how many servers of the cluster each message is stored: 1, 3 or 5. An acknowledged
    /// message survives the loss of any server but the last one with 1, and of one server with 3.
    /// An inbox that exists keeps its number.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count.max(1);
        self
    }

    /// How many messages wait or are being processed at most; at least 1. Each server counts its
    /// own at once, and those of the others about every second, so several servers together may go
    /// a little beyond.
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages.max(1);
        self
    }

    /// How many messages the stream holds at most: those that wait, and acknowledged ones whose ids
    /// are still remembered. At least 1.
    pub fn stored_messages_max(mut self, messages: u64) -> Self {
        self.stored_messages_max = messages.max(1);
        self
    }

    /// How many bytes the stream takes at most. The NATS server reserves them when it makes the
    /// stream.
    pub fn stored_bytes_max(mut self, bytes: u64) -> Self {
        self.stored_bytes_max = Some(bytes.max(1));
        self
    }

    /// How long an accepted id is remembered: never less than clients may retry (10 minutes). The
    /// NATS server keeps the ids of this time in memory.
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(Duration::from_secs(REMEMBERED_SECS));
        self
    }

    /// How long a delivery leases a message: without an acknowledgement by then, the message is
    /// delivered again. [`Delivery::extend`](ipc_inbox::Delivery::extend) asks for more time.
    pub fn visibility_timeout(mut self, time: Duration) -> Self {
        self.visibility_timeout = time;
        self
    }

    /// How soon the messages of a server that has died are delivered to another one (`ack_wait` of
    /// the consumer). A server that lives renews its leases in time, unless it cannot reach the
    /// consumer's leader for so long: then other servers may get its messages too, marked. An inbox
    /// that exists keeps its own.
    pub fn takeover_after(mut self, time: Duration) -> Self {
        self.takeover_after = time.max(Duration::from_millis(100));
        self
    }

    /// How soon a message whose delivery was dropped is delivered again.
    /// [`Delivery::nack`](ipc_inbox::Delivery::nack) has its own delay.
    pub fn nack_delay(mut self, time: Duration) -> Self {
        self.nack_delay = time;
        self
    }

    /// How often a message is delivered at most; at least once. If the last delivery is not
    /// acknowledged, the message becomes a dead letter.
    pub fn max_deliveries(mut self, tries: u32) -> Self {
        self.max_deliveries = tries.max(1);
        self
    }

    /// How many messages all servers together may have taken and not yet acknowledged, prefetched
    /// ones included (`max_ack_pending` of the consumer). An inbox that exists keeps its own.
    pub fn max_unacknowledged(mut self, messages: u32) -> Self {
        self.max_unacknowledged = messages.max(1);
        self
    }

    /// How many messages this server has ready for its application. Each prefetched message counts
    /// as delivered, so a crash costs it one of its deliveries. With `max_deliveries(1)` nothing is
    /// prefetched.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest are dropped
    /// first.
    pub fn replies_bytes_max(mut self, bytes: u64) -> Self {
        self.replies_bytes_max = bytes.max(1);
        self
    }

    /// How many bytes of JSON text one reply may have. The limit of the NATS server for a message
    /// (`max_payload`, 1 MiB unless it is configured) may be lower, and then holds.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }
}

impl fmt::Debug for JetStreamOptions {
    /// Leaves out the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamOptions")
            .field("servers", &self.servers)
            .field("name", &self.name)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// The servers and the stream, without what logs in.
impl fmt::Display for JetStreamOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}/{}", self.servers.join(","), self.name)
    }
}

/// The address with its port. `None` if it is none.
fn address(text: &str) -> Option<String> {
    let has_port = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match port {
                "" => false,
                port => port.strip_prefix(':')?.parse::<u16>().is_ok_and(|port| port > 0),
            }
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
            let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || !host.chars().all(is_of_a_name) {
                return None;
            }
            match port {
                Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => true,
                Some(_) => return None,
                None => false,
            }
        }
    };
    match (has_port, text.ends_with(']')) {
        (true, _) => Some(text.to_owned()),
        (false, true) => Some(format!("{text}:{PORT}")),
        (false, false) if !text.starts_with('[') => Some(format!("{text}:{PORT}")),
        _ => None,
    }
}

/// Undoes the percent encoding of a part of an address. `None` if it is malformed.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_servers_stream_and_parameters() {
        let options =
            JetStreamOptions::of_address("nats://a.example:4222,10.0.0.2,[::1]:7/JOBS-1").unwrap();
        assert_eq!(options.servers, ["a.example:4222", "10.0.0.2:4222", "[::1]:7"]);
        assert_eq!((options.name(), options.replica_count(), options.tls), ("JOBS-1", 1, false));
        assert_eq!(options.to_string(), "nats://a.example:4222,10.0.0.2:4222,[::1]:7/JOBS-1");
        let options = JetStreamOptions::of_address(
            "tls://n/J?replicas=3&credentials=/etc/a%20b.creds&ca=/ca.pem&cert=c&key=k&bytes=99&takeover=60",
        )
        .unwrap();
        assert_eq!((options.replica_count(), options.tls), (3, true));
        assert_eq!(options.credentials_file.as_deref(), Some(Path::new("/etc/a b.creds")));
        assert_eq!(options.authority_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(options.identity_files, Some(("c".into(), "k".into())));
        assert_eq!(options.stored_bytes_max, Some(99));
    }

    #[test]
    fn a_password_is_taken_and_never_shown() {
        let options = JetStreamOptions::of_address("nats://me:s%40crt@n:1/J").unwrap();
        assert_eq!(options.user.as_deref(), Some("me"));
        assert_eq!(options.password.as_deref().map(String::as_str), Some("s@crt"));
        for shown in [format!("{options:?}"), options.to_string()] {
            assert!(!shown.contains("crt"), "{shown}");
        }
        for wrong in ["http://me:secret@n/J", "nats://me:secret@/J", "nats://me:secret@n", "secret"]
        {
            let error = JetStreamOptions::of_address(wrong).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_what_is_wrong() {
        let refused = |address: &str| JetStreamOptions::of_address(address).unwrap_err();
        assert_eq!(refused("redis://n/J"), AddressError::Scheme);
        for servers in
            ["nats:///J", "nats://a,,b/J", "nats://a:0/J", "nats://a:x/J", "nats://a b/J"]
        {
            assert_eq!(refused(servers), AddressError::Servers, "{servers}");
        }
        for name in ["nats://n", "nats://n/", "nats://n/a.b", "nats://n/a b", "nats://n/>"] {
            assert_eq!(refused(name), AddressError::Name, "{name}");
        }
        assert_eq!(refused("nats://n/J?copies=3"), AddressError::Unknown("copies".into()));
        for value in [
            "nats://n/J?takeover=0",
            "nats://n/J?takeover=3601",
            "nats://n/J?replicas=2",
            "nats://n/J?bytes=0",
            "nats://n/J?ca=",
            "nats://n/J?user",
        ] {
            assert!(matches!(refused(value), AddressError::Value { .. }), "{value}");
        }
        assert_eq!(refused("nats://n/J?cert=c"), AddressError::HalfIdentity);
        assert_eq!(refused("nats://n/J?passwordFile=p"), AddressError::PasswordAlone);
    }

    #[test]
    fn ids_are_remembered_for_no_less_than_clients_retry() {
        let options = JetStreamOptions::new(["n"], "J").unwrap();
        let options = options.remembered_for(Duration::from_secs(1));
        assert_eq!(options.remembered_for, Duration::from_secs(600));
    }
}

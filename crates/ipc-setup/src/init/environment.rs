//! Reads an environment directory of the Python tool of the same name.
//!
//! [`super::import`] comes here. Nothing is changed, and no file is opened through a link. What the
//! files mean was found by running that tool, and is in `docs/from-the-python-tool.md`.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_envelope::{Key, KeyRing};
use ipc_home::{Credentials, FILE_BYTES_MAX, FILE_MODE, Home, HomeError, PeerName};
use ipc_pickle::{Limits, to_json};
use ipc_pki::{Authority, CertificateInfo, KeyType, LoadError, key_fits};
use ipc_store::PASSWORD_BYTES_MAX;
use rustix::fs::OFlags;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::SetupError;

/// The key that the tool wraps its message key with. It is public in the tool's source, so that it
/// protects nothing.
const WRAPPING_KEY: &str = "y8rKnU8Mr6FwrWPDmExeLuaaCO6nUQ8YKAk4Uu0M8Ic=";

/// How often the database of users is copied again because it was written meanwhile.
const COPIES_MAX: u32 = 10;

/// What every environment has. Without one of these it is not taken over.
const NEEDED: [&str; 4] = [USERS, MESSAGE_KEY, AUTHORITY_CERTIFICATE, AUTHORITY_KEY];

const USERS: &str = "users.db";
/// What SQLite keeps beside a database that was not closed. The shared memory is made again.
const USERS_LOGS: [&str; 2] = ["users.db-journal", "users.db-wal"];
const MESSAGE_KEY: &str = ".xork";
const ADMIN: &str = ".ipca";
const AUTHORITY_CERTIFICATE: &str = "web-ipc-ca.crt";
const AUTHORITY_KEY: &str = "web-ipc-ca.key";
const SERIAL: &str = "ca-serial";

/// Where the tool's package has its environment.
const WITHIN_PACKAGE: &str = "web_env";

/// A certificate with its key, as the tool made them.
#[derive(Clone)]
#[non_exhaustive]
pub struct TakenPair {
    name: PeerName,
    /// Its DNS names and addresses.
    pub alt_names: Vec<String>,
    /// Addresses that are written as DNS names. Whoever connects to one of them without the name of
    /// the server does not accept the certificate.
    pub addresses_as_names: Vec<String>,
    /// The last second in which it is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// The kind of its key, if it is one that is made here.
    pub key_type: Option<KeyType>,
    pub(super) certificate_pem: Vec<u8>,
    pub(super) key_pem: Zeroizing<Vec<u8>>,
}

impl TakenPair {
    /// The name of the pair.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }
}

impl fmt::Debug for TakenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakenPair").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A file that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftFile {
    /// Its name in the environment.
    pub name: String,
    /// Why it was left.
    pub reason: LeftReason,
}

/// Why a file was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftReason {
    /// It counts serial numbers, which are random here.
    SerialNumbers,
    /// The other half of the pair is missing.
    HalfPair,
    /// It is no certificate, or the key beside it is not its key.
    BadPair,
    /// Another authority issued the certificate.
    OtherAuthority,
    /// Its name cannot be that of a peer, or differs from another one's in upper and lower case
    /// only.
    Name,
    /// The Python tool makes no such file.
    Unknown,
}

impl fmt::Display for LeftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SerialNumbers => "serial numbers are random here",
            Self::HalfPair => "half of a pair",
            Self::BadPair => "certificate and key do not fit, or cannot be read",
            Self::OtherAuthority => "issued by another authority",
            Self::Name => "not a name that a peer can have",
            Self::Unknown => "not a file of the Python tool",
        })
    }
}

/// What is in an environment.
pub(super) struct Environment {
    root: PathBuf,
    message_key: Key,
    admin: Option<Credentials>,
    authority: Authority,
    is_authority_signed_anew: bool,
    pairs: Vec<TakenPair>,
    left: Vec<LeftFile>,
    is_open_to_others: bool,
}

impl Environment {
    /// Reads the environment in `directory`. The database of users is only looked for.
    pub(super) fn read(directory: &Path, now_secs: u64) -> Result<Self, SetupError> {
        let root = directory.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SetupError::NoEnvironment { path: directory.to_owned() },
            _ => HomeError::Unreadable { path: directory.to_owned(), source }.into(),
        })?;
        if !root.is_dir() {
            return Err(SetupError::NoEnvironment { path: root });
        }
        let unreadable = |source| HomeError::Unreadable { path: root.clone(), source };
        let metadata = root.metadata().map_err(unreadable)?;
        refuse_owner(&root, &root, &metadata)?;
        let names = names_in(&root)?;
        let missing: Vec<_> =
            NEEDED.into_iter().filter(|needed| !names.iter().any(|name| name == needed)).collect();
        if !missing.is_empty() {
            let within = root.join(WITHIN_PACKAGE);
            let instead = within.join(MESSAGE_KEY).is_file().then_some(within);
            return Err(SetupError::NotAnEnvironment { path: root, missing, instead });
        }
        let is_open_to_others = metadata.permissions().mode() & 0o022 != 0;
        let mut reader = Reader { root: &root, is_open_to_others };
        let message_key = message_key(&reader.read(MESSAGE_KEY)?)
            .ok_or_else(|| SetupError::BadMessageKey { path: root.join(MESSAGE_KEY) })?;
        let admin = match names.iter().any(|name| name == ADMIN) {
            true => admin(&message_key, &reader.read(ADMIN)?),
            false => None,
        };
        let certificate = reader.read(AUTHORITY_CERTIFICATE)?;
        let (authority, is_authority_signed_anew) =
            Authority::adopt(&certificate, &reader.read(AUTHORITY_KEY)?, now_secs).map_err(
                |source| SetupError::BadOldAuthority { path: root.join(named_by(&source)), source },
            )?;
        let (pairs, left) = pairs(&mut reader, &names, &authority)?;
        reader.open(USERS)?;
        let is_open_to_others = reader.is_open_to_others;
        Ok(Self {
            root,
            message_key,
            admin,
            authority,
            is_authority_signed_anew,
            pairs,
            left,
            is_open_to_others,
        })
    }

    /// The database of users.
    pub(super) fn users_file(&self) -> PathBuf {
        self.root.join(USERS)
    }

    /// Copies the database of users, with its logs, so that opening the copy changes nothing here.
    pub(super) fn copy_users(&self, home: &Home) -> Result<(), SetupError> {
        copy_users(&self.root, home, || ())
    }

    /// The directory, without links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn message_key(&self) -> &Key {
        &self.message_key
    }

    /// The credentials in `.ipca`; `None` where there is none, or it cannot be read.
    pub(super) fn admin(&self) -> Option<&Credentials> {
        self.admin.as_ref()
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn is_authority_signed_anew(&self) -> bool {
        self.is_authority_signed_anew
    }

    pub(super) fn pairs(&self) -> &[TakenPair] {
        &self.pairs
    }

    pub(super) fn into_pairs(self) -> Vec<TakenPair> {
        self.pairs
    }

    pub(super) fn left(&self) -> &[LeftFile] {
        &self.left
    }

    pub(super) fn is_open_to_others(&self) -> bool {
        self.is_open_to_others
    }
}

/// Copies the database of users and its logs to a home, as they were at one moment.
///
/// SQLite cannot read them here: it would make files beside a database with a log. So the files are
/// compared afterwards, and copied again if a server of the Python tool has written meanwhile.
/// `meanwhile` is for tests.
fn copy_users(root: &Path, home: &Home, mut meanwhile: impl FnMut()) -> Result<(), SetupError> {
    for _ in 0..COPIES_MAX {
        let before = states(root)?;
        let mut copies = Vec::new();
        for name in users_files() {
            if let Some(from) = open_if_there(root, name)? {
                copies.push((name, copy_file(from, &home.root().join(name))?));
            }
        }
        meanwhile();
        let mut is_same = true;
        for (name, copy) in &mut copies {
            // The time of a change can be the same for two changes: the bytes cannot.
            is_same = is_same
                && match open_if_there(root, name)? {
                    Some(from) => same_bytes(from, copy).map_err(|source| {
                        HomeError::Unreadable { path: root.join(*name), source }
                    })?,
                    None => false,
                };
        }
        if is_same && states(root)? == before {
            return Ok(());
        }
        for (name, _) in copies {
            let path = home.root().join(name);
            std::fs::remove_file(&path).map_err(|source| HomeError::Unwritable { path, source })?;
        }
    }
    let source = io::Error::other("it is being written: stop the server of the Python tool");
    Err(HomeError::Unreadable { path: root.join(USERS), source }.into())
}

fn users_files() -> impl Iterator<Item = &'static str> {
    [USERS].into_iter().chain(USERS_LOGS)
}

/// Opens a file of the database; `None` for a log that is not there.
fn open_if_there(root: &Path, name: &str) -> Result<Option<File>, HomeError> {
    match (Reader { root, is_open_to_others: false }).open(name) {
        Err(HomeError::FileMissing { .. }) if name != USERS => Ok(None),
        opened => opened.map(Some),
    }
}

/// What changes when a file is written or replaced: inode, length and times.
type FileState = Option<(u64, u64, (i64, i64), (i64, i64))>;

fn states(root: &Path) -> Result<Vec<FileState>, HomeError> {
    let state = |name| {
        let Some(file) = open_if_there(root, name)? else { return Ok(None) };
        let unreadable = |source| HomeError::Unreadable { path: root.join(name), source };
        let data = file.metadata().map_err(unreadable)?;
        let changed = (data.ctime(), data.ctime_nsec());
        Ok(Some((data.ino(), data.len(), (data.mtime(), data.mtime_nsec()), changed)))
    };
    users_files().map(state).collect()
}

/// Copies a file to a new one.
fn copy_file(mut from: File, path: &Path) -> Result<File, HomeError> {
    let unwritable = |source| HomeError::Unwritable { path: path.to_owned(), source };
    let mut to = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(unwritable)?;
    to.set_permissions(std::fs::Permissions::from_mode(FILE_MODE)).map_err(unwritable)?;
    io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).map_err(unwritable)?;
    Ok(to)
}

/// Whether a file has the bytes that its copy has.
fn same_bytes(from: File, copy: &mut File) -> io::Result<bool> {
    copy.rewind()?;
    let (mut from, mut copy) = (io::BufReader::new(from), io::BufReader::new(copy));
    loop {
        let (left, right) = (io::BufRead::fill_buf(&mut from)?, io::BufRead::fill_buf(&mut copy)?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        io::BufRead::consume(&mut from, length);
        io::BufRead::consume(&mut copy, length);
    }
}

/// Refuses what somebody else can change: neither this user nor root owns it.
fn refuse_owner(path: &Path, target: &Path, metadata: &Metadata) -> Result<(), HomeError> {
    let (owner, own_uid) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner == own_uid || owner == 0 {
        return Ok(());
    }
    let (path, target) = (path.to_owned(), target.to_owned());
    Err(HomeError::ForeignOwner { path, target, owner, own_uid })
}

/// Which of the authority's two files an error is about.
fn named_by(error: &LoadError) -> &'static str {
    match error {
        LoadError::Key
        | LoadError::EncryptedKey
        | LoadError::UnsupportedKey
        | LoadError::Mismatch => AUTHORITY_KEY,
        _ => AUTHORITY_CERTIFICATE,
    }
}

/// The message key in `.xork`: a Fernet token, under a key that everybody knows, of a Fernet key.
fn message_key(wrapped: &[u8]) -> Option<Key> {
    let wrapping = Key::from_base64url(WRAPPING_KEY).expect("the constant is a Fernet key");
    let text = KeyRing::new(wrapping).open_base64url(wrapped.trim_ascii(), None).ok()?;
    Key::from_base64url(std::str::from_utf8(&text).ok()?).ok()
}

/// The credentials in `.ipca`: a Fernet token, under the message key, of a pickled dict.
fn admin(message_key: &Key, sealed: &[u8]) -> Option<Credentials> {
    let ring = KeyRing::from_text(&message_key.to_base64url()).ok()?;
    let pickle = ring.open_base64url(sealed.trim_ascii(), None).ok()?;
    let json = Zeroizing::new(to_json(&pickle, &Limits::default()).ok()?);
    let stored: Stored = serde_json::from_str(&json).ok()?;
    let password = Zeroizing::new(stored.password);
    Some(Credentials::new(stored.username, as_hashed(&password)?))
}

/// What `.ipca` holds.
#[derive(Deserialize)]
struct Stored {
    username: String,
    password: String,
}

/// A password as the tool's bcrypt reads it: its first 72 bytes. The tool makes passwords of 128
/// characters for its admin. `None` where that is not text any more.
fn as_hashed(password: &str) -> Option<&str> {
    password.get(..password.len().min(PASSWORD_BYTES_MAX))
}

/// All pairs that can be used, and what else is in the directory.
fn pairs(
    reader: &mut Reader<'_>,
    names: &[String],
    authority: &Authority,
) -> Result<(Vec<TakenPair>, Vec<LeftFile>), SetupError> {
    let (mut pairs, mut left) = (Vec::<TakenPair>::new(), Vec::new());
    for name in names {
        let mut leave = |reason| left.push(LeftFile { name: name.clone(), reason });
        if NEEDED.contains(&name.as_str())
            || [ADMIN, "users.db-shm"].contains(&name.as_str())
            || USERS_LOGS.contains(&name.as_str())
        {
            continue;
        }
        if name == SERIAL {
            leave(LeftReason::SerialNumbers);
            continue;
        }
        let Some((stem, extension @ ("crt" | "key"))) = name.rsplit_once('.') else {
            leave(LeftReason::Unknown);
            continue;
        };
        let has = |extension| names.contains(&format!("{stem}.{extension}"));
        if !has("crt") || !has("key") {
            leave(LeftReason::HalfPair);
            continue;
        }
        if extension == "key" {
            continue;
        }
        // Both halves are told of by the name of the certificate.
        let Ok(peer) = PeerName::parse(stem) else {
            leave(LeftReason::Name);
            continue;
        };
        if pairs.iter().any(|other| other.name.as_str().eq_ignore_ascii_case(peer.as_str())) {
            leave(LeftReason::Name);
            continue;
        }
        let certificate_pem = reader.read(name)?.to_vec();
        let key_pem = reader.read(&format!("{stem}.key"))?;
        match CertificateInfo::from_pem(&certificate_pem) {
            Ok(_) if !key_fits(&certificate_pem, &key_pem) => leave(LeftReason::BadPair),
            Ok(_) if !authority.has_issued(&certificate_pem, &key_pem) => {
                leave(LeftReason::OtherAuthority);
            }
            Ok(info) => pairs.push(TakenPair {
                name: peer,
                alt_names: info.alt_names,
                addresses_as_names: info.addresses_as_names,
                not_after_secs: info.not_after_secs,
                key_type: info.key_type,
                certificate_pem,
                key_pem,
            }),
            Err(_) => leave(LeftReason::BadPair),
        }
    }
    Ok((pairs, left))
}

/// The names in the directory, sorted.
fn names_in(root: &Path) -> Result<Vec<String>, HomeError> {
    let unreadable = |source| HomeError::Unreadable { path: root.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads files of an environment, whose modes are not those of a home.
struct Reader<'a> {
    root: &'a Path,
    /// Whether others may read a file that was opened and is no certificate, or change one, or the
    /// directory.
    is_open_to_others: bool,
}

impl Reader<'_> {
    /// A whole file of at most [`FILE_BYTES_MAX`].
    fn read(&mut self, name: &str) -> Result<Zeroizing<Vec<u8>>, HomeError> {
        let path = self.root.join(name);
        let file = self.open(name)?;
        // A vector that grows would leave copies of a secret in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 64));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| HomeError::Unreadable { path: path.clone(), source })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(HomeError::TooLarge { path, bytes_max: FILE_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// Opens a regular file that is no link. Does not wait for the writer of a pipe.
    fn open(&mut self, name: &str) -> Result<File, HomeError> {
        let path = self.root.join(name);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HomeError::FileMissing { path: path.clone() },
            _ if path.is_symlink() => HomeError::SymbolicLink { path: path.clone() },
            _ => HomeError::Unreadable { path: path.clone(), source },
        })?;
        let metadata = file
            .metadata()
            .map_err(|source| HomeError::Unreadable { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Err(HomeError::NotAFile { path });
        }
        refuse_owner(&path, &path, &metadata)?;
        // Everybody may read a certificate, and nobody else change one.
        let others = if name.ends_with(".crt") { 0o022 } else { 0o077 };
        if metadata.permissions().mode() & others != 0 {
            self.is_open_to_others = true;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, PathBuf, Home) {
        let directory = tempfile::tempdir().unwrap();
        let [root, home] = ["web_env", "home"].map(|name| directory.path().join(name));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&home).unwrap();
        std::fs::write(root.join(USERS), "first").unwrap();
        (directory, root, Home::at(home))
    }

    #[test]
    fn a_database_that_is_written_meanwhile_is_copied_again_and_whole() {
        let (_directory, root, home) = places();
        let mut writes = ["other", "longer than before"].into_iter();
        copy_users(&root, &home, || {
            if let Some(text) = writes.next() {
                std::fs::write(root.join(USERS), text).unwrap();
                std::fs::write(root.join("users.db-wal"), text).unwrap();
            }
        })
        .unwrap();
        for name in [USERS, "users.db-wal"] {
            let copy = std::fs::read_to_string(home.root().join(name)).unwrap();
            assert_eq!(copy, "longer than before");
        }
    }

    #[test]
    fn a_log_that_goes_meanwhile_is_not_in_the_copy() {
        let (_directory, root, home) = places();
        let log = root.join("users.db-journal");
        std::fs::write(&log, "half").unwrap();
        copy_users(&root, &home, || drop(std::fs::remove_file(&log))).unwrap();
        assert!(home.root().join(USERS).exists() && !home.root().join("users.db-journal").exists());
    }

    #[test]
    fn a_database_that_never_rests_is_refused_and_no_copy_is_left() {
        let (_directory, root, home) = places();
        let mut number = 0;
        let error = copy_users(&root, &home, || {
            number += 1;
            std::fs::write(root.join(USERS), format!("{number:05}")).unwrap();
        })
        .unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::Unreadable { .. })), "{error:?}");
        assert_eq!(home.root().read_dir().unwrap().count(), 0);
    }
}

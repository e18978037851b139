//! Keeps sessions for the next process, so that it need not log in.
//!
//! The client uses it. A kept session is only an optimisation: an unreadable one counts as none,
//! and the client logs in again. The caller judges whether a session is still valid (there is no
//! clock here), and in the end the server does.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::accounts::own_uid;
use crate::file::{make_private_directory, read_secret, refuse_open_mode, write_secret_atomically};
use crate::permissions::DIRECTORY_MODE;
use crate::{Home, HomeError};

/// The suffix that distinguishes a login lock from the kept session beside it.
const LOCK_SUFFIX: &str = ".lock";

/// A session that a server granted. The token is wiped on drop, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptSession {
    /// The session token, as the server sent it.
    pub token: Zeroizing<String>,
    /// When the session ends, in seconds since the Unix epoch.
    pub expires_at_secs: u64,
    /// SHA-256 of the client certificate (DER) that the session is bound to; `None` over plain
    /// HTTP.
    pub certificate: Option<[u8; 32]>,
    /// A text by which the client recognises the password that got the session; `None` if it was
    /// the home's own password.
    pub password_check: Option<String>,
}

impl fmt::Debug for KeptSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSession")
            .field("expires_at_secs", &self.expires_at_secs)
            .finish_non_exhaustive()
    }
}

impl Home {
    /// The session kept for `username` at `server` (the caller's name for the server, such as a
    /// host name with a port).
    ///
    /// `None` if there is none, or if its file is damaged. If the directory belongs to the caller
    /// and is open to others, the call closes it and logs a warning.
    ///
    /// # Errors
    /// [`HomeError::TooOpen`] if the file, or a directory of another owner, is open to others, and
    /// the errors of reading a secret: [`HomeError::Unreadable`], [`HomeError::NotAFile`],
    /// [`HomeError::TooLarge`].
    pub fn load_session(
        &self,
        server: &str,
        username: &str,
    ) -> Result<Option<KeptSession>, HomeError> {
        if !self.close_sessions_dir()? {
            return Ok(None);
        }
        match read_secret(&self.kept_session_file(server, username)) {
            Ok(bytes) => Ok(parse(&bytes, server, username)),
            Err(HomeError::FileMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a session for the next process. It replaces an older one of the same user at the same
    /// server.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error, also if `sessions/` belongs to another
    /// user; [`HomeError::TooOpen`], [`HomeError::NoRandomness`].
    pub fn keep_session(
        &self,
        server: &str,
        username: &str,
        session: &KeptSession,
    ) -> Result<(), HomeError> {
        self.make_sessions_dir()?;
        let stored = StoredRef {
            server,
            username,
            expires_at_secs: session.expires_at_secs,
            certificate_sha256: session.certificate.as_ref().map(|bytes| to_hex(bytes)),
            password_check: session.password_check.as_deref(),
            token: &session.token,
        };
        // The capacity is large enough for every byte to become six, as in `\u00xx`. So the vector
        // never grows, and leaves no copy of the token.
        let check_bytes = session.password_check.as_ref().map_or(0, String::len);
        let capacity =
            320 + 6 * (server.len() + username.len() + check_bytes + session.token.len());
        let mut json = Zeroizing::new(Vec::with_capacity(capacity));
        serde_json::to_writer(&mut *json, &stored)
            .expect("plain fields always serialise, and a vector takes any bytes");
        write_secret_atomically(&self.kept_session_file(server, username), &json)
    }

    /// Forgets a kept session, if there is one.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error.
    pub fn forget_session(&self, server: &str, username: &str) -> Result<(), HomeError> {
        let path = self.kept_session_file(server, username);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(HomeError::Unwritable { path, source })
            }
            _ => Ok(()),
        }
    }

    fn kept_session_file(&self, server: &str, username: &str) -> PathBuf {
        self.sessions_dir().join(file_name(server, username))
    }

    pub(crate) fn login_lock_file(&self, server: &str, username: &str) -> PathBuf {
        self.sessions_dir().join(file_name(server, username) + LOCK_SUFFIX)
    }

    /// Creates `sessions/` for the caller alone, if it does not exist.
    pub(crate) fn make_sessions_dir(&self) -> Result<(), HomeError> {
        let path = self.sessions_dir();
        let others = |metadata: &std::fs::Metadata| metadata.uid() != own_uid();
        let owner = path.metadata().or_else(|_| self.root().metadata());
        // A file that root or another user leaves in a user's directory could not be read or
        // replaced by that user.
        if owner.is_ok_and(|metadata| others(&metadata)) {
            let source =
                io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
            return Err(HomeError::Unwritable { path, source });
        }
        make_private_directory(&path)?;
        self.close_sessions_dir().map(drop)
    }

    /// Removes others' access to `sessions/`; `false` if it does not exist. The directory is open
    /// if a home was copied without its modes. The files have modes of their own, so their content
    /// was not exposed.
    fn close_sessions_dir(&self) -> Result<bool, HomeError> {
        let path = self.sessions_dir();
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(HomeError::Unreadable { path, source }),
        };
        if let Err(open) = refuse_open_mode(&path, &metadata, DIRECTORY_MODE) {
            if metadata.uid() != own_uid() || !metadata.is_dir() {
                return Err(open);
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(DIRECTORY_MODE))
                .map_err(|_| open)?;
            let mode = metadata.mode() & 0o7777;
            log::warn!(
                "{} was open to other users (mode {mode:04o}) and is closed now",
                path.display()
            );
        }
        Ok(true)
    }
}

fn parse(bytes: &[u8], server: &str, username: &str) -> Option<KeptSession> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let token = Zeroizing::new(stored.token);
    if stored.server != server || stored.username != username {
        return None;
    }
    let certificate = match stored.certificate_sha256 {
        Some(hex) => Some(from_hex(&hex)?),
        None => None,
    };
    let (expires_at_secs, password_check) = (stored.expires_at_secs, stored.password_check);
    Some(KeptSession { token, expires_at_secs, certificate, password_check })
}

/// A name of 64 characters: SHA-256 of the server's length, the server and the user. The length
/// distinguishes `ab`+`c` from `a`+`bc`.
fn file_name(server: &str, username: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((server.len() as u64).to_be_bytes());
    hash.update(server.as_bytes());
    hash.update(username.as_bytes());
    to_hex(&hash.finalize())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[derive(Serialize)]
struct StoredRef<'a> {
    server: &'a str,
    username: &'a str,
    expires_at_secs: u64,
    certificate_sha256: Option<String>,
    password_check: Option<&'a str>,
    token: &'a str,
}

#[derive(Deserialize)]
struct Stored {
    server: String,
    username: String,
    expires_at_secs: u64,
    certificate_sha256: Option<String>,
    // Files of earlier versions do not have this field.
    #[serde(default)]
    password_check: Option<String>,
    token: String,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn session(token: &str) -> KeptSession {
        KeptSession {
            token: Zeroizing::new(token.to_owned()),
            expires_at_secs: 3600,
            certificate: Some([7; 32]),
            password_check: None,
        }
    }

    fn load(home: &Home) -> Option<KeptSession> {
        home.load_session("s", "u").unwrap()
    }

    fn only_file(home: &Home) -> PathBuf {
        let mut files = std::fs::read_dir(home.sessions_dir()).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        file
    }

    #[test]
    fn a_kept_session_comes_back_as_it_was_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        assert_eq!(home.load_session("localhost:3000", "test1").unwrap(), None);
        let checked = KeptSession { password_check: Some("$2b$".to_owned()), ..session("ghi") };
        for kept in [session("abc"), KeptSession { certificate: None, ..session("def") }, checked] {
            home.keep_session("localhost:3000", "test1", &kept).unwrap();
            assert_eq!(home.load_session("localhost:3000", "test1").unwrap(), Some(kept));
        }
        home.forget_session("localhost:3000", "test1").unwrap();
        assert_eq!(home.load_session("localhost:3000", "test1").unwrap(), None);
        home.forget_session("localhost:3000", "test1").unwrap();
    }

    #[test]
    fn each_server_and_user_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let pairs =
            [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("../x", "y/z"), ("AB", "c")];
        for (index, (server, user)) in pairs.iter().enumerate() {
            home.keep_session(server, user, &session(&index.to_string())).unwrap();
        }
        for (index, (server, user)) in pairs.iter().enumerate() {
            assert_eq!(*home.load_session(server, user).unwrap().unwrap().token, index.to_string());
        }
    }

    #[test]
    fn a_file_name_stays_short_whatever_the_names() {
        assert_eq!(file_name(&"s".repeat(4096), &"ü".repeat(80)).len(), 64);
    }

    #[test]
    fn the_directory_is_0700_and_the_file_0600() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.keep_session("s", "u", &session("t")).unwrap();
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(home.sessions_dir()), mode(only_file(&home))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_file_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.keep_session("s", "u", &session("t")).unwrap();
        let file = only_file(&home);
        let good = std::fs::read_to_string(&file).unwrap();
        let damaged = [
            String::new(),
            "{}".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.replace("\"s\"", "\"other\""),
            good.replace("3600", "-1"),
            good.replace("0707", "07"),
            good.replace("0707", "+707"),
            good.replace("0707", "zz07"),
        ];
        for content in damaged {
            std::fs::write(&file, &content).unwrap();
            assert_eq!(load(&home), None, "{content}");
        }
        std::fs::write(&file, &good).unwrap();
        assert!(load(&home).is_some());
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.keep_session("s", "u", &session("t")).unwrap();
        let file = only_file(&home);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = home.load_session("s", "u").unwrap_err();
        assert!(matches!(error, HomeError::TooOpen { path, mode: 0o644, .. } if path == file));
    }

    #[test]
    fn a_directory_of_ones_own_that_is_open_to_others_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.keep_session("s", "u", &session("t")).unwrap();
        let mode = || std::fs::metadata(home.sessions_dir()).unwrap().permissions().mode() & 0o7777;
        let open = || {
            let permissions = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(home.sessions_dir(), permissions).unwrap();
        };
        open();
        assert!(load(&home).is_some());
        assert_eq!(mode(), 0o700);
        open();
        home.keep_session("s", "u", &session("t")).unwrap();
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn a_file_of_a_version_that_knew_no_password_check_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        home.keep_session("s", "u", &session("t")).unwrap();
        let file = only_file(&home);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(r#""password_check":null,"#, "")).unwrap();
        assert_eq!(load(&home), Some(session("t")));
    }

    #[test]
    fn debug_never_shows_the_token() {
        assert!(!format!("{:?}", session("sesame")).contains("sesame"));
    }
}

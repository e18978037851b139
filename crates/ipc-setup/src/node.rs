//! What the home of a further server of an installation has beyond that of a client, as a bundle
//! and a renewal carry it.
//!
//! Enrolment makes and unpacks it, renewal replaces what has changed. Such a home, a server node's,
//! has every key that servers share and none of the authority's: what needs that key is done in the
//! first server's home, and [`refuse`] says so.

use ipc_envelope::{KeyRing, keys_from_text};
use ipc_home::{
    ADMIN_USERNAME, ClientSettings, Credentials, FILE_BYTES_MAX, Home, HomeError, read_public,
};
use ipc_pki::revocation_lists_from_pem;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::bundle_error::BundleError;
use crate::random::random_bytes;
use crate::users::{check_url, runtime};
use crate::{SetupError, files};

/// The largest copy of the users that a bundle carries, in bytes: about 30,000 users.
pub(crate) const USERS_DB_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What every file of SQLite begins with.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The part of a bundle that is for a server alone. Its secrets are wiped when it is dropped.
#[derive(Serialize, Deserialize)]
pub(crate) struct NodeContent {
    session_keys: Vec<String>,
    revocation_lists: Option<String>,
    cross_certificates: Option<String>,
    /// The password of `ipc-admin`, for `admin.cred`.
    admin_password: String,
    #[serde(flatten)]
    users: NodeUsers,
}

/// Where the users are that a further server knows.
#[derive(Serialize, Deserialize)]
enum NodeUsers {
    /// A copy of `users.db` as of one moment, in base64.
    #[serde(rename = "users_db")]
    Copy(String),
    /// The URL of the database that all servers share, with its password where it has one.
    #[serde(rename = "users_url")]
    Shared(String),
}

impl Drop for NodeContent {
    fn drop(&mut self) {
        self.session_keys.zeroize();
        self.admin_password.zeroize();
        match &mut self.users {
            NodeUsers::Copy(text) | NodeUsers::Shared(text) => text.zeroize(),
        }
    }
}

impl NodeContent {
    /// What a further server needs of this home. Only for the holder of the lock.
    pub(crate) fn of(home: &Home) -> Result<Self, SetupError> {
        let session_keys = home.session_keys_one_by_one()?;
        // Checked before they go anywhere.
        home.session_keys()?;
        Ok(Self {
            session_keys: session_keys.iter().map(|key| key.to_base64url().to_string()).collect(),
            revocation_lists: text_if_there(home.revocation_list_file())?,
            cross_certificates: text_if_there(home.cross_certificate_file())?,
            admin_password: home.admin_credentials()?.password.to_string(),
            users: match home.users_url()? {
                Some(url) => NodeUsers::Shared(url.to_string()),
                None => {
                    NodeUsers::Copy(base64_simd::STANDARD.encode_to_string(&copy_of(home)?[..]))
                }
            },
        })
    }

    /// How many bytes it takes as JSON, about.
    pub(crate) fn json_bytes(&self) -> usize {
        let list = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        // A line break of PEM is two characters there.
        2 * (list(&self.revocation_lists) + list(&self.cross_certificates))
            + self.session_keys.len() * 64
            + self.users_text().len()
            + 1024
    }

    /// Whether it is what [`of`](Self::of) makes, for a server with these envelope keys.
    pub(crate) fn check(&self, envelope_keys: &[String]) -> Result<(), BundleError> {
        let session_keys = Zeroizing::new(self.session_keys.join("\n"));
        let is_ring = KeyRing::from_text(&session_keys).is_ok()
            && !self.session_keys.iter().any(|key| envelope_keys.contains(key));
        let lists = self.revocation_lists.as_ref();
        let are_lists = lists.is_none_or(|pem| revocation_lists_from_pem(pem.as_bytes()).is_ok());
        if !is_ring || !are_lists {
            return Err(BundleError::Unsupported);
        }
        match &self.users {
            NodeUsers::Copy(copy) if bytes_of(copy)?.starts_with(SQLITE_MAGIC) => Ok(()),
            NodeUsers::Copy(_) => Err(BundleError::Unsupported),
            NodeUsers::Shared(_) if !cfg!(feature = "postgres") => {
                Err(BundleError::UsersInPostgres)
            }
            NodeUsers::Shared(url) => match check_url(url) {
                Ok(()) => Ok(()),
                Err(_) => Err(BundleError::Unsupported),
            },
        }
    }

    fn users_text(&self) -> &str {
        match &self.users {
            NodeUsers::Copy(text) | NodeUsers::Shared(text) => text,
        }
    }

    /// Writes it, but for what completes the home. Only for the holder of the lock, in a directory
    /// that is being made.
    pub(crate) fn unpack(&self, home: &Home) -> Result<(), SetupError> {
        write_keys(home, &self.session_keys)?;
        replace(home, self.revocation_lists.as_deref(), self.cross_certificates.as_deref())?;
        // An earlier bundle may have had the users in the other place.
        match &self.users {
            NodeUsers::Copy(copy) => {
                let users = bytes_of(copy).map_err(|source| SetupError::Bundle { source })?;
                files::remove(&home.users_url_file())?;
                files::write(&home.users_db(), &users)
            }
            NodeUsers::Shared(url) => {
                files::remove(&home.users_db())?;
                let line = Zeroizing::new(format!("{url}\n"));
                files::write(&home.users_url_file(), line.as_bytes())
            }
        }
    }

    /// Writes `admin.cred`, which completes the home.
    pub(crate) fn complete(&self, home: &Home, now_secs: u64) -> Result<(), SetupError> {
        let password = Zeroizing::new(self.admin_password.clone());
        let credentials = Credentials { username: ADMIN_USERNAME.to_owned(), password };
        let iv = random_bytes()?;
        files::commit(home.stage_admin_credentials(&credentials, now_secs, iv)?)
    }
}

fn bytes_of(base64: &str) -> Result<Zeroizing<Vec<u8>>, BundleError> {
    let bytes = base64_simd::STANDARD.decode_to_vec(base64.as_bytes());
    bytes.map(Zeroizing::new).map_err(|_| BundleError::Unsupported)
}

/// What a renewal brings to a server beyond what a client gets.
#[derive(Clone, Copy)]
pub struct NodeAnswer<'a> {
    /// The keys of session tokens in their text form. The first seals.
    pub session_keys: &'a [Zeroizing<String>],
    /// The list of revoked certificates of each authority, in PEM; `None` where nothing was ever
    /// revoked.
    pub revocation_lists_pem: Option<&'a str>,
    /// What a server sends behind its own certificate while the authority is replaced, in PEM.
    pub cross_certificates_pem: Option<&'a str>,
}

impl NodeAnswer<'_> {
    /// Refuses an answer that cannot be used, before anything is changed.
    pub(crate) fn check(&self, envelope_keys: &[Zeroizing<String>]) -> Result<(), SetupError> {
        let bad = |reason| Err(SetupError::BadRenewal { reason });
        let text = lines(self.session_keys);
        if keys_from_text(&text).is_err() {
            return bad("a session key cannot be read");
        }
        if self.session_keys.iter().any(|key| envelope_keys.contains(key)) {
            return bad("a session key is an envelope key too");
        }
        let lists = self.revocation_lists_pem;
        if lists.is_some_and(|pem| revocation_lists_from_pem(pem.as_bytes()).is_err()) {
            return bad("the list of revoked certificates cannot be read");
        }
        Ok(())
    }

    /// Puts it into the home: what is revoked first.
    pub(crate) fn take(&self, home: &Home) -> Result<(), SetupError> {
        replace(home, self.revocation_lists_pem, self.cross_certificates_pem)?;
        write_keys(home, self.session_keys)
    }
}

/// Replaces the lists of revoked certificates and what goes behind the server's own by those of the
/// first server, where both are kept. Without any there, as once an authority was dropped whose
/// certificates alone were revoked, there is none here.
fn replace(home: &Home, lists: Option<&str>, cross: Option<&str>) -> Result<(), SetupError> {
    for (path, pem) in
        [(home.revocation_list_file(), lists), (home.cross_certificate_file(), cross)]
    {
        match pem {
            Some(pem) => files::write_if_changed(&path, pem.as_bytes())?,
            None => files::remove(&path)?,
        }
    }
    Ok(())
}

fn write_keys<T: AsRef<str>>(home: &Home, keys: &[T]) -> Result<(), SetupError> {
    files::write_if_changed(&home.session_key_file(), lines(keys).as_bytes())
}

/// Keys as a file has them, a line each.
pub(crate) fn lines<T: AsRef<str>>(keys: &[T]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(keys.len() * 64));
    for key in keys {
        text.push_str(key.as_ref());
        text.push('\n');
    }
    text
}

/// What a server node's home knows of the server that it follows, where it is one.
pub(crate) fn settings(home: &Home) -> Result<Option<ClientSettings>, SetupError> {
    Ok(home.node_settings()?)
}

/// Removes what only a server has from a directory in which the acceptance of a server's bundle was
/// cut short. Only for the holder of the lock.
pub(crate) fn remove(home: &Home) -> Result<(), SetupError> {
    for path in [
        home.session_key_file(),
        home.users_db(),
        home.users_url_file(),
        home.node_settings_file(),
        home.revocation_list_file(),
        home.cross_certificate_file(),
    ] {
        files::remove(&path)?;
    }
    Ok(())
}

/// Refuses a change that only the first server's home may make, in the home of a further one: it
/// has no authority's key, and other keys than the first server's would part them.
pub(crate) fn refuse(home: &Home) -> Result<(), SetupError> {
    match settings(home)? {
        None => Ok(()),
        Some(settings) => Err(SetupError::ServerNode {
            path: home.root().to_owned(),
            first: settings.server.to_string(),
            addresses: settings.addresses,
        }),
    }
}

/// A file of PEM as text; `None` where there is none.
fn text_if_there(path: std::path::PathBuf) -> Result<Option<String>, SetupError> {
    match read_public(&path) {
        Ok(pem) => Ok(Some(String::from_utf8_lossy(&pem).into_owned())),
        Err(HomeError::FileMissing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The users as of this moment, as SQLite copies them while servers use the file.
fn copy_of(home: &Home) -> Result<Zeroizing<Vec<u8>>, SetupError> {
    const { assert!(USERS_DB_BYTES_MAX > FILE_BYTES_MAX as usize) };
    let users = home.users_db_checked()?;
    let random = u64::from_ne_bytes(random_bytes()?);
    // The form of the temporary files that the next holder of the lock removes.
    let copy = home.root().join(format!(".users.db.{random:016x}.tmp"));
    files::step();
    let copied = runtime()?.block_on(ipc_store::copy(&users, &copy));
    files::step();
    let read = copied.map_err(SetupError::from).and_then(|()| {
        let unreadable = |source| HomeError::Unreadable { path: copy.clone(), source };
        let bytes = std::fs::metadata(&copy).map_err(unreadable)?.len();
        if bytes > USERS_DB_BYTES_MAX as u64 {
            return Err(SetupError::TooManyUsers { bytes, bytes_max: USERS_DB_BYTES_MAX });
        }
        Ok(Zeroizing::new(std::fs::read(&copy).map_err(unreadable)?))
    });
    // Also what SQLite may have begun beside it.
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = copy.clone().into_os_string();
        name.push(suffix);
        files::remove(std::path::Path::new(&name))?;
    }
    read
}

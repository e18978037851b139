//! The layout of a home, and what is read from it.
//!
//! Server, client, setup and command line come here for paths, keys and certificates. Nothing is made anew here but
//! `admin.cred` and kept sessions; the database is only a path.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipc_envelope::{KeyRing, keys_from_text};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::contents::STAGED_SUFFIX;
use crate::file::{
    DIRECTORY_MODE, FILE_MODE, OTHERS, OTHERS_WRITE, read_public_as, read_secret_as, refuse_mode,
};
use crate::identity::{certificates_from_pem, is_encrypted_key, private_key_from_pem};
use crate::locate::absolute;
use crate::{Contents, Credentials, HomeError, Identity, PeerName, StagedFile, locate, modes, trust};

/// A home: the directory with everything that an installation owns. Cheap to clone.
///
/// [`open`](Self::open) checks it; every reading method reads the file again, so a change is seen by the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: Arc<Path>,
    access: Access,
}

impl Home {
    /// Opens a complete home.
    ///
    /// A home is complete once its `admin.cred` is there, the last file that making it writes.
    ///
    /// # Errors
    /// Those of [`check_directory`](Self::check_directory); [`HomeError::Missing`] for an empty directory too;
    /// [`HomeError::Incomplete`]; [`HomeError::ClientDirectory`], which [`open_client`](Self::open_client) opens;
    /// [`HomeError::BadPath`] for a path that is empty or not UTF-8.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Private)
    }

    /// As [`open`](Self::open), but others may be able to read the home, and its files may be symbolic links: a mounted secret
    /// of Kubernetes, with modes of 0755 and 0440, is one.
    ///
    /// What this weakens: every user and every process that the modes let read the files has the keys, and can send as
    /// `ipc-admin`, read what others seal, and, with the authority's key, issue certificates. That nobody but root and this
    /// user may write to them is asked for as ever.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn dangerously_open_readable(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Readable)
    }

    /// As [`open`](Self::open), or as [`dangerously_open_readable`](Self::dangerously_open_readable) where the environment
    /// variable [`READABLE_HOME_VARIABLE`](crate::READABLE_HOME_VARIABLE) is `1`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`HomeError::BadVariable`].
    pub fn open_as_configured(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::from_environment()?)
    }

    fn open_with(path: &Path, access: Access) -> Result<Self, HomeError> {
        let home = Self { access, ..Self::at(absolute(path)?) };
        let path = || home.root().to_owned();
        match home.look()? {
            (_, Contents::Nothing) => Err(HomeError::Missing { path: path() }),
            (metadata, contents) => {
                home.check_rights(&metadata, contents)?;
                match contents {
                    Contents::Complete => Ok(home),
                    Contents::Client => Err(HomeError::ClientDirectory { path: path() }),
                    _ => Err(HomeError::Incomplete { path: path() }),
                }
            }
        }
    }

    /// Opens a directory to send from: a complete home, or that of a client, which has been given `envelope.keys`, the
    /// authority's certificate and a certificate pair, and needs a user of its own. The variable that
    /// [`open_as_configured`](Self::open_as_configured) names counts here too.
    ///
    /// # Errors
    /// Those of [`check_directory`](Self::check_directory); [`HomeError::Missing`] for an empty directory too. What a client
    /// lacks is told when it is read.
    pub fn open_client(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        let home = Self { access: Access::from_environment()?, ..Self::at(absolute(path.as_ref())?) };
        match home.look()? {
            (_, Contents::Nothing) => Err(HomeError::Missing { path: home.root().to_owned() }),
            (metadata, contents) => {
                home.check_rights(&metadata, contents)?;
                Ok(home)
            }
        }
    }

    /// Opens the home that [`locate`] finds without a flag, as [`open_as_configured`](Self::open_as_configured) does.
    ///
    /// # Errors
    /// Those of [`locate`] and of [`open_as_configured`](Self::open_as_configured).
    pub fn open_default() -> Result<Self, HomeError> {
        Self::open_as_configured(locate(None)?)
    }

    /// The home at `path`, unseen: for those who make homes and look for themselves.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { root: path.as_ref().into(), access: Access::Private }
    }

    /// Checks that the home is a directory that is a home, complete or begun, or a client's, or empty; that nobody but root and
    /// this user can put another in its place or write to it; and that nobody else has a right on it or on a secret in it.
    ///
    /// # Errors
    /// [`HomeError::Missing`] and [`HomeError::BrokenLink`] if it is not there, [`HomeError::NotADirectory`],
    /// [`HomeError::NotAHome`] and [`HomeError::PythonTool`] if it is somebody else's by its contents,
    /// [`HomeError::ForeignOwner`] if it or a directory above it is by its owner, [`HomeError::WritableByOthers`] for a
    /// directory above it, [`HomeError::TooOpen`] and [`HomeError::AllTooOpen`] if group or others have a right on it or its
    /// files, [`HomeError::Unreadable`] if the system does not let us look.
    pub fn check_directory(&self) -> Result<(), HomeError> {
        match self.look() {
            Ok((metadata, contents)) => self.check_rights(&metadata, contents),
            // Where it would be made counts too.
            Err(error @ HomeError::Missing { .. }) => {
                trust::check_path(self.root())?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn check_rights(&self, metadata: &Metadata, contents: Contents) -> Result<(), HomeError> {
        let resolved = trust::check_path(self.root())?;
        match self.access {
            // What was brought along to make a home around it is closed then.
            Access::Private if matches!(contents, Contents::Nothing | Contents::OnlyUsers) => {
                refuse_mode(self.root(), metadata, OTHERS, DIRECTORY_MODE)
            }
            Access::Private => modes::refuse_open(self.root(), metadata),
            // The mount of a secret may let everybody write by its mode, and nobody by being read-only.
            Access::Readable if modes::is_read_only(&resolved) => Ok(()),
            Access::Readable => refuse_mode(self.root(), metadata, OTHERS_WRITE, 0o755),
        }
    }

    /// What the directory is, which is never somebody else's. Asked before its mode is looked at: what is not a home may be
    /// as open as its owner likes.
    fn look(&self) -> Result<(Metadata, Contents), HomeError> {
        let path = || self.root().to_owned();
        let metadata = std::fs::metadata(self.root()).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => match std::fs::read_link(self.root()) {
                Ok(target) => HomeError::BrokenLink { path: path(), target },
                Err(_) => HomeError::Missing { path: path() },
            },
            io::ErrorKind::NotADirectory => HomeError::NotADirectory { path: path() },
            _ => HomeError::Unreadable { path: path(), source },
        })?;
        if !metadata.is_dir() {
            return Err(HomeError::NotADirectory { path: path() });
        }
        let contents = self.contents().map_err(|error| match error {
            // Moved away between the two looks.
            HomeError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                HomeError::Missing { path: path() }
            }
            // Whose it is says more.
            error => trust::check_path(self.root()).err().unwrap_or(error),
        })?;
        match contents {
            Contents::Foreign => Err(HomeError::NotAHome { path: path() }),
            Contents::PythonTool => Err(HomeError::PythonTool { path: path() }),
            contents => Ok((metadata, contents)),
        }
    }

    /// Whether making this home came to its end.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the system does not let us look.
    pub fn is_complete(&self) -> Result<bool, HomeError> {
        let path = self.admin_cred_file();
        path.try_exists().map_err(|source| HomeError::Unreadable { path, source })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `users.db`: users and their password hashes.
    #[must_use]
    pub fn users_db(&self) -> PathBuf {
        self.root.join("users.db")
    }

    /// `users.db`, if it is there and closed to others, and so is what SQLite puts beside it.
    ///
    /// # Errors
    /// [`HomeError::FileMissing`]; [`HomeError::SymbolicLink`], [`HomeError::NotAFile`], [`HomeError::ForeignOwner`],
    /// [`HomeError::TooOpen`], [`HomeError::Unreadable`].
    pub fn users_db_checked(&self) -> Result<PathBuf, HomeError> {
        let path = self.users_db();
        if !self.check_database(&path)? {
            return Err(HomeError::FileMissing { path });
        }
        Ok(path)
    }

    /// `inbox.db`, if there is none or it is closed to others, and so is what lies beside it.
    ///
    /// # Errors
    /// As [`users_db_checked`](Self::users_db_checked), but that it may be missing.
    pub fn inbox_db_checked(&self) -> Result<PathBuf, HomeError> {
        let path = self.inbox_db();
        self.check_database(&path)?;
        Ok(path)
    }

    /// Whether the database is there. SQLite opens it by its path: in a directory that nobody else may write to, what is
    /// checked here is what it finds.
    fn check_database(&self, path: &Path) -> Result<bool, HomeError> {
        let mut is_there = true;
        for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let file = PathBuf::from(name);
            let looked = match self.access {
                Access::Private => std::fs::symlink_metadata(&file),
                Access::Readable => std::fs::metadata(trust::check_path(&file)?),
            };
            match looked {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(HomeError::SymbolicLink { path: file });
                }
                Ok(metadata) if !metadata.is_file() => return Err(HomeError::NotAFile { path: file }),
                Ok(metadata) => {
                    trust::refuse_foreign_owner(&file, &metadata)?;
                    let refused = if self.access == Access::Private { OTHERS } else { OTHERS_WRITE };
                    refuse_mode(&file, &metadata, refused, FILE_MODE)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    is_there = is_there && !suffix.is_empty();
                }
                Err(source) => return Err(HomeError::Unreadable { path: file, source }),
            }
        }
        Ok(is_there)
    }

    /// `envelope.keys`: the key ring that seals messages.
    #[must_use]
    pub fn envelope_keys_file(&self) -> PathBuf {
        self.root.join("envelope.keys")
    }

    /// `session.key`: the server's own key ring, which seals session tokens.
    #[must_use]
    pub fn session_key_file(&self) -> PathBuf {
        self.root.join("session.key")
    }

    /// `admin.cred`: the default admin's name and password; its presence marks a complete home.
    #[must_use]
    pub fn admin_cred_file(&self) -> PathBuf {
        self.root.join("admin.cred")
    }

    /// `web-ipc-ca.crt`: the certificate of the authority.
    #[must_use]
    pub fn ca_certificate_file(&self) -> PathBuf {
        self.root.join("web-ipc-ca.crt")
    }

    /// `web-ipc-ca.key`: the private key of the authority.
    #[must_use]
    pub fn ca_key_file(&self) -> PathBuf {
        self.root.join("web-ipc-ca.key")
    }

    /// `NAME.crt`: a peer's certificate.
    #[must_use]
    pub fn certificate_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!("{name}.crt"))
    }

    /// `NAME.key`: a peer's private key.
    #[must_use]
    pub fn key_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!("{name}.key"))
    }

    /// `.NAME.crt.new`: a certificate that waits to take the place of the old one; see [`identity`](Self::identity).
    #[must_use]
    pub fn staged_certificate_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!(".{name}.crt{STAGED_SUFFIX}"))
    }

    /// `.NAME.key.new`: a private key that waits to take the place of the old one.
    #[must_use]
    pub fn staged_key_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!(".{name}.key{STAGED_SUFFIX}"))
    }

    /// `inbox.db`: the durable inbox, where one is used.
    #[must_use]
    pub fn inbox_db(&self) -> PathBuf {
        self.root.join("inbox.db")
    }

    /// `sessions`: the directory of kept sessions.
    #[must_use]
    pub fn sessions_dir(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// `.lock`: held by whoever makes or changes this home.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// Reads the envelope key ring.
    ///
    /// # Errors
    /// [`HomeError::BadKeys`] and those of reading a secret: [`HomeError::FileMissing`], [`HomeError::TooOpen`],
    /// [`HomeError::TooLarge`], [`HomeError::NotAFile`], [`HomeError::Unreadable`].
    pub fn envelope_keys(&self) -> Result<KeyRing, HomeError> {
        let path = self.envelope_keys_file();
        key_ring(&self.secret(&path)?, path)
    }

    /// Reads the key ring that seals session tokens. Only a server needs it; a client's home has none.
    ///
    /// # Errors
    /// As [`envelope_keys`](Self::envelope_keys), which is read too, and [`HomeError::SessionKeyShared`] if a key is in both
    /// rings.
    pub fn session_keys(&self) -> Result<KeyRing, HomeError> {
        let (session, envelope) = (self.session_key_file(), self.envelope_keys_file());
        let text = self.secret(&session)?;
        let ring = key_ring(&text, session.clone())?;
        if have_a_key_in_common(&text, &self.secret(&envelope)?) {
            return Err(HomeError::SessionKeyShared { path: session });
        }
        Ok(ring)
    }

    fn secret(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
        read_secret_as(path, self.access)
    }

    fn public(&self, path: &Path) -> Result<Vec<u8>, HomeError> {
        read_public_as(path, self.access)
    }

    /// Reads the default admin's credentials and opens them with the envelope keys, however old they are.
    ///
    /// # Errors
    /// [`HomeError::BadCredentials`], and those of [`envelope_keys`](Self::envelope_keys), which is read too.
    pub fn admin_credentials(&self) -> Result<Credentials, HomeError> {
        let path = self.admin_cred_file();
        let sealed = self.secret(&path)?;
        let opened = self.envelope_keys()?.open_base64url(sealed.trim_ascii(), None);
        opened.ok().and_then(|json| Credentials::from_json(&json)).ok_or(HomeError::BadCredentials { path })
    }

    /// Seals the default admin's credentials with the envelope keys and writes `admin.cred`, which completes a home.
    ///
    /// `now_secs` is in seconds since the Unix epoch; `iv` must be random and new.
    ///
    /// # Errors
    /// Those of [`envelope_keys`](Self::envelope_keys), [`HomeError::Unwritable`], [`HomeError::NoRandomness`].
    pub fn write_admin_credentials(
        &self,
        credentials: &Credentials,
        now_secs: u64,
        iv: [u8; 16],
    ) -> Result<(), HomeError> {
        self.stage_admin_credentials(credentials, now_secs, iv)?.commit()
    }

    /// As [`write_admin_credentials`](Self::write_admin_credentials), but for the last step: `admin.cred` stays as it is until
    /// what is returned is committed.
    ///
    /// # Errors
    /// As [`write_admin_credentials`](Self::write_admin_credentials).
    pub fn stage_admin_credentials(
        &self,
        credentials: &Credentials,
        now_secs: u64,
        iv: [u8; 16],
    ) -> Result<StagedFile, HomeError> {
        let mut sealed = self.envelope_keys()?.seal_base64url(&credentials.to_json(), now_secs, iv);
        sealed.push('\n');
        StagedFile::write(&self.admin_cred_file(), sealed.as_bytes(), FILE_MODE)
    }

    /// Reads the certificate of the authority, and any others in the same file: all of them are trusted.
    ///
    /// # Errors
    /// [`HomeError::BadCertificate`], [`HomeError::FileMissing`], [`HomeError::TooLarge`], [`HomeError::NotAFile`],
    /// [`HomeError::Unreadable`].
    pub fn ca_certificates(&self) -> Result<Vec<CertificateDer<'static>>, HomeError> {
        let path = self.ca_certificate_file();
        certificates_from_pem(&self.public(&path)?).ok_or(HomeError::BadCertificate { path, name: None })
    }

    /// Reads the certificate pair of `name`, whatever the case of its letters.
    ///
    /// A pair is replaced in four steps: the new key is written as `.NAME.key.new`, the new certificate as `.NAME.crt.new`,
    /// then the key takes its place and at last the certificate. Never is one read with the other of another pair.
    ///
    /// # Errors
    /// [`HomeError::CertificateMissing`] if either file is gone, [`HomeError::PairUnfinished`] between the last two steps,
    /// [`HomeError::BadCertificate`], [`HomeError::BadPrivateKey`], [`HomeError::TooOpen`] for the key,
    /// [`HomeError::TooLarge`], [`HomeError::NotAFile`], [`HomeError::Unreadable`].
    pub fn identity(&self, name: &PeerName) -> Result<Identity, HomeError> {
        let name = &self.name_of_pair(name).unwrap_or_else(|_| name.clone());
        let (certificate, key) = self.read_pair(name)?;
        let chain = certificates_from_pem(&certificate).ok_or_else(|| HomeError::BadCertificate {
            path: self.certificate_file(name),
            name: Some(name.clone()),
        })?;
        let key = private_key_from_pem(&key).ok_or_else(|| {
            let (path, name) = (self.key_file(name), name.clone());
            match is_encrypted_key(&key) {
                true => HomeError::EncryptedPrivateKey { path, name },
                false => HomeError::BadPrivateKey { path, name },
            }
        })?;
        Ok(Identity { chain, key })
    }

    /// The name under which a pair of this name lies in the home. Names of hosts have no case (RFC 4343): a pair `Server1` is that
    /// of `server1` too. `name` itself, if there is none.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn name_of_pair(&self, name: &PeerName) -> Result<PeerName, HomeError> {
        let is_there = |name: &PeerName| {
            [self.certificate_file(name), self.key_file(name)]
                .iter()
                .any(|file| file.symlink_metadata().is_ok())
        };
        if is_there(name) {
            return Ok(name.clone());
        }
        let mut others: Vec<PeerName> = self
            .names()?
            .iter()
            .filter_map(|file| {
                let file = file.to_str()?;
                PeerName::parse(file.strip_suffix(".crt").or_else(|| file.strip_suffix(".key"))?).ok()
            })
            .filter(|other| other.as_str().eq_ignore_ascii_case(name.as_str()))
            .collect();
        others.sort();
        Ok(others.into_iter().next().unwrap_or_else(|| name.clone()))
    }

    fn read_pair(&self, name: &PeerName) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), HomeError> {
        let read_both =
            || Ok((self.public(&self.certificate_file(name))?, self.secret(&self.key_file(name))?));
        loop {
            let pair = read_both();
            let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
            if is_there(self.staged_certificate_file(name)) && !is_there(self.staged_key_file(name)) {
                return Err(HomeError::PairUnfinished { name: name.clone() });
            }
            let (certificate, key) = pair.map_err(|error| match error {
                HomeError::FileMissing { path } => HomeError::CertificateMissing { name: name.clone(), path },
                other => other,
            })?;
            // If the certificate is still the same, the key between was its own; else the pair has just been replaced.
            if self.public(&self.certificate_file(name)).is_ok_and(|again| again == certificate) {
                return Ok((certificate, key));
            }
        }
    }

    /// The names of the certificate pairs that are there in full, in alphabetical order. The authority is not one.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn peer_names(&self) -> Result<Vec<PeerName>, HomeError> {
        let unreadable = |source| HomeError::Unreadable { path: self.root().to_owned(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root()).map_err(unreadable)? {
            let file_name = entry.map_err(unreadable)?.file_name();
            let name = file_name.to_str().and_then(|name| name.strip_suffix(".crt")).map(PeerName::parse);
            if let Some(Ok(name)) = name
                && self.key_file(&name).is_file()
                && self.certificate_file(&name).is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

fn key_ring(bytes: &[u8], path: PathBuf) -> Result<KeyRing, HomeError> {
    KeyRing::from_text(text_of(bytes)).map_err(|source| HomeError::BadKeys { path, source })
}

/// What is not UTF-8 is no key either; an empty text makes the key ring say the same as a file without keys.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn have_a_key_in_common(one: &[u8], other: &[u8]) -> bool {
    let keys = |bytes| keys_from_text(text_of(bytes)).unwrap_or_default();
    let other: Vec<_> = keys(other).iter().map(ipc_envelope::Key::to_base64url).collect();
    keys(one).iter().any(|key| other.contains(&key.to_base64url()))
}

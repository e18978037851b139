//! Reads keys, certificates and credentials of a home, and writes `admin.cred`.
//!
//! Server, client and setup use it. For a database it only checks the files; the code that opens
//! the database knows SQL.

use std::io;
use std::path::{Path, PathBuf};

use ipc_base::PeerName;
use ipc_envelope::{Key, KeyRing, keys_from_text};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use crate::access::Access;
use crate::file::{read_public_as, read_secret_as, refuse_mode};
use crate::identity::{certificates_from_pem, is_encrypted_key, private_key_from_pem};
use crate::permissions::{FILE_MODE, OTHERS, OTHERS_WRITE};
use crate::{Credentials, Home, HomeError, Identity, StagedFile, trust};

impl Home {
    /// The path of `users.db`, if it exists and others have no access to it and to SQLite's files
    /// beside it.
    ///
    /// # Errors
    /// [`HomeError::UsersElsewhere`] if the home's users are in another database;
    /// [`HomeError::FileMissing`]; [`HomeError::SymbolicLink`], [`HomeError::NotAFile`],
    /// [`HomeError::ForeignOwner`], [`HomeError::TooOpen`], [`HomeError::Unreadable`].
    pub fn users_db_checked(&self) -> Result<PathBuf, HomeError> {
        if self.users_url()?.is_some() {
            return Err(HomeError::UsersElsewhere { path: self.root().to_owned() });
        }
        let path = self.users_db();
        if !self.check_database(&path)? {
            return Err(HomeError::FileMissing { path });
        }
        Ok(path)
    }

    /// The path of `inbox.db`, if it does not exist, or others have no access to it and to the
    /// files beside it.
    ///
    /// # Errors
    /// As [`users_db_checked`](Self::users_db_checked), except that the file may be missing.
    pub fn inbox_db_checked(&self) -> Result<PathBuf, HomeError> {
        let path = self.inbox_db();
        self.check_database(&path)?;
        Ok(path)
    }

    /// Whether the database exists. SQLite opens it by its path: since only this user may write to
    /// the directory, it opens the checked files.
    fn check_database(&self, path: &Path) -> Result<bool, HomeError> {
        let mut is_there = true;
        for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            let file = PathBuf::from(name);
            let looked = match self.access() {
                Access::Private => std::fs::symlink_metadata(&file),
                Access::Readable => std::fs::metadata(trust::check_path(&file)?),
            };
            match looked {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(HomeError::SymbolicLink { path: file });
                }
                Ok(metadata) if !metadata.is_file() => {
                    return Err(HomeError::NotAFile { path: file });
                }
                Ok(metadata) => {
                    trust::refuse_foreign_owner(&file, &metadata)?;
                    let refused =
                        if self.access() == Access::Private { OTHERS } else { OTHERS_WRITE };
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

    /// Reads the envelope key ring.
    ///
    /// [`HomeError::BadKeys`], [`HomeError::NotUtf8`], and the errors of reading a secret:
    /// [`HomeError::FileMissing`], [`HomeError::TooOpen`], [`HomeError::TooLarge`],
    /// [`HomeError::NotAFile`], [`HomeError::Unreadable`].
    pub fn envelope_keys(&self) -> Result<KeyRing, HomeError> {
        let path = self.envelope_keys_file();
        key_ring(&self.secret(&path)?, path)
    }

    /// Reads the envelope keys one by one, in the order of the ring: to derive a client's from
    /// them, or to list them.
    ///
    /// # Errors
    /// As [`envelope_keys`](Self::envelope_keys).
    pub fn envelope_keys_one_by_one(&self) -> Result<Vec<Key>, HomeError> {
        let path = self.envelope_keys_file();
        keys(&self.secret(&path)?, path)
    }

    /// Reads the key ring that seals session tokens. Only a server needs it; a client's home has
    /// none.
    ///
    /// # Errors
    /// As [`envelope_keys`](Self::envelope_keys), which is read too, and
    /// [`HomeError::SessionKeyShared`] if both rings have a key in common.
    pub fn session_keys(&self) -> Result<KeyRing, HomeError> {
        let (session, envelope) = (self.session_key_file(), self.envelope_keys_file());
        let text = self.secret(&session)?;
        let ring = key_ring(&text, session.clone())?;
        if have_a_key_in_common(&text, &self.secret(&envelope)?) {
            return Err(HomeError::SessionKeyShared { path: session });
        }
        Ok(ring)
    }

    /// Reads the keys of session tokens one by one, in the order of the ring, for a further server
    /// of the installation.
    ///
    /// # Errors
    /// As [`envelope_keys`](Self::envelope_keys).
    pub fn session_keys_one_by_one(&self) -> Result<Vec<Key>, HomeError> {
        let path = self.session_key_file();
        keys(&self.secret(&path)?, path)
    }

    fn secret(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
        read_secret_as(path, self.access())
    }

    fn public(&self, path: &Path) -> Result<Vec<u8>, HomeError> {
        read_public_as(path, self.access())
    }

    /// Reads the default admin's credentials and opens them with the envelope keys. They do not
    /// expire.
    ///
    /// # Errors
    /// [`HomeError::BadCredentials`], and the errors of [`envelope_keys`](Self::envelope_keys),
    /// which is read too.
    pub fn admin_credentials(&self) -> Result<Credentials, HomeError> {
        self.credentials_in(self.admin_cred_file())
    }

    /// Reads the credentials that an enrolled client was given, as
    /// [`admin_credentials`](Self::admin_credentials) reads the admin's.
    ///
    /// # Errors
    /// As [`admin_credentials`](Self::admin_credentials).
    pub fn client_credentials(&self) -> Result<Credentials, HomeError> {
        self.credentials_in(self.client_cred_file())
    }

    fn credentials_in(&self, path: PathBuf) -> Result<Credentials, HomeError> {
        let sealed = self.secret(&path)?;
        let opened = self.envelope_keys()?.open_base64url(sealed.trim_ascii(), None);
        opened
            .ok()
            .and_then(|json| Credentials::from_json(&json))
            .ok_or(HomeError::BadCredentials { path })
    }

    /// Seals the default admin's credentials with the envelope keys and writes `admin.cred`, which
    /// completes a home.
    ///
    /// `now_secs` is in seconds since the Unix epoch; `iv` must be random and new.
    ///
    /// # Errors
    /// The errors of [`envelope_keys`](Self::envelope_keys), [`HomeError::Unwritable`],
    /// [`HomeError::NoRandomness`].
    pub fn write_admin_credentials(
        &self,
        credentials: &Credentials,
        now_secs: u64,
        iv: [u8; 16],
    ) -> Result<(), HomeError> {
        self.stage_admin_credentials(credentials, now_secs, iv)?.commit()
    }

    /// As [`write_admin_credentials`](Self::write_admin_credentials), without the last step:
    /// `admin.cred` stays unchanged until the result is committed.
    ///
    /// # Errors
    /// As [`write_admin_credentials`](Self::write_admin_credentials).
    pub fn stage_admin_credentials(
        &self,
        credentials: &Credentials,
        now_secs: u64,
        iv: [u8; 16],
    ) -> Result<StagedFile, HomeError> {
        stage_credentials(
            &self.admin_cred_file(),
            &self.envelope_keys()?,
            credentials,
            now_secs,
            iv,
        )
    }

    /// Seals credentials with the first key of `keys`, which an enrolled client has or is about to
    /// have, for `client.cred`. That file stays as it is until what is returned is committed.
    ///
    /// `now_secs` is in seconds since the Unix epoch; `iv` must be random and new.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`], [`HomeError::NoRandomness`].
    pub fn stage_client_credentials(
        &self,
        keys: &KeyRing,
        credentials: &Credentials,
        now_secs: u64,
        iv: [u8; 16],
    ) -> Result<StagedFile, HomeError> {
        stage_credentials(&self.client_cred_file(), keys, credentials, now_secs, iv)
    }

    /// Reads the certificate of the authority, and any others in the same file: all of them are
    /// trusted.
    ///
    /// # Errors
    /// [`HomeError::BadCertificate`], [`HomeError::FileMissing`], [`HomeError::TooLarge`],
    /// [`HomeError::NotAFile`], [`HomeError::Unreadable`].
    pub fn ca_certificates(&self) -> Result<Vec<CertificateDer<'static>>, HomeError> {
        let path = self.ca_certificate_file();
        certificates_from_pem(&self.public(&path)?)
            .ok_or(HomeError::BadCertificate { path, name: None })
    }

    /// Reads the lists of revoked certificates, one for each authority; none where nothing was ever
    /// revoked.
    ///
    /// # Errors
    /// [`HomeError::BadRevocationList`], [`HomeError::TooLarge`], [`HomeError::NotAFile`],
    /// [`HomeError::Unreadable`].
    pub fn revocation_lists(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, HomeError> {
        let path = self.revocation_list_file();
        let Some(pem) = self.public_if_there(&path)? else { return Ok(Vec::new()) };
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        // A file without a list is one that was cut off: nothing would be revoked any more.
        lists.ok().filter(|lists| !lists.is_empty()).ok_or(HomeError::BadRevocationList { path })
    }

    /// Reads the certificates that a server sends behind its own while a rotation of the authority
    /// is under way; none at other times.
    ///
    /// # Errors
    /// As [`ca_certificates`](Self::ca_certificates), but that the file may be missing.
    pub fn cross_certificates(&self) -> Result<Vec<CertificateDer<'static>>, HomeError> {
        let path = self.cross_certificate_file();
        match self.public_if_there(&path)? {
            None => Ok(Vec::new()),
            Some(pem) => {
                certificates_from_pem(&pem).ok_or(HomeError::BadCertificate { path, name: None })
            }
        }
    }

    fn public_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
        match self.public(path) {
            Ok(content) => Ok(Some(content)),
            Err(HomeError::FileMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the certificate pair of `name`, whatever the case of its letters.
    ///
    /// A pair is replaced in four steps: the new key is written as `.NAME.key.new`, the new
    /// certificate as `.NAME.crt.new`, then the new key replaces the old one, and last the
    /// certificate. From the third step on the new pair is returned, also if the last one is never
    /// done. A certificate is never returned with the key of another pair.
    ///
    /// # Errors
    /// [`HomeError::CertificateMissing`] if either file is missing, [`HomeError::BadCertificate`],
    /// [`HomeError::BadPrivateKey`], [`HomeError::TooOpen`] for the key, [`HomeError::TooLarge`],
    /// [`HomeError::NotAFile`], [`HomeError::Unreadable`].
    pub fn identity(&self, name: &PeerName) -> Result<Identity, HomeError> {
        let name = &self.name_of_pair(name).unwrap_or_else(|_| name.clone());
        let (certificate, key) = self.read_pair(name)?;
        let chain =
            certificates_from_pem(&certificate).ok_or_else(|| HomeError::BadCertificate {
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

    /// The name under which the home stores this pair. Host names are case-insensitive (RFC 4343):
    /// a pair `Server1` is also that of `server1`. Returns `name` itself if there is no such pair.
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
                PeerName::parse(file.strip_suffix(".crt").or_else(|| file.strip_suffix(".key"))?)
                    .ok()
            })
            .filter(|other| other.as_str().eq_ignore_ascii_case(name.as_str()))
            .collect();
        others.sort();
        Ok(others.into_iter().next().unwrap_or_else(|| name.clone()))
    }

    fn read_pair(&self, name: &PeerName) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), HomeError> {
        let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
        // The new key is in place, and its certificate is still beside the old one.
        let is_half_replaced = || {
            is_there(self.staged_certificate_file(name)) && !is_there(self.staged_key_file(name))
        };
        loop {
            let half = is_half_replaced();
            let path = match half {
                true => self.staged_certificate_file(name),
                false => self.certificate_file(name),
            };
            let pair = self
                .public(&path)
                .and_then(|certificate| Ok((certificate, self.secret(&self.key_file(name))?)));
            // If nothing has changed, the key that was read in between belongs to the certificate.
            // Otherwise the pair is just being replaced.
            if is_half_replaced() != half {
                continue;
            }
            let (certificate, key) = pair.map_err(|error| match error {
                HomeError::FileMissing { path } => {
                    HomeError::CertificateMissing { name: name.clone(), path }
                }
                other => other,
            })?;
            if self.public(&path).is_ok_and(|again| again == certificate) {
                return Ok((certificate, key));
            }
        }
    }

    /// The names of the complete certificate pairs, in alphabetical order, without the authority.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn peer_names(&self) -> Result<Vec<PeerName>, HomeError> {
        let unreadable = |source| HomeError::Unreadable { path: self.root().to_owned(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root()).map_err(unreadable)? {
            let file_name = entry.map_err(unreadable)?.file_name();
            let name =
                file_name.to_str().and_then(|name| name.strip_suffix(".crt")).map(PeerName::parse);
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

fn stage_credentials(
    path: &Path,
    keys: &KeyRing,
    credentials: &Credentials,
    now_secs: u64,
    iv: [u8; 16],
) -> Result<StagedFile, HomeError> {
    let mut sealed = keys.seal_base64url(&credentials.to_json(), now_secs, iv);
    sealed.push('\n');
    StagedFile::write(path, sealed.as_bytes(), FILE_MODE)
}

fn key_ring(bytes: &[u8], path: PathBuf) -> Result<KeyRing, HomeError> {
    let keys = keys(bytes, path.clone())?;
    KeyRing::from_keys(keys).map_err(|source| HomeError::BadKeys { path, source })
}

fn keys(bytes: &[u8], path: PathBuf) -> Result<Vec<Key>, HomeError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        // A UTF-16 byte order mark, of either byte order, is never the beginning of UTF-8.
        let is_utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        return Err(HomeError::NotUtf8 { path, is_utf_16 });
    };
    keys_from_text(text).map_err(|source| HomeError::BadKeys { path, source })
}

fn have_a_key_in_common(one: &[u8], other: &[u8]) -> bool {
    let others: Vec<_> = keys_in(other).iter().map(Key::to_base64url).collect();
    keys_in(one).iter().any(|key| others.contains(&key.to_base64url()))
}

/// The keys in the text of a key file; none if the text is invalid.
fn keys_in(bytes: &[u8]) -> Vec<Key> {
    std::str::from_utf8(bytes).ok().and_then(|text| keys_from_text(text).ok()).unwrap_or_default()
}

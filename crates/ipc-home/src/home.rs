//! A home and the paths in it.
//!
//! All other files build on this one: `opening` checks a home, `listing` lists it, `reading` reads
//! it. This file accesses no path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::Access;
use crate::contents::{CONFIGURATION, STAGED_SUFFIX};
use ipc_base::PeerName;
use zeroize::Zeroizing;

/// A home: the directory with everything that an installation owns. A clone is cheap.
///
/// [`open`](Self::open) checks it. Every method that reads a file reads it again, so the next call
/// sees a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: Arc<Path>,
    access: Access,
    users_url: Option<UsersUrl>,
}

/// The URL of a database. It may have a password in it, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
struct UsersUrl(Arc<Zeroizing<String>>);

impl fmt::Debug for UsersUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsersUrl(…)")
    }
}

impl Home {
    /// The home at `path`, unchecked: for code that makes homes and checks them itself.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { root: path.as_ref().into(), access: Access::Private, users_url: None }
    }

    /// The home at `path`, unchecked, with this access for others.
    pub(crate) fn at_with(path: impl AsRef<Path>, access: Access) -> Self {
        Self { root: path.as_ref().into(), access, users_url: None }
    }

    /// The same home, whose users are in the database at `url`, whatever `users.url` says. `None`
    /// changes nothing.
    #[must_use]
    pub fn with_users_url(self, url: Option<&str>) -> Self {
        let mut home = self;
        if let Some(url) = url {
            home.users_url = Some(UsersUrl(Arc::new(Zeroizing::new(url.to_owned()))));
        }
        home
    }

    /// What [`with_users_url`](Self::with_users_url) was told.
    pub(crate) fn told_users_url(&self) -> Option<&Zeroizing<String>> {
        self.users_url.as_ref().map(|UsersUrl(url)| &**url)
    }

    /// Who may read the secrets besides the owner.
    pub(crate) fn access(&self) -> Access {
        self.access
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

    /// `users.url`: the URL of the database that the users are in, if it is not `users.db`. It may
    /// have a password in it.
    #[must_use]
    pub fn users_url_file(&self) -> PathBuf {
        self.root.join("users.url")
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

    /// `web-ipc-ca.old.key`: the private key of the authority that a rotation replaces, until it is
    /// dropped. It signs the list of what it issued and was revoked.
    #[must_use]
    pub fn old_ca_key_file(&self) -> PathBuf {
        self.root.join("web-ipc-ca.old.key")
    }

    /// `web-ipc-ca.cross.crt`: while a rotation is under way, the new authority's certificate
    /// signed by the old one (RFC 4210, section 4.4: "NewWithOld"). A server sends it behind its
    /// own.
    #[must_use]
    pub fn cross_certificate_file(&self) -> PathBuf {
        self.root.join("web-ipc-ca.cross.crt")
    }

    /// `web-ipc-ca.crl`: what each authority revoked (RFC 5280, section 5), as PEM.
    #[must_use]
    pub fn revocation_list_file(&self) -> PathBuf {
        self.root.join("web-ipc-ca.crl")
    }

    /// `issued`: the directory of certificates that were issued for others, one file for each
    /// serial number.
    #[must_use]
    pub fn issued_dir(&self) -> PathBuf {
        self.root.join("issued")
    }

    /// `enrolments`: the directory of enrolments, one file for each name.
    #[must_use]
    pub fn enrolments_dir(&self) -> PathBuf {
        self.root.join("enrolments")
    }

    /// `client.json`: in the home of an enrolled client, which server it talks to and as whom.
    #[must_use]
    pub fn client_settings_file(&self) -> PathBuf {
        self.root.join("client.json")
    }

    /// `client.cred`: in the home of an enrolled client or server, its user's name and password.
    #[must_use]
    pub fn client_cred_file(&self) -> PathBuf {
        self.root.join("client.cred")
    }

    /// `node.json`: in the home of a further server of an installation, which server it follows and
    /// as whom.
    #[must_use]
    pub fn node_settings_file(&self) -> PathBuf {
        self.root.join("node.json")
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

    /// `.NAME.crt.new`: a new certificate that will replace the old one; see
    /// [`identity`](Self::identity).
    #[must_use]
    pub fn staged_certificate_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!(".{name}.crt{STAGED_SUFFIX}"))
    }

    /// `.NAME.key.new`: a new private key that will replace the old one.
    #[must_use]
    pub fn staged_key_file(&self, name: &PeerName) -> PathBuf {
        self.root.join(format!(".{name}.key{STAGED_SUFFIX}"))
    }

    /// `inbox.db`: the durable inbox, if one is used.
    #[must_use]
    pub fn inbox_db(&self) -> PathBuf {
        self.root.join("inbox.db")
    }

    /// `sessions`: the directory of kept sessions.
    #[must_use]
    pub fn sessions_dir(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// `web-ipc.toml`: the configuration of the command line, if there is one. No library reads it.
    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.root.join(CONFIGURATION)
    }

    /// `.lock`: the lock file of processes that make or change this home.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.root.join(".lock")
    }
}

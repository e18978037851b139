//! Enrols clients on other hosts: makes a bundle in the server's home, and a client's home of it.
//!
//! The command line comes here. A bundle holds what one client needs and nothing that is another's:
//! no key of the authority, of the server or of another client, and of the envelope keys only those
//! derived for this name. Which changes are made in which order, so that a run that was killed is
//! completed by its repetition, stands at each function.

use std::path::{Path, PathBuf};

use ipc_envelope::KeyRing;
use ipc_home::{
    ADMIN_USERNAME, ClientSettings, Contents, Credentials, Home, HomeError, PeerName, locate,
};
use ipc_pki::{
    CertificateInfo, LEAF_VALIDITY_DAYS, LeafRequest, RevocationReason, SerialNumber, SubjectName,
    Usages, key_fits,
};
use ipc_store::{StoreError, Username};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::bundle::{self, Code, Cost};
use crate::bundle_error::{BUNDLE_TTL_SECS, BundleError};
use crate::certificates::{ListedCertificate, list_certificates};
use crate::enrolments::{Enrolment, EnrolmentState};
use crate::lock::Lock;
use crate::provision::{exists, load_authority};
use crate::random::{random_bytes, random_password};
use crate::revoke::revoke;
use crate::users::users;
use crate::{SetupError, directory, files, pair};

/// The layout of a bundle's content.
const VERSION: u32 = 1;

/// Who is to be enrolled. Made with [`EnrolRequest::new`], then changed field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolRequest<'a> {
    /// The client's peer name.
    pub name: &'a str,
    /// The user to make for it; the name itself unless changed.
    pub user: Option<&'a str>,
    /// The name in the server's certificate: a pair of this home. `localhost` unless changed.
    pub server: &'a str,
    /// Where the client reaches the server, `HOST:PORT` each, in the order in which they are tried.
    pub addresses: &'a [String],
    /// Days from `now_secs` until the certificate expires.
    pub validity_days: u32,
    /// The time, in seconds since the Unix epoch.
    pub now_secs: u64,
}

impl<'a> EnrolRequest<'a> {
    /// A client of this name that reaches the server at these addresses.
    #[must_use]
    pub fn new(name: &'a str, addresses: &'a [String], now_secs: u64) -> Self {
        Self {
            name,
            user: None,
            server: "localhost",
            addresses,
            validity_days: LEAF_VALIDITY_DAYS,
            now_secs,
        }
    }
}

/// A bundle that was made, and the code that opens it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Bundle {
    /// The bundle, as text.
    pub text: String,
    /// The code. It exists nowhere else, and travels by another way than the bundle.
    pub code: Code,
    /// What the home notes of it.
    pub enrolment: Enrolment,
    /// Whether it takes the place of an earlier bundle, which opens no door any more.
    pub replaced: bool,
}

/// What a client's home was made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {
    /// The client's home.
    pub home: Home,
    /// What it knows of its server.
    pub settings: ClientSettings,
}

/// What [`cancel_enrolment`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled {
    /// How many certificates were revoked by it.
    pub revoked: usize,
    /// Whether the user was there and was deleted.
    pub user_deleted: bool,
}

/// What is in a bundle. Its secrets are wiped when it is dropped.
#[derive(Serialize, Deserialize)]
pub(crate) struct Content {
    version: u32,
    kind: String,
    name: String,
    server: String,
    addresses: Vec<String>,
    authorities: String,
    certificate: String,
    key: String,
    envelope_keys: Vec<String>,
    username: String,
    password: String,
    created_at: u64,
    expires_at: u64,
}

/// Enrols a client: certifies a key for it, for clientAuth alone, makes its user, and seals both
/// into a bundle.
///
/// A name that was enrolled and has not accepted, or was cancelled, is enrolled anew: the earlier
/// certificate is revoked and the user gets another password, so that of several bundles only the
/// last is good. In this order: revoke, `issued/SERIAL.crt`, `enrolments/NAME.json`, the user, who
/// is bound to the name and logs in with this client's certificates only.
///
/// # Errors
/// [`SetupError::EnrolmentExists`] for a client that has accepted;
/// [`SetupError::EnrolmentNameTaken`] for the name of a pair of this home;
/// [`SetupError::NoAddress`]; [`SetupError::Store`] for a user who is there already;
/// [`HomeError::CertificateMissing`] if the server has no pair here; [`SetupError::Name`],
/// [`SetupError::Username`], [`SetupError::BadAuthority`], [`SetupError::Issue`]; and what is wrong
/// with the home.
pub fn create_enrolment(home: &Home, request: &EnrolRequest<'_>) -> Result<Bundle, SetupError> {
    let bad_name = |name: &str, source| SetupError::Name { name: name.to_owned(), source };
    let subject =
        SubjectName::parse(request.name).map_err(|source| bad_name(request.name, source))?;
    let name = subject.peer_name().clone();
    let server =
        SubjectName::parse(request.server).map_err(|source| bad_name(request.server, source))?;
    if request.addresses.is_empty() {
        return Err(SetupError::NoAddress);
    }
    let user = Username::parse(request.user.unwrap_or(name.as_str()))?;
    let mut leaf = LeafRequest::new(subject);
    leaf.usages = Usages::Client;
    leaf.validity_days = request.validity_days;

    let _lock = Lock::of_complete(home)?;
    let server = home.name_of_pair(server.peer_name())?;
    for path in [home.certificate_file(&server), home.key_file(&server)] {
        if !exists(&path)? {
            return Err(HomeError::CertificateMissing { name: server, path }.into());
        }
    }
    let pair_name = home.name_of_pair(&name)?;
    if exists(&home.certificate_file(&pair_name))? || exists(&home.key_file(&pair_name))? {
        return Err(SetupError::EnrolmentNameTaken { name });
    }
    let before = Enrolment::read(home, &name)?;
    if let Some(accepted) = before.iter().find(|one| one.state == EnrolmentState::Accepted) {
        return Err(SetupError::EnrolmentExists { name: accepted.name.clone() });
    }
    let users = users(home)?;
    let is_there = users.list()?.contains(&user);
    let is_ours =
        before.iter().any(|one| one.state == EnrolmentState::Pending && one.user == user.as_str());
    if user.as_str() == ADMIN_USERNAME || (is_there && !is_ours) {
        return Err(StoreError::Taken { username: user }.into());
    }
    let issued = load_authority(home)?
        .issue(&leaf, request.now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    let password = random_password()?;
    let expires_at_secs = request.now_secs + BUNDLE_TTL_SECS;
    let enrolment = Enrolment::new(
        &name,
        user.as_str(),
        issued.serial.to_string(),
        &server,
        request.addresses,
        (request.now_secs, expires_at_secs),
    );
    let content = Content {
        version: VERSION,
        kind: "client".to_owned(),
        name: name.to_string(),
        server: server.to_string(),
        addresses: request.addresses.to_vec(),
        authorities: text(&ipc_home::read_public(&home.ca_certificate_file())?),
        certificate: text(&issued.certificate_pem),
        key: text(issued.key_pem.as_bytes()),
        envelope_keys: home
            .envelope_keys_one_by_one()?
            .iter()
            .map(|key| key.derive_for(name.as_str()).to_base64url().to_string())
            .collect(),
        username: user.to_string(),
        password: password.to_string(),
        created_at: request.now_secs,
        expires_at: expires_at_secs,
    };
    // Everything that can fail for another reason than the disk comes before the first change.
    let code = Code::generate()?;
    let text = bundle::seal(&content.to_json(), &code, Cost::DEFAULT, request.now_secs)?;

    if let Some(before) = &before {
        let superseded = RevocationReason::Superseded;
        revoke_serial(home, &before.serial, superseded, request.now_secs)?;
        if before.state == EnrolmentState::Pending && before.user != user.as_str() {
            delete_user(&users, &before.user)?;
        }
    }
    keep_issued(home, &issued.serial, &issued.certificate_pem)?;
    enrolment.write(home)?;
    files::step();
    match is_there {
        true => users.change_password(user.as_str(), password)?,
        false => users.add(user.as_str(), password)?,
    }
    files::step();
    users.bind(user.as_str(), name.as_str())?;
    files::step();
    Ok(Bundle { text, code, enrolment, replaced: before.is_some() })
}

/// Files a certificate that was issued for somebody else, before it is handed out.
pub(crate) fn keep_issued(
    home: &Home,
    serial: &SerialNumber,
    certificate_pem: &[u8],
) -> Result<(), SetupError> {
    files::make_directory(&home.issued_dir())?;
    files::write(&home.issued_dir().join(format!("{serial}.crt")), certificate_pem)
}

/// Revokes the certificate with this serial number, where it is filed. Only for the holder of the
/// lock.
pub(crate) fn revoke_serial(
    home: &Home,
    serial: &str,
    reason: RevocationReason,
    now_secs: u64,
) -> Result<(), SetupError> {
    let list = list_certificates(home)?;
    let found: Vec<&ListedCertificate> =
        list.certificates.iter().filter(|one| one.serial.to_string() == serial).collect();
    revoke(home, &list, &found, reason, now_secs)
}

/// PEM is ASCII; a file of a home that holds anything else has it in comments.
fn text(pem: &[u8]) -> String {
    String::from_utf8_lossy(pem).into_owned()
}

fn delete_user(users: &crate::Users, user: &str) -> Result<bool, SetupError> {
    match users.delete(user) {
        Ok(()) => Ok(true),
        Err(SetupError::Store(StoreError::Unknown { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Undoes an enrolment: revokes every certificate that was issued for the name, deletes the user,
/// and notes it. In this order, so that a repetition completes what was cut short.
///
/// # Errors
/// [`SetupError::UnknownEnrolment`]; [`SetupError::Name`]; [`SetupError::Store`]; those of
/// [`revoke_certificates`](crate::revoke_certificates); and what is wrong with the home.
pub fn cancel_enrolment(home: &Home, name: &str, now_secs: u64) -> Result<Cancelled, SetupError> {
    let subject = SubjectName::parse(name)
        .map_err(|source| SetupError::Name { name: name.to_owned(), source })?;
    let name = subject.peer_name();
    let _lock = Lock::of_complete(home)?;
    let mut enrolment = Enrolment::read(home, name)?
        .ok_or_else(|| SetupError::UnknownEnrolment { name: name.to_string() })?;
    let list = list_certificates(home)?;
    let issued_dir = home.issued_dir();
    let issued: Vec<&ListedCertificate> = list
        .certificates
        .iter()
        .filter(|one| {
            one.file.starts_with(&issued_dir) && one.name.eq_ignore_ascii_case(name.as_str())
        })
        .collect();
    let revoked = issued.iter().filter(|one| one.revoked_at_secs.is_none()).count();
    revoke(home, &list, &issued, RevocationReason::CessationOfOperation, now_secs)?;
    let mut user_deleted = false;
    if enrolment.state != EnrolmentState::Cancelled {
        files::step();
        user_deleted = delete_user(&users(home)?, &enrolment.user)?;
        enrolment.state = EnrolmentState::Cancelled;
        enrolment.write(home)?;
    }
    Ok(Cancelled { revoked, user_deleted })
}

/// Makes a client's home at `path` of a bundle.
///
/// The directory must be empty, not there yet, or one in which an acceptance was cut short: that is
/// begun again, with this bundle. A file `.enrolling` tells such a directory; it is written first
/// and removed last.
///
/// # Errors
/// [`SetupError::Bundle`] says what is wrong with the bundle or the code, and nothing is made then;
/// [`SetupError::AlreadyEnrolled`] for a home of an enrolled client,
/// [`SetupError::NotForEnrolment`] for any other that is not empty; and what is wrong with the
/// directory.
pub fn accept_enrolment(
    path: &Path,
    bundle: &str,
    code: &Code,
    now_secs: u64,
) -> Result<Accepted, SetupError> {
    let home = Home::at(directory::without_link(locate(Some(path))?));
    refuse_others_home(&home)?;
    let bad = |source| SetupError::Bundle { source };
    let opened = bundle::open(bundle, code, now_secs).map_err(bad)?;
    let content = Content::from_json(&opened).map_err(bad)?;
    let checked = content.check(now_secs).map_err(bad)?;
    let _lock = loop {
        directory::make_or_check(&home)?;
        if let Some(lock) = Lock::acquire(&home)? {
            break lock;
        }
    };
    // Once more: with the lock nobody else changes it.
    refuse_others_home(&home)?;
    directory::clean(&home)?;
    pair::recover(&home)?;
    let marker = marker(&home);
    files::write(&marker, b"")?;
    // An earlier bundle may have been for another name.
    for other in home.peer_names()?.iter().filter(|other| **other != checked.name) {
        files::remove(&home.key_file(other))?;
        files::remove(&home.certificate_file(other))?;
    }
    let mut keys = Zeroizing::new(String::with_capacity(content.envelope_keys.len() * 64));
    for key in &content.envelope_keys {
        keys.push_str(key);
        keys.push('\n');
    }
    files::write(&home.envelope_keys_file(), keys.as_bytes())?;
    files::write(&home.ca_certificate_file(), content.authorities.as_bytes())?;
    pair::write_pem(&home, &checked.name, content.certificate.as_bytes(), content.key.as_bytes())?;
    files::make_directory(&home.sessions_dir())?;
    let credentials = Credentials {
        username: content.username.clone(),
        password: Zeroizing::new(content.password.clone()),
    };
    let iv = random_bytes()?;
    files::commit(home.stage_client_credentials(&checked.ring, &credentials, now_secs, iv)?)?;
    let settings = ClientSettings {
        server: checked.server,
        addresses: content.addresses.clone(),
        identity: checked.name,
        username: content.username.clone(),
    };
    files::step();
    home.write_client_settings(&settings)?;
    files::remove(&marker)?;
    Ok(Accepted { home, settings })
}

/// `.enrolling`, which tells the directory of an acceptance that was cut short.
fn marker(home: &Home) -> PathBuf {
    home.root().join(".enrolling")
}

/// Refuses a directory that is anything but empty or that of an acceptance that was cut short.
fn refuse_others_home(home: &Home) -> Result<(), SetupError> {
    match home.contents() {
        Err(HomeError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(Contents::Nothing) => Ok(()),
        Ok(Contents::Client) if exists(&marker(home))? => Ok(()),
        Ok(contents) => Err(match (contents, home.client_settings()) {
            (Contents::Client, Ok(Some(settings))) => SetupError::AlreadyEnrolled {
                path: home.root().to_owned(),
                name: settings.identity,
            },
            _ => SetupError::NotForEnrolment { path: home.root().to_owned() },
        }),
    }
}

/// What of a bundle's content was parsed.
struct Checked {
    name: PeerName,
    server: PeerName,
    ring: KeyRing,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.key.zeroize();
        self.password.zeroize();
        self.envelope_keys.zeroize();
    }
}

impl Content {
    fn to_json(&self) -> Zeroizing<Vec<u8>> {
        // Room for everything at once: a vector that grows would leave copies of secrets behind.
        let mut json = Zeroizing::new(Vec::with_capacity(bundle::BUNDLE_BYTES_MAX));
        serde_json::to_writer(&mut *json, self).expect("strings and numbers always serialise");
        json
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        let content: Self = serde_json::from_slice(json).map_err(|_| BundleError::Unsupported)?;
        match (content.version, content.kind.as_str()) {
            (VERSION, "client") => Ok(content),
            _ => Err(BundleError::Unsupported),
        }
    }

    /// The names of client and server, where all of the content is as it should be.
    pub(crate) fn checked_names(&self, now_secs: u64) -> Result<(PeerName, PeerName), BundleError> {
        self.check(now_secs).map(|checked| (checked.name, checked.server))
    }

    /// Where the server is, and whom the client logs in as.
    pub(crate) fn addresses_and_username(&self) -> (&[String], &str) {
        (&self.addresses, &self.username)
    }

    /// Whoever made the bundle had the code; what is wrong in it is another version's doing.
    fn check(&self, now_secs: u64) -> Result<Checked, BundleError> {
        let unsupported = BundleError::Unsupported;
        if now_secs > self.expires_at {
            return Err(BundleError::Expired);
        }
        let name = PeerName::parse(&self.name).map_err(|_| unsupported.clone())?;
        let server = PeerName::parse(&self.server).map_err(|_| unsupported.clone())?;
        let certificate = CertificateInfo::from_pem(self.certificate.as_bytes());
        let is_its = certificate.is_ok_and(|info| info.subject.as_deref() == Some(name.as_str()))
            && key_fits(self.certificate.as_bytes(), self.key.as_bytes())
            && CertificateInfo::all_from_pem(self.authorities.as_bytes())
                .is_ok_and(|authorities| authorities.iter().all(|one| one.is_ca));
        let keys = Zeroizing::new(self.envelope_keys.join("\n"));
        match KeyRing::from_text(&keys) {
            Ok(ring) if is_its && !self.addresses.is_empty() => Ok(Checked { name, server, ring }),
            _ => Err(unsupported),
        }
    }
}

#[cfg(test)]
mod tests;

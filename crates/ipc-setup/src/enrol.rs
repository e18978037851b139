//! Enrols clients on other hosts, and further servers: makes a bundle in the server's home, and
//! another home of it.
//!
//! The command line comes here. A bundle holds what one client needs and nothing that is another's:
//! no key of the authority, of the server or of another client, and of the envelope keys only those
//! derived for this name. That of a server has the keys that servers share, and a copy of the users
//! or the URL of the database that they are in (`node`), and no key of the authority either. Which
//! changes are made in which order, so that a run that was killed is completed by its repetition,
//! stands at each function.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipc_envelope::KeyRing;
use ipc_home::{
    ADMIN_USERNAME, ClientSettings, Contents, Credentials, Home, HomeError, PeerName, locate,
};
use ipc_pki::{
    CertificateInfo, LEAF_VALIDITY_DAYS, LeafRequest, RevocationReason, SubjectAltName,
    SubjectName, Usages, key_fits,
};
use ipc_store::{StoreError, Username};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::bundle;
use crate::bundle_error::{BUNDLE_TTL_SECS, BundleError};
use crate::certificates::{ListedCertificate, list_certificates};
use crate::code::{Code, Cost};
use crate::enrolments::{Enrolment, EnrolmentKind, EnrolmentState};
use crate::lock::Lock;
use crate::node::NodeContent;
use crate::provision::{exists, load_authority};
use crate::random::{random_bytes, random_password};
use crate::revoke::revoke;
use crate::users::users;
use crate::{SetupError, directory, files, issued, node, pair};

/// More than a client's content takes as JSON: two or three certificates, a key and 16 others.
const CLIENT_JSON_BYTES: usize = 192 * 1024;

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
    /// What is enrolled; a client unless changed.
    pub kind: EnrolmentKind,
    /// The DNS names and IP addresses that clients connect to, of a server; besides its name and
    /// those of the first server.
    pub alt_names: &'a [String],
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
            kind: EnrolmentKind::Client,
            alt_names: &[],
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

/// What a home was made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {
    /// The home of the client or server.
    pub home: Home,
    /// What it knows of its server, or of the server that it follows.
    pub settings: ClientSettings,
    /// Whether it is that of a client or of a further server.
    pub kind: EnrolmentKind,
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
    kind: EnrolmentKind,
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
    /// What only a server gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeContent>,
}

/// Enrols a client: certifies a key for it, for clientAuth alone, makes its user, and seals both
/// into a bundle.
///
/// A name that was enrolled and has not accepted, or was cancelled, is enrolled anew: the earlier
/// certificate is revoked and the user gets another password, so that of several bundles only the
/// last is good. In this order: revoke, `issued/SERIAL.crt`, `enrolments/NAME.json`, the user, who
/// is bound to the name and logs in with this client's certificates only.
///
/// A further server is enrolled in the same way. Its certificate is for serverAuth and clientAuth,
/// and for the names of the first server too, since clients verify one name at every address. Its
/// user is whom it follows the first server as. The copy of the users is that of this moment, and
/// does not have that user. Where the home's users are in another database, there is no copy: the
/// bundle has its URL, with the password if it has one.
///
/// # Errors [`SetupError::EnrolmentExists`] for a client that has accepted;
/// [`SetupError::EnrolmentNameTaken`] for the name of a pair of this home;
/// [`SetupError::NoAddress`]; [`SetupError::TooManyUsers`]; [`SetupError::EnrolmentUserTaken`] for
/// a user who is there already; [`HomeError::CertificateMissing`] if the server has no pair here;
/// [`SetupError::Name`], [`SetupError::Username`], [`SetupError::BadAuthority`],
/// [`SetupError::Issue`]; and what is wrong with the home.
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
    leaf.validity_days = request.validity_days;
    let is_server = request.kind == EnrolmentKind::Server;
    match is_server {
        // Unless other names are given, that is all: see `alt_names_of_first`.
        true => leaf.alt_names.push(alt_name(request.name)?),
        false => leaf.usages = Usages::Client,
    }
    for name in request.alt_names.iter().filter(|_| is_server) {
        leaf.alt_names.push(alt_name(name)?);
    }

    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
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
        return Err(SetupError::EnrolmentUserTaken { user: user.to_string() });
    }
    if is_server {
        let of_first = alt_names_of_first(home, &server)?;
        for name in of_first.into_iter().chain([alt_name(server.as_str())?]) {
            if !leaf.alt_names.contains(&name) {
                leaf.alt_names.push(name);
            }
        }
    }
    let issued = load_authority(home)?
        .issue(&leaf, request.now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    let password = random_password()?;
    let expires_at_secs = request.now_secs + BUNDLE_TTL_SECS;
    let mut enrolment = Enrolment::new(
        &name,
        user.as_str(),
        issued.serial.to_string(),
        &server,
        request.addresses,
        (request.now_secs, expires_at_secs),
    );
    enrolment.kind = request.kind;
    let keys = home.envelope_keys_one_by_one()?;
    let keys = keys.iter().map(|key| match is_server {
        true => key.to_base64url().to_string(),
        false => key.derive_for(name.as_str()).to_base64url().to_string(),
    });
    let content = Content {
        version: VERSION,
        kind: request.kind,
        name: name.to_string(),
        server: server.to_string(),
        addresses: request.addresses.to_vec(),
        authorities: text(&ipc_home::read_public(&home.ca_certificate_file())?),
        certificate: text(&issued.certificate_pem),
        key: text(issued.key_pem.as_bytes()),
        envelope_keys: keys.collect(),
        username: user.to_string(),
        password: password.to_string(),
        created_at: request.now_secs,
        expires_at: expires_at_secs,
        node: match is_server {
            true => Some(NodeContent::of(home)?),
            false => None,
        },
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
    issued::keep(home, &issued.serial, &issued.certificate_pem, request.now_secs)?;
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

fn alt_name(name: &str) -> Result<SubjectAltName, SetupError> {
    SubjectAltName::parse(name).map_err(|source| SetupError::Name { name: name.to_owned(), source })
}

/// The names of the first server that another one answers to as well: all DNS names, since clients
/// verify one of them at every address, and the addresses of loopback, which every host has. Its
/// other addresses are those of its host.
fn alt_names_of_first(home: &Home, server: &PeerName) -> Result<Vec<SubjectAltName>, SetupError> {
    let pem = ipc_home::read_public(&home.certificate_file(server))?;
    let names = CertificateInfo::from_pem(&pem).map(|info| info.alt_names).unwrap_or_default();
    let is_shared =
        |name: &&String| name.parse::<IpAddr>().map_or(true, |address| address.is_loopback());
    Ok(names.iter().filter(is_shared).filter_map(|name| SubjectAltName::parse(name).ok()).collect())
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
    node::refuse(home)?;
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

/// Makes the home of a client, or of a further server, at `path` of a bundle.
///
/// The directory must be empty, not there yet, or one in which an acceptance was cut short: that is
/// begun again, with this bundle. A file `.enrolling` tells such a directory; it is written first
/// and removed last. A server's home is complete with its `admin.cred`, the last file before that.
/// A home that has the certificate of this very bundle still is accepted again, and not changed:
/// what is left to do is to replace the key that travelled.
///
/// # Errors
/// [`SetupError::Bundle`] says what is wrong with the bundle or the code, and nothing is made then;
/// [`SetupError::AlreadyEnrolled`] for a home of an enrolled client or server,
/// [`SetupError::NotForEnrolment`] for any other that is not empty; and what is wrong with the
/// directory.
pub fn accept_enrolment(
    path: &Path,
    bundle: &str,
    code: &Code,
    now_secs: u64,
) -> Result<Accepted, SetupError> {
    let home = Home::at(directory::without_link(locate(Some(path))?));
    refuse_others_home(&home, None)?;
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
    if let Some(accepted) = refuse_others_home(&home, Some(&content))? {
        files::remove(&marker(&home))?;
        return Ok(accepted);
    }
    directory::clean(&home)?;
    pair::recover(&home)?;
    let marker = marker(&home);
    files::write(&marker, b"")?;
    // An earlier bundle may have been of another kind, or for another name.
    match content.kind {
        EnrolmentKind::Server => files::remove(&home.client_settings_file())?,
        EnrolmentKind::Client => node::remove(&home)?,
    }
    for other in home.peer_names()?.iter().filter(|other| **other != checked.name) {
        files::remove(&home.key_file(other))?;
        files::remove(&home.certificate_file(other))?;
    }
    files::write(&home.envelope_keys_file(), node::lines(&content.envelope_keys).as_bytes())?;
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
    match &content.node {
        None => home.write_client_settings(&settings)?,
        Some(node) => {
            home.write_node_settings(&settings)?;
            node.unpack(&home)?;
            node.complete(&home, now_secs)?;
        }
    }
    files::remove(&marker)?;
    Ok(Accepted { home, settings, kind: content.kind })
}

/// `.enrolling`, which tells the directory of an acceptance that was cut short.
fn marker(home: &Home) -> PathBuf {
    home.root().join(".enrolling")
}

/// Refuses a directory that is anything but empty or that of an acceptance that was cut short.
///
/// A complete home with the certificate of this bundle is what its acceptance made. It is returned,
/// and is not touched again: a server may run on it.
fn refuse_others_home(
    home: &Home,
    content: Option<&Content>,
) -> Result<Option<Accepted>, SetupError> {
    let contents = match home.contents() {
        Err(HomeError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        contents => contents?,
    };
    let is_begun = exists(&marker(home))?;
    let settings = match contents {
        Contents::Nothing => return Ok(None),
        Contents::Client if is_begun => return Ok(None),
        Contents::Client => home.client_settings(),
        Contents::Complete => home.node_settings(),
        _ => Ok(None),
    };
    let path = home.root().to_owned();
    let Ok(Some(settings)) = settings else { return Err(SetupError::NotForEnrolment { path }) };
    let is_of = |content: &Content| {
        let certificate = ipc_home::read_public(&home.certificate_file(&settings.identity));
        certificate.is_ok_and(|pem| pem == content.certificate.as_bytes())
    };
    match content {
        // Whether it is of this bundle is known once the bundle is open.
        None => Ok(None),
        Some(content) if is_of(content) => {
            Ok(Some(Accepted { home: home.clone(), settings, kind: content.kind }))
        }
        Some(_) => Err(SetupError::AlreadyEnrolled { path, name: settings.identity }),
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
        let of_a_server = self.node.as_ref().map_or(0, NodeContent::json_bytes);
        let mut json = Zeroizing::new(Vec::with_capacity(CLIENT_JSON_BYTES + of_a_server));
        serde_json::to_writer(&mut *json, self).expect("strings and numbers always serialise");
        json
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        let content: Self = serde_json::from_slice(json).map_err(|_| BundleError::Unsupported)?;
        let has_its_part = content.node.is_some() == (content.kind == EnrolmentKind::Server);
        match content.version == VERSION && has_its_part {
            true => Ok(content),
            false => Err(BundleError::Unsupported),
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
        if let Some(node) = &self.node {
            node.check(&self.envelope_keys)?;
        }
        let keys = Zeroizing::new(self.envelope_keys.join("\n"));
        match KeyRing::from_text(&keys) {
            Ok(ring) if is_its && !self.addresses.is_empty() => Ok(Checked { name, server, ring }),
            _ => Err(unsupported),
        }
    }
}

#[cfg(test)]
mod tests;

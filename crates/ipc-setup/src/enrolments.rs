//! What a home notes of each enrolment: `enrolments/NAME.json`.
//!
//! Enrolling, cancelling and renewing come here. Names of peers have no case, so the file has the
//! name in lower case. Nothing in it is secret.

use std::fmt;
use std::path::PathBuf;

use ipc_home::{Home, HomeError, PeerName, read_public};
use serde::{Deserialize, Serialize};

use crate::{SetupError, files};

const VERSION: u32 = 1;

/// How far an enrolment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EnrolmentState {
    /// The bundle was made; its certificate has not been renewed yet.
    Pending,
    /// The client has replaced the key that travelled in the bundle by one of its own.
    Accepted,
    /// The certificates are revoked and the user is deleted.
    Cancelled,
}

impl fmt::Display for EnrolmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Cancelled => "cancelled",
        })
    }
}

/// One enrolment of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Enrolment {
    version: u32,
    /// The peer name of the client or server.
    pub name: String,
    /// The user whom it logs in as.
    pub user: String,
    /// What it is enrolled as.
    pub kind: EnrolmentKind,
    /// The serial number of the certificate in the bundle, in hexadecimal digits.
    pub serial: String,
    /// When the bundle was made, in seconds since the Unix epoch.
    #[serde(rename = "created_at")]
    pub created_at_secs: u64,
    /// The last second in which the bundle can be accepted, in seconds since the Unix epoch.
    #[serde(rename = "expires_at")]
    pub expires_at_secs: u64,
    /// How far it has come.
    pub state: EnrolmentState,
    /// Where the client reaches the server, `HOST:PORT` each.
    pub addresses: Vec<String>,
    /// The name in the server's certificate.
    pub server: String,
    /// SHA-256 of the first public key that the bundle's certificate was renewed for.
    pub(crate) accepted_key: Option<String>,
}

/// What is enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EnrolmentKind {
    /// A client on another host.
    #[default]
    Client,
    /// A further server of the same installation: it gets every key that servers share, and a copy
    /// of the users.
    Server,
}

impl Enrolment {
    /// A new one, pending, of a client.
    pub(crate) fn new(
        name: &PeerName,
        user: &str,
        serial: String,
        server: &PeerName,
        addresses: &[String],
        (created_at_secs, expires_at_secs): (u64, u64),
    ) -> Self {
        Self {
            version: VERSION,
            name: name.to_string(),
            user: user.to_owned(),
            kind: EnrolmentKind::Client,
            serial,
            created_at_secs,
            expires_at_secs,
            state: EnrolmentState::Pending,
            addresses: addresses.to_vec(),
            server: server.to_string(),
            accepted_key: None,
        }
    }

    /// Reads the enrolment of a name, if there is one.
    pub(crate) fn read(home: &Home, name: &PeerName) -> Result<Option<Self>, SetupError> {
        let path = file(home, name.as_str());
        match read_public(&path) {
            Ok(json) => Self::from_json(&json).map(Some).ok_or(SetupError::BadEnrolment { path }),
            Err(HomeError::FileMissing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the enrolment of a name that may have certificates: one that is pending or accepted.
    pub(crate) fn read_current(home: &Home, name: &PeerName) -> Result<Option<Self>, SetupError> {
        let enrolment = Self::read(home, name)?;
        Ok(enrolment.filter(|one| one.state != EnrolmentState::Cancelled))
    }

    fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|one: &Self| one.version == VERSION)
    }

    /// Writes it, in place of the one of that name. Only for the holder of the lock.
    pub(crate) fn write(&self, home: &Home) -> Result<(), SetupError> {
        files::make_directory(&home.enrolments_dir())?;
        let mut json =
            serde_json::to_vec_pretty(self).expect("strings and numbers always serialise");
        json.push(b'\n');
        files::write(&file(home, &self.name), &json)
    }
}

fn file(home: &Home, name: &str) -> PathBuf {
    home.enrolments_dir().join(format!("{}.json", name.to_ascii_lowercase()))
}

/// The enrolments of a home, by name.
///
/// # Errors
/// [`SetupError::BadEnrolment`] for one that cannot be read; [`HomeError::Unreadable`] and its
/// like.
pub fn list_enrolments(home: &Home) -> Result<Vec<Enrolment>, SetupError> {
    let directory = home.enrolments_dir();
    let unreadable = |source| HomeError::Unreadable { path: directory.clone(), source };
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut enrolments = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !is_hidden && path.extension().is_some_and(|extension| extension == "json") {
            let one = Enrolment::from_json(&read_public(&path)?);
            enrolments.push(one.ok_or(SetupError::BadEnrolment { path })?);
        }
    }
    enrolments.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(enrolments)
}

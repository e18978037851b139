//! What an enrolled client knows of its server: `client.json` in its home. A further server of an
//! installation knows the same of the server that it follows: `node.json`.
//!
//! Enrolment and renewal write them (`ipc-setup`); a client that is told no server reads
//! `client.json`. They hold no secret: the password is in `client.cred`.

use std::path::PathBuf;

use ipc_base::PeerName;
use serde::{Deserialize, Serialize};

use crate::file::{read_public_as, write_file_atomically};
use crate::{Home, HomeError};

/// The layout that this version writes and reads.
const VERSION: u32 = 1;

/// Which server a client talks to, or a further server follows, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The name that the server's certificate is for.
    pub server: PeerName,
    /// Where the server is reached, `HOST:PORT` each, in the order in which they are tried.
    pub addresses: Vec<String>,
    /// The name of the client's own certificate pair.
    pub identity: PeerName,
    /// The user who logs in.
    pub username: String,
}

/// What a home was enrolled as, with what it knows of the server that enrolled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// The home of a further server of an installation: `node.json`.
    Server(ClientSettings),
    /// The home of a client: `client.json`.
    Client(ClientSettings),
}

impl Enrolled {
    /// What is known of the server that enrolled it.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        let (Self::Server(settings) | Self::Client(settings)) = self;
        settings
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    server: String,
    addresses: Vec<String>,
    identity: String,
    username: String,
}

impl ClientSettings {
    fn from_json(json: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(json).ok()?;
        (stored.version == VERSION && !stored.addresses.is_empty()).then_some(())?;
        Some(Self {
            server: PeerName::parse(&stored.server).ok()?,
            addresses: stored.addresses,
            identity: PeerName::parse(&stored.identity).ok()?,
            username: stored.username,
        })
    }

    fn to_json(&self) -> Vec<u8> {
        let stored = Stored {
            version: VERSION,
            server: self.server.to_string(),
            addresses: self.addresses.clone(),
            identity: self.identity.to_string(),
            username: self.username.clone(),
        };
        let mut json =
            serde_json::to_vec_pretty(&stored).expect("strings and a number always serialise");
        json.push(b'\n');
        json
    }
}

impl Home {
    /// Reads `client.json`; `None` in a home that was not enrolled.
    ///
    /// # Errors
    /// [`HomeError::BadClientSettings`], [`HomeError::TooLarge`], [`HomeError::NotAFile`],
    /// [`HomeError::Unreadable`].
    pub fn client_settings(&self) -> Result<Option<ClientSettings>, HomeError> {
        self.settings_in(self.client_settings_file())
    }

    /// Reads `node.json`; `None` in any home but that of a further server of an installation.
    ///
    /// # Errors
    /// As [`client_settings`](Self::client_settings).
    pub fn node_settings(&self) -> Result<Option<ClientSettings>, HomeError> {
        self.settings_in(self.node_settings_file())
    }

    /// Reads `node.json`, or `client.json` in a home without it; `None` in a home that was not
    /// enrolled.
    ///
    /// # Errors
    /// As [`client_settings`](Self::client_settings).
    pub fn enrolled(&self) -> Result<Option<Enrolled>, HomeError> {
        match self.node_settings()? {
            Some(node) => Ok(Some(Enrolled::Server(node))),
            None => Ok(self.client_settings()?.map(Enrolled::Client)),
        }
    }

    fn settings_in(&self, path: PathBuf) -> Result<Option<ClientSettings>, HomeError> {
        match read_public_as(&path, self.access()) {
            Ok(json) => ClientSettings::from_json(&json)
                .map(Some)
                .ok_or(HomeError::BadClientSettings { path }),
            Err(HomeError::FileMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes `client.json`.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`], [`HomeError::NoRandomness`].
    pub fn write_client_settings(&self, settings: &ClientSettings) -> Result<(), HomeError> {
        write_file_atomically(&self.client_settings_file(), &settings.to_json(), crate::FILE_MODE)
    }

    /// Writes `node.json`.
    ///
    /// # Errors
    /// As [`write_client_settings`](Self::write_client_settings).
    pub fn write_node_settings(&self, settings: &ClientSettings) -> Result<(), HomeError> {
        write_file_atomically(&self.node_settings_file(), &settings.to_json(), crate::FILE_MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ClientSettings {
        ClientSettings {
            server: PeerName::parse("localhost").unwrap(),
            addresses: vec!["192.0.2.1:3000".into(), "[::1]:3000".into()],
            identity: PeerName::parse("worker1").unwrap(),
            username: "müller".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_a_home_without_it_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        assert_eq!(home.client_settings().unwrap(), None);
        assert_eq!(home.enrolled().unwrap(), None);
        home.write_client_settings(&settings()).unwrap();
        assert_eq!(home.client_settings().unwrap(), Some(settings()));
        assert_eq!(home.enrolled().unwrap(), Some(Enrolled::Client(settings())));
        // That of a server is another file, and comes first.
        assert_eq!(home.node_settings().unwrap(), None);
        let node = ClientSettings { username: "node".into(), ..settings() };
        home.write_node_settings(&node).unwrap();
        assert_eq!(home.node_settings().unwrap().as_ref(), Some(&node));
        assert_eq!(home.enrolled().unwrap().unwrap().settings(), &node);
        assert_eq!(home.enrolled().unwrap(), Some(Enrolled::Server(node)));
    }

    #[test]
    fn anything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let good = String::from_utf8(settings().to_json()).unwrap();
        for (old, new) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"worker1\"", "\"../worker1\""),
            ("\"localhost\"", "\"\""),
            ("\"username\"", "\"user\""),
            ("{", "{\"more\": 1,"),
            ("}", ""),
        ] {
            let bad = good.replacen(old, new, 1);
            assert_ne!(bad, good);
            std::fs::write(home.client_settings_file(), &bad).unwrap();
            let error = home.client_settings().unwrap_err();
            assert!(matches!(error, HomeError::BadClientSettings { .. }), "{bad}: {error:?}");
        }
        let none = ClientSettings { addresses: Vec::new(), ..settings() };
        home.write_client_settings(&none).unwrap();
        assert!(home.client_settings().is_err(), "without an address there is nothing to send to");
    }
}

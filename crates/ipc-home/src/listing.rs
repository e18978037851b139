//! What is in a home: whether it is complete, what it is, and which temporary files are left.
//!
//! Opening a home checks this before it checks modes: so no remedy asks the user to change a
//! foreign directory. `ipc-setup` checks it before it writes anything. No file is opened here.

use std::ffi::OsString;

use ipc_base::PeerName;

use crate::contents::{self, contents_of, is_temporary, names_in, staged_name};
use crate::{Contents, Home, HomeError};

impl Home {
    /// Whether the creation of this home has finished.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the system does not let us look.
    pub fn is_complete(&self) -> Result<bool, HomeError> {
        let path = self.admin_cred_file();
        path.try_exists().map_err(|source| HomeError::Unreadable { path, source })
    }

    /// What the directory is, judged by the names in it.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the system does not let us look; its cause is `NotFound` if the
    /// directory does not exist.
    pub fn contents(&self) -> Result<Contents, HomeError> {
        if self.is_complete()? {
            return Ok(Contents::Complete);
        }
        Ok(contents_of(&self.names()?))
    }

    /// Whether it is the directory of a client, as far as the system lets us read it.
    #[must_use]
    pub fn is_client_directory(&self) -> bool {
        contents::is_client_directory(self.root())
    }

    /// The names of temporary files. If the caller holds the lock, a killed process has left them;
    /// otherwise another process may be writing them.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn temporary_files(&self) -> Result<Vec<OsString>, HomeError> {
        Ok(self.names()?.into_iter().filter(|name| is_temporary(name)).collect())
    }

    /// The names of pairs with a staged certificate or key, each once, in no particular order.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn staged_pairs(&self) -> Result<Vec<PeerName>, HomeError> {
        let mut names: Vec<PeerName> = Vec::new();
        for name in self.names()?.iter().filter_map(|name| staged_name(name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    pub(crate) fn names(&self) -> Result<Vec<OsString>, HomeError> {
        names_in(self.root())
            .map_err(|source| HomeError::Unreadable { path: self.root().to_owned(), source })
    }
}

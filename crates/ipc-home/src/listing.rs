//! What lies in a home: how far its making has come, whose it is, what was left behind.
//!
//! Opening a home comes here before it looks at modes, so that nobody is told to change a directory
//! that is not theirs to change; `ipc-setup` before it writes anything. No file is opened here.

use std::ffi::OsString;

use ipc_base::PeerName;

use crate::contents::{self, contents_of, is_temporary, names_in, staged_name};
use crate::{Contents, Home, HomeError};

impl Home {
    /// Whether making this home came to its end.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the system does not let us look.
    pub fn is_complete(&self) -> Result<bool, HomeError> {
        let path = self.admin_cred_file();
        path.try_exists().map_err(|source| HomeError::Unreadable { path, source })
    }

    /// What the directory is, told by the names in it.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the system does not let us look; its cause is `NotFound` if
    /// there is nothing.
    pub fn contents(&self) -> Result<Contents, HomeError> {
        if self.is_complete()? {
            return Ok(Contents::Complete);
        }
        Ok(contents_of(&self.names()?))
    }

    /// Whether it is the directory of a client, as far as we are let look.
    #[must_use]
    pub fn is_client_directory(&self) -> bool {
        contents::is_client_directory(self.root())
    }

    /// The names of temporary files that a killed process left. Only whoever holds the lock may
    /// take them for such.
    ///
    /// # Errors
    /// [`HomeError::Unreadable`] if the directory cannot be listed.
    pub fn temporary_files(&self) -> Result<Vec<OsString>, HomeError> {
        Ok(self.names()?.into_iter().filter(|name| is_temporary(name)).collect())
    }

    /// The names of pairs of which a new half lies beside the old one, each once, in no order.
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

//! Where the users of a home are, if not in its `users.db`: `users.url`, or what a command was
//! told.
//!
//! Setup writes it and opens that database; `reading` refuses `users.db` then, so that no program
//! serves from users that are not the home's any more.

use zeroize::Zeroizing;

use crate::file::{read_secret_as, write_secret_atomically};
use crate::{Home, HomeError};

impl Home {
    /// The URL of the database that the users of this home are in, with its password, if they are
    /// not in `users.db`: of [`with_users_url`](Self::with_users_url), or of `users.url`.
    ///
    /// # Errors
    /// Those of reading a secret of the home; [`HomeError::NotUtf8`].
    pub fn users_url(&self) -> Result<Option<Zeroizing<String>>, HomeError> {
        if let Some(url) = self.told_users_url() {
            return Ok(Some(url.clone()));
        }
        let path = self.users_url_file();
        match read_secret_as(&path, self.access()) {
            Err(HomeError::FileMissing { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => Ok(Some(Zeroizing::new(text.trim().to_owned()))),
                Err(_) => Err(HomeError::NotUtf8 { path, is_utf_16: false }),
            },
        }
    }

    /// Writes `users.url`.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`], [`HomeError::NoRandomness`].
    pub fn write_users_url(&self, url: &str) -> Result<(), HomeError> {
        let line = Zeroizing::new(format!("{url}\n"));
        write_secret_atomically(&self.users_url_file(), line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const URL: &str = "postgres://ipc:pass-that-nobody-may-see@db/ipc";

    #[test]
    fn the_url_is_read_back_from_a_file_that_only_the_owner_reads_and_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        assert_eq!(home.users_url().unwrap(), None);
        home.write_users_url(URL).unwrap();
        assert_eq!(home.users_url().unwrap().unwrap().as_str(), URL);
        let mode = std::fs::metadata(home.users_url_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let told = home.with_users_url(Some("postgres://other"));
        assert_eq!(told.users_url().unwrap().unwrap().as_str(), "postgres://other");
        let shown = format!("{:?}", told.with_users_url(Some(URL)));
        assert!(!shown.contains("nobody-may-see"), "{shown}");
    }

    #[test]
    fn users_db_is_not_read_where_the_users_are_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        crate::write_secret_atomically(&home.users_db(), b"").unwrap();
        home.users_db_checked().unwrap();
        let told = home.clone().with_users_url(Some(URL));
        home.write_users_url(URL).unwrap();
        for home in [home, told] {
            let error = home.users_db_checked().unwrap_err();
            assert!(matches!(error, HomeError::UsersElsewhere { .. }), "{error:?}");
            assert!(!error.to_string().contains("nobody-may-see"), "{error}");
        }
    }
}

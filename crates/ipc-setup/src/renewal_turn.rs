//! The turn to renew the home of an enrolled client: one process at a time asks the server.
//!
//! `ipc-renewal` takes it around a whole renewal, from the request to the answer. The lock of the
//! home is taken for each change of files alone, since an answer may take long.

use ipc_home::{Home, HomeError};

use crate::SetupError;
use crate::lock::Lock;

/// The turn to renew the home of an enrolled client, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct RenewalTurn {
    _lock: Lock,
}

impl RenewalTurn {
    /// Takes the turn, or returns `None` while another process or thread has it.
    ///
    /// # Errors
    /// [`SetupError::Lock`].
    pub fn try_take(home: &Home) -> Result<Option<Self>, SetupError> {
        let lock = Lock::try_acquire_file(&file(home))?;
        Ok(lock.map(|lock| Self { _lock: lock }))
    }

    /// Waits for the turn and takes it.
    ///
    /// # Errors
    /// [`SetupError::Lock`]; [`HomeError::Missing`] if there is no home.
    pub fn take(home: &Home) -> Result<Self, SetupError> {
        match Lock::acquire_file(&file(home))? {
            Some(lock) => Ok(Self { _lock: lock }),
            None => Err(HomeError::Missing { path: home.root().to_owned() }.into()),
        }
    }
}

/// `.renewal.lock`.
fn file(home: &Home) -> std::path::PathBuf {
    home.root().join(".renewal.lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::new_home;

    #[test]
    fn one_has_the_turn_at_a_time_and_whoever_waits_gets_it_next() {
        let (_directory, home) = new_home();
        let first = RenewalTurn::try_take(&home).unwrap().unwrap();
        assert!(RenewalTurn::try_take(&home).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| RenewalTurn::take(&home).map(drop));
            drop(first);
            waiting.join().unwrap().unwrap();
        });
        assert!(RenewalTurn::try_take(&home).unwrap().is_some());
    }

    #[test]
    fn without_a_home_there_is_no_turn() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("none"));
        assert!(RenewalTurn::try_take(&home).unwrap().is_none());
        let error = RenewalTurn::take(&home).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::Missing { .. })), "{error:?}");
    }
}

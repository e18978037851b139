//! What went wrong, and what to do about it: one line of the log.
//!
//! Every command comes here with a library's error. Nothing is printed here but through the log, at
//! the very end.

use std::error::Error;
use std::fmt;
use std::path::Path;

use ipc_client::{BuildError, SendError};
use ipc_home::{Home, HomeError, shell_quoted};
use ipc_inbox::OpenError;
use ipc_server::StartError;
use ipc_setup::SetupError;

use crate::signals::EndSignal;

/// The log target of the line that ends a command; it is shown at every level.
pub(crate) const TARGET: &str = module_path!();

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// It was done: status 0.
    Done,
    /// The answer is no, and the user has been told: status 1.
    Refused,
    /// A signal ended it early, and the user has been told: status 129, 130 or 143.
    Interrupted(EndSignal),
}

/// Why a command failed: status 1.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    remedy: Option<String>,
}

impl Failure {
    /// A failure in plain words.
    pub(crate) fn new(what: impl Into<String>, remedy: Option<String>) -> Self {
        Self { what: what.into(), remedy }
    }

    /// A failure of which the error and its causes say why.
    pub(crate) fn of(error: &dyn Error, remedy: Option<String>) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors tell their cause themselves.
            if !what.ends_with(&text) {
                what.push_str(": ");
                what.push_str(&text);
            }
            cause = error.source();
        }
        Self { what, remedy }
    }

    /// Puts what was attempted before why it failed.
    pub(crate) fn while_doing(self, attempt: &str) -> Self {
        Self { what: format!("{attempt}: {}", self.what), ..self }
    }

    /// Logs it as the line that ends the command. `home` is the `--home` that the user gave: what
    /// to do is of use only with the same.
    pub(crate) fn log(&self, home: Option<&Path>) {
        log::error!("{}", self.line(home));
    }

    fn line(&self, home: Option<&Path>) -> String {
        // From a client's directory every command that makes or manages something is for the
        // server's home.
        let home = home.filter(|home| !Home::at(home).is_client_directory());
        match &self.remedy {
            Some(remedy) => format!("{}; {}", self.what, for_home(remedy, home)),
            None => self.what.clone(),
        }
    }
}

/// The line without the home, for what does not end the command.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(None))
    }
}

/// Adds `--home DIR` to the commands in a text that name none, if the user gave one.
pub(crate) fn for_home(text: &str, home: Option<&Path>) -> String {
    let Some(home) = home else { return text.to_owned() };
    let mut parts = text.split("web-ipc --");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str("web-ipc --");
        if !part.starts_with("home ") {
            whole.push_str(&format!("home {} --", shell_quoted(home)));
        }
        whole.push_str(part);
    }
    whole
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::of(&error, error.remedy())
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Self::of(&error, error.remedy())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            // What can be wrong with the users' database is known where it is managed.
            StartError::Store(error) => SetupError::Store(error).into(),
            error => Self::of(&error, error.remedy()),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        StartError::Inbox(error).into()
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::of(&error, error.remedy())
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::of(&error, error.remedy())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use ipc_store::DatabaseError;

    use super::*;

    #[test]
    fn a_failure_is_what_then_why_then_what_to_do() {
        let source = io::Error::other("disk on fire");
        let error = HomeError::Unreadable { path: "/x/envelope.keys".into(), source };
        let failure = Failure::of(&error, Some("call somebody".into()))
            .while_doing("Failed to create user test1");
        assert_eq!(
            failure.line(None),
            "Failed to create user test1: cannot read /x/envelope.keys: disk on fire; call somebody"
        );
    }

    #[test]
    fn a_cause_that_the_error_tells_itself_is_told_once() {
        let error = StartError::NoFreePort { first: 3000, last: 3999 };
        assert_eq!(Failure::of(&error, None).line(None), error.to_string());
        let source = io::Error::other("taken");
        let error = StartError::Listen { address: "127.0.0.1:1".parse().unwrap(), source };
        assert_eq!(Failure::of(&error, None).line(None).matches("taken").count(), 1);
    }

    #[test]
    fn a_database_that_keeps_the_server_from_starting_has_the_remedy_that_users_tells() {
        let missing =
            || DatabaseError::Missing { what: "user database", path: "/x/users.db".into() };
        let server = Failure::from(StartError::Store(missing().into()));
        let users = Failure::from(SetupError::Store(missing().into()));
        assert_eq!(server.line(None), users.line(None));
        assert!(server.remedy.is_some());
    }

    #[test]
    fn what_to_do_names_no_home_twice_and_never_a_clients_for_the_servers() {
        let home = Path::new("/my home");
        let text = "run web-ipc --init --run, or sudo -u ada web-ipc --home /x ...";
        assert_eq!(
            for_home(text, Some(home)),
            "run web-ipc --home '/my home' --init --run, or sudo -u ada web-ipc --home /x ..."
        );
        let directory = tempfile::tempdir().unwrap();
        let failure = Failure::new("no", Some("run web-ipc --users --list".to_owned()));
        assert!(failure.line(Some(directory.path())).contains("--home "));
        for file in ["envelope.keys", "web-ipc-ca.crt"] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        assert_eq!(failure.line(Some(directory.path())), "no; run web-ipc --users --list");
    }

    #[test]
    fn what_to_do_names_the_home_that_the_user_named() {
        let failure = Failure::from(HomeError::Missing { path: "/my home".into() });
        assert_eq!(
            failure.line(None),
            "there is no web-ipc home at /my home; run web-ipc --init --run"
        );
        assert_eq!(
            failure.line(Some(Path::new("/my home"))),
            "there is no web-ipc home at /my home; run web-ipc --home '/my home' --init --run"
        );
    }
}

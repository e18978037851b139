//! Turns an error into one line of the log: what went wrong, why, and what to do.
//!
//! Every command comes here with a library's error. The line is the last one that a command logs.

use std::error::Error;
use std::fmt;
use std::path::Path;

use ipc_base::{CertificateProblem, Remedy, chain};
use ipc_client::{BuildError, SendError};
use ipc_home::HomeError;
use ipc_inbox::OpenError;
#[cfg(feature = "jetstream")]
use ipc_inbox_jetstream::JetStreamError;
use ipc_server::StartError;
use ipc_setup::SetupError;

use crate::remedy::{Reader, sentence};
use crate::shell::{command, shell_quoted};
use crate::signals::EndSignal;
use crate::status::Status;

/// The log target of the line that ends a command. The log shows it at every level.
pub(crate) const TARGET: &str = module_path!();

/// How many values a remedy lists.
const CHOICES_SHOWN_MAX: usize = 8;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// It is done: exit status 0.
    Done,
    /// It was refused, or the answer is no, and the log says so: exit status 1.
    Refused,
    /// Some of many were refused, and the log says which: the exit status of these.
    Partly(Status),
    /// A signal ended it early, and the log says so: exit status 129, 130 or 143.
    Interrupted(EndSignal),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    advice: Option<Advice>,
    status: Status,
}

/// What to do about it.
#[derive(Debug)]
enum Advice {
    /// A clause that begins with a verb and names no command of this program.
    Clause(String),
    /// `run web-ipc …`, and what for.
    Run { arguments: &'static str, purpose: &'static str },
    /// The remedy of a library.
    Remedy(Remedy),
}

impl Failure {
    /// A failure in plain words. The advice is a clause that names no command of this program.
    pub(crate) fn new(what: impl Into<String>, advice: Option<String>) -> Self {
        Self { what: what.into(), advice: advice.map(Advice::Clause), status: Status::Failed }
    }

    /// A failure in plain words because of what was to be sent.
    pub(crate) fn bad_data(what: impl Into<String>, advice: Option<String>) -> Self {
        Self::new(what, advice).with_status(Status::BadData)
    }

    /// A failure in plain words, with the command that helps, and its purpose.
    pub(crate) fn with_command(
        what: impl Into<String>,
        arguments: &'static str,
        purpose: &'static str,
    ) -> Self {
        let advice = Some(Advice::Run { arguments, purpose });
        Self { what: what.into(), advice, status: Status::Failed }
    }

    /// A failure in plain words, with the remedy of a library.
    pub(crate) fn with_remedy(what: impl Into<String>, remedy: Remedy) -> Self {
        Self { what: what.into(), advice: Some(Advice::Remedy(remedy)), status: Status::Failed }
    }

    /// A failure with the text of an error and its sources.
    pub(crate) fn of(error: &(dyn Error + 'static), remedy: Option<Remedy>) -> Self {
        let advice = remedy.map(Advice::Remedy);
        Self { what: chain(error).to_string(), advice, status: Status::Failed }
    }

    /// The same failure with another exit status than 1.
    pub(crate) fn with_status(self, status: impl Into<Status>) -> Self {
        Self { status: status.into(), ..self }
    }

    /// Its exit status.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Prefixes what was attempted.
    pub(crate) fn while_doing(self, attempt: &str) -> Self {
        Self { what: format!("{attempt}: {}", self.what), ..self }
    }

    /// Logs it as the line that ends the command. `home` is the `--home` that the user gave, which
    /// the commands in the advice need too.
    pub(crate) fn log(&self, home: Option<&Path>) {
        log::error!("{}", self.told(home));
    }

    /// The line for whoever uses the home: `home` is the `--home` that the user gave.
    pub(crate) fn told(&self, home: Option<&Path>) -> String {
        self.line(&Reader::of(home))
    }

    fn line(&self, reader: &Reader<'_>) -> String {
        let advice = match &self.advice {
            None => return self.what.clone(),
            Some(Advice::Clause(clause)) => clause.clone(),
            Some(Advice::Run { arguments, purpose }) => {
                format!("run {}{purpose}", command(reader.servers_home(), arguments))
            }
            Some(Advice::Remedy(remedy)) => sentence(remedy, reader),
        };
        format!("{}; {advice}", self.what)
    }
}

/// The line without `--home`, for failures that do not end the command, and that have nothing to do
/// with what kind of home it is.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(&Reader::unknown()))
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

#[cfg(feature = "jetstream")]
impl From<JetStreamError> for Failure {
    fn from(error: JetStreamError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::of(&error, error.remedy()).with_status(&error)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::of(&error, remedy_of_send(&error)).with_status(&error)
    }
}

/// What to do about a failed send. A certificate with another name mostly means that `--name` was
/// forgotten, so the names that it has come first.
pub(crate) fn remedy_of_send(error: &SendError) -> Option<Remedy> {
    let remedy = error.remedy();
    let SendError::ServerNotTrusted { reason: CertificateProblem::WrongName { presented }, .. } =
        error
    else {
        return remedy;
    };
    // No server is called by a wildcard.
    let names: Vec<_> = presented.iter().filter(|name| !name.contains('*')).collect();
    match (remedy, choose("--name", "name", &names)) {
        (Some(Remedy::AnyOf(all)), Some(choice)) => {
            let named = all.into_iter().map(|one| match one {
                Remedy::UseCertifiedName => choice.clone(),
                other => other,
            });
            Some(Remedy::AnyOf(named.collect()))
        }
        (remedy, _) => remedy,
    }
}

/// To give an option with one of these values, of which there may be many; `None` if there is none.
pub(crate) fn choose(option: &str, what: &str, values: &[impl AsRef<Path>]) -> Option<Remedy> {
    let shown: Vec<_> = values.iter().take(CHOICES_SHOWN_MAX).map(shell_quoted).collect();
    let more = if values.len() > shown.len() { ", …" } else { "" };
    Some(Remedy::act(match shown.as_slice() {
        [] => return None,
        [only] => format!("give {option} {only}"),
        many => format!("give {option} with the {what} that is meant: {}{more}", many.join(", ")),
    }))
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
            failure.to_string(),
            "Failed to create user test1: cannot read /x/envelope.keys: disk on fire; call somebody"
        );
    }

    #[test]
    fn the_causes_are_told_once() {
        let source = io::Error::other("taken");
        let error = StartError::Listen { address: "127.0.0.1:1".parse().unwrap(), source };
        assert_eq!(Failure::of(&error, None).to_string(), "cannot listen on 127.0.0.1:1: taken");
    }

    #[test]
    fn a_database_that_keeps_the_server_from_starting_has_the_remedy_that_users_tells() {
        let missing =
            || DatabaseError::Missing { what: "user database", path: "/x/users.db".into() };
        let server = Failure::from(StartError::Store(missing().into()));
        let users = Failure::from(SetupError::Store(missing().into()));
        assert_eq!(server.to_string(), users.to_string());
        assert!(server.to_string().contains("; put back a good copy"), "{server}");
    }

    #[test]
    fn of_a_server_with_another_name_the_names_of_its_certificate_come_first() {
        let failure = |presented: &[&str]| {
            let presented = presented.iter().map(|&name| name.to_owned()).collect();
            let reason = CertificateProblem::WrongName { presented };
            Failure::from(SendError::ServerNotTrusted { name: "localhost".into(), reason })
                .to_string()
        };
        assert_eq!(
            failure(&["server1.example"]),
            "the certificate of the server `localhost` is for server1.example; give --name \
             server1.example, or make it anew in the home of the server, with web-ipc --certs \
             --name localhost --altNames localhost server1.example --force"
        );
        let two = failure(&["a.example", "*.b.example", "192.0.2.1"]);
        assert!(
            two.contains("; give --name with the name that is meant: a.example, 192.0.2.1, or "),
            "{two}"
        );
        for names in [&["*.b.example"][..], &[]] {
            let none = failure(names);
            assert!(none.contains("; use a name that the certificate is for, or "), "{none}");
        }
    }

    #[test]
    fn a_choice_lists_a_few_values_quoted_for_the_shell() {
        let said = |values: &[&str]| choose("--x", "pair", values).map(|one| one.to_string());
        assert_eq!(said(&[]), None);
        assert_eq!(said(&["a b"]).unwrap(), "give --x 'a b'");
        let many = said(&["a"; CHOICES_SHOWN_MAX + 1]).unwrap();
        assert!(many.starts_with("give --x with the pair that is meant: a, a, "), "{many}");
        assert!(many.ends_with(", a, …") && many.matches('a').count() > 8, "{many}");
    }

    #[test]
    fn what_to_do_is_for_the_home_that_the_user_named_and_never_for_a_clients() {
        let failure = Failure::from(HomeError::Missing { path: "/my home".into() });
        assert_eq!(
            failure.to_string(),
            "there is no web-ipc home at /my home; run web-ipc --init --run"
        );
        assert_eq!(
            failure.told(Some(Path::new("/my home"))),
            "there is no web-ipc home at /my home; run web-ipc --home '/my home' --init --run"
        );
        let directory = tempfile::tempdir().unwrap();
        let failure = Failure::with_command("no", "--users --list", " to see them");
        assert!(failure.told(Some(directory.path())).contains("--home "));
        for file in ["envelope.keys", "web-ipc-ca.crt"] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        assert_eq!(
            failure.told(Some(directory.path())),
            "no; run web-ipc --users --list to see them"
        );
    }
}

//! What a person can do about an error, as data.
//!
//! The `remedy()` of every error returns one. A program with a command line of its own matches on
//! it and names its commands; `Display` says what to do without one. No file is looked at here.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// What a person can do about an error.
///
/// `Display` writes it as a clause that begins with a verb and names no command. `ipc-setup` has
/// the functions that the variants name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Any one of these.
    AnyOf(Vec<Remedy>),
    /// All of these, one after the other.
    InOrder(Vec<Remedy>),
    /// Something that no function and no command does, such as to look into a log: a clause that
    /// begins with a verb.
    Act(Cow<'static, str>),

    /// Say where the home is: nothing does.
    NameHome,
    /// Use another directory as the home.
    UseAnotherHome,
    /// Use a home on a disk that can be written to.
    UseWritableHome,
    /// Use a home whose path is shorter.
    UseShorterHomePath,
    /// Do it on the server's host, with the server's home: this is the directory of a client.
    UseServersHome,
    /// Make a home there, or complete the one that is: `init`.
    MakeHome,
    /// Finish what an interrupted run began: `init`.
    FinishHome,
    /// Make a new home in the place of this one, which is kept aside: `init` by force.
    ReplaceHome,
    /// Move away what is in this directory, then make a home there: `init`.
    EmptyHome {
        /// The directory.
        path: PathBuf,
    },
    /// Copy the users of the Python tool alone into a directory that is empty, and use that as the
    /// home.
    CopyUsers {
        /// The file with the users.
        path: PathBuf,
    },
    /// Stop the server that uses the home.
    StopServer,
    /// Stop the other server, or give this one a home of its own.
    StopOtherServer,

    /// Change the permissions of files or directories.
    FixPermissions {
        /// The files or directories.
        paths: Vec<PathBuf>,
        /// What is to change.
        change: ModeChange,
    },
    /// Give a file to the user who owns the home.
    ChangeOwner {
        /// The file.
        path: PathBuf,
    },
    /// Run the program as the user who owns the home.
    RunAsOwner,
    /// Run the program as this user.
    RunAs {
        /// The user's name, or `#` and a number where there is no name.
        user: String,
        /// The home, which is this user's.
        home: PathBuf,
    },
    /// Put a good copy of a file back.
    RestoreFile {
        /// The file.
        path: PathBuf,
    },
    /// Put good copies of several files back.
    RestoreFiles {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// Put the authority's key back, where certificates are to be made.
    RestoreAuthorityKey {
        /// The file.
        path: PathBuf,
    },
    /// Put a database's `-wal` back beside it.
    RestoreLog {
        /// The `-wal`.
        path: PathBuf,
    },
    /// Make an empty `-wal` in the place of the lost one, where another program has written that
    /// one into the database already.
    ReplaceLog {
        /// The database.
        database: PathBuf,
        /// The `-wal`.
        log: PathBuf,
    },
    /// Move a database and what belongs to it away, for an empty one.
    MoveAside {
        /// The database.
        path: PathBuf,
    },
    /// Copy the file from the server's home.
    CopyFromServer {
        /// Where it belongs.
        path: PathBuf,
    },
    /// Put the file itself in the place of a symbolic link.
    ReplaceLink {
        /// The link.
        path: PathBuf,
    },
    /// Remove a symbolic link that leads nowhere, or have it lead somewhere.
    MendLink {
        /// The link.
        path: PathBuf,
    },
    /// Remove what is in the way, and try again.
    RemoveObstacle {
        /// What is in the way.
        path: PathBuf,
    },
    /// Remove a file that is not good, then have a new one made: `init`.
    RemakeFile {
        /// The file.
        path: PathBuf,
    },
    /// Write the file again as UTF-8.
    SaveAsUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// Write a private key without its passphrase.
    DecryptKey {
        /// The file.
        path: PathBuf,
    },
    /// Make room on the disk.
    MakeRoom,
    /// Raise the limit for the size of a file.
    RaiseFileSizeLimit,

    /// Issue a certificate pair: `issue_certificate`.
    IssueCertificate {
        /// Whom for.
        name: String,
        /// The names and addresses that clients connect to; none for the name alone.
        alt_names: Vec<String>,
        /// Whether it takes the place of one that is there.
        replace: bool,
        /// Where it is issued.
        place: Place,
    },
    /// Issue a certificate under this name although there is one: `issue_certificate`, by force.
    OverwriteCertificate {
        /// The name of the pair.
        name: String,
    },
    /// Issue the client a new certificate in the server's home: `issue_certificate`.
    IssueClientCertificate,
    /// Trust the authority of the server's home.
    TrustServersAuthority {
        /// The name of the server, whose certificate may as well be issued anew.
        name: String,
    },
    /// Connect to the server by a name that its certificate is for.
    UseCertifiedName,
    /// Give a certificate another number of days.
    ChooseDays,
    /// Give a certificate fewer alternative names.
    ChooseFewerNames,
    /// Give the name of a host, or an address.
    ChoosePeerName,
    /// Write a name in its A-label form (RFC 5890).
    WriteALabel,

    /// Give the user that was made for this client.
    NameUser,
    /// Give another user name.
    ChooseUserName,
    /// Give another password.
    ChoosePassword,
    /// Change a user's password: `Users::change_password`.
    ChangePassword {
        /// The user name.
        user: String,
    },
    /// Set the same password once more: `Users::change_password`.
    RepeatPassword {
        /// The user name.
        user: String,
    },
    /// Renew the admin's credentials in the home: change the password, or add the user where it
    /// was deleted.
    RenewCredentials {
        /// The admin's name.
        user: String,
    },
    /// Try user name and password on the server's host: `Users::verify`.
    TestCredentials {
        /// The user name.
        user: String,
    },
    /// Look who the users are: `Users::list`.
    ListUsers,

    /// Make another bundle for the client: `create_enrolment`.
    MakeBundle,
    /// List the enrolments of the home: `list_enrolments`.
    ListEnrolments,
    /// Cancel the enrolment of a client: `cancel_enrolment`.
    CancelEnrolment {
        /// The name of the client.
        name: String,
    },
    /// Say where the server is reached.
    NameAddress,
    /// List the certificates of the home: `list_certificates`.
    ListCertificates,
    /// List the keys of the home: `list_keys`.
    ListKeys,
    /// Put a new key before the others: `rotate_keys`.
    RotateKeys {
        /// Whether it is for session tokens.
        session: bool,
    },
    /// Drop a key that nobody uses any more: `drop_key`.
    DropKey,

    /// Bring the file of a durable inbox up to date: open it once.
    UpdateInbox,
    /// Use the newer version of the program, which wrote the file.
    UseNewerVersion,
    /// Name a place for the copy where nothing is yet.
    ChooseBackupPlace,

    /// Set the clock of this host.
    SetClock,
    /// Check the clocks of both hosts.
    CheckClocks,
    /// Try again.
    TryAgain,
    /// Try again when the other process is done.
    WaitForOther,

    /// Speak https to the server.
    UseHttps,
    /// Check the address; speak plain http, if the server does.
    CheckAddressOrUseHttp,
}

/// Where a certificate is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the home at hand.
    ThisHome,
    /// In the home with the authority's key; the pair is then copied to the one at hand.
    AuthoritysHome,
    /// In the home of the server.
    ServersHome,
}

/// How permissions are to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModeChange {
    /// To exactly these bits.
    To(u32),
    /// None for group and others, on a directory and on everything in it.
    OwnerOnly,
    /// Group and others cannot write any more.
    NotWritableByOthers,
    /// The owner can do everything.
    OwnerEverything,
    /// The owner can write.
    OwnerWrites,
}

impl Remedy {
    /// Something that no function and no command does.
    pub fn act(clause: impl Into<Cow<'static, str>>) -> Self {
        Remedy::Act(clause.into())
    }

    /// What makes a certificate pair anew in the home at hand; `localhost` gets the names that
    /// every home gives it.
    #[must_use]
    pub fn issue(name: &str, replace: bool, place: Place) -> Self {
        let is_default = name == "localhost" && place == Place::ThisHome;
        let alt_names: &[&str] = if is_default { &["localhost", "127.0.0.1", "::1"] } else { &[] };
        Remedy::IssueCertificate {
            name: name.to_owned(),
            alt_names: alt_names.iter().map(|&name| name.to_owned()).collect(),
            replace: replace || is_default,
            place,
        }
    }

    /// This, or else `other`.
    #[must_use]
    pub fn or(self, other: Remedy) -> Self {
        match self {
            Remedy::AnyOf(mut all) => {
                all.push(other);
                Remedy::AnyOf(all)
            }
            first => Remedy::AnyOf(vec![first, other]),
        }
    }

    /// This, and then `next`.
    #[must_use]
    pub fn then(self, next: Remedy) -> Self {
        match self {
            Remedy::InOrder(mut all) => {
                all.push(next);
                Remedy::InOrder(all)
            }
            first => Remedy::InOrder(vec![first, next]),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Remedy::AnyOf(all) => return joined(f, all, ", or "),
            Remedy::InOrder(all) => return joined(f, all, ", then "),
            Remedy::Act(clause) => clause,
            Remedy::NameHome => "name the directory of the home, or set WEB_IPC_HOME",
            Remedy::UseAnotherHome => "use another directory",
            Remedy::UseWritableHome => "use a home on a disk that can be written to",
            Remedy::UseShorterHomePath => "use a directory with a shorter path",
            Remedy::UseServersHome => "do it on the server's host, in the server's home",
            Remedy::MakeHome => "make a home there",
            Remedy::FinishHome => "make the home again, which finishes it",
            Remedy::ReplaceHome => "make a new home in its place (the old one is kept aside)",
            Remedy::EmptyHome { path } => {
                return write!(
                    f,
                    "move what is in {} elsewhere, then make a home there",
                    path.display()
                );
            }
            Remedy::CopyUsers { path } => {
                return write!(
                    f,
                    "copy {} alone into an empty directory, and use that as the home",
                    path.display()
                );
            }
            Remedy::StopServer => "stop it first",
            Remedy::StopOtherServer => "stop the other server, or give this one another home",
            Remedy::FixPermissions { paths, change } => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                return write!(f, "{change} {}", paths.join(" and "));
            }
            Remedy::ChangeOwner { path } => {
                return write!(f, "give {} to the user who owns the home", path.display());
            }
            Remedy::RunAsOwner => "run as the user who owns the home",
            Remedy::RunAs { user, .. } => return write!(f, "run it as the user {user}"),
            Remedy::RestoreFile { .. } => "put back a good copy of the file",
            Remedy::RestoreFiles { .. } => "put back a good copy of what is missing",
            Remedy::RestoreAuthorityKey { .. } => "put it back where certificates are to be made",
            Remedy::RestoreLog { path } => {
                return write!(f, "put {} back beside it", path.display());
            }
            Remedy::ReplaceLog { database, log } => {
                return write!(
                    f,
                    "make an empty {} where another program has written it into {} already",
                    log.display(),
                    database.display()
                );
            }
            Remedy::MoveAside { path } => {
                return write!(
                    f,
                    "move {} and what lies beside it under its name away for an empty one",
                    path.display()
                );
            }
            Remedy::CopyFromServer { .. } => "copy it from the server's home",
            Remedy::ReplaceLink { path } => {
                return write!(f, "put the file itself in the place of {}", path.display());
            }
            Remedy::MendLink { path } => {
                return write!(f, "remove {} or mend it", path.display());
            }
            Remedy::RemoveObstacle { path } => {
                return write!(f, "remove {} and try again", path.display());
            }
            Remedy::RemakeFile { path } => {
                return write!(
                    f,
                    "remove {}, then make the home again, which makes a new one",
                    path.display()
                );
            }
            Remedy::SaveAsUtf8 { .. } => "put it there in UTF-8",
            Remedy::DecryptKey { .. } => "write it without a passphrase",
            Remedy::MakeRoom => "make room on the disk and try again",
            Remedy::RaiseFileSizeLimit => "raise the limit for the size of a file and try again",
            Remedy::IssueCertificate { name, alt_names, replace: _, place } => {
                return issue(f, name, alt_names, *place);
            }
            Remedy::OverwriteCertificate { name } => {
                return write!(f, "issue it by force to replace the certificate of `{name}`");
            }
            Remedy::IssueClientCertificate => {
                "make this client a new certificate in the home of the server"
            }
            Remedy::TrustServersAuthority { name } => {
                return write!(
                    f,
                    "check the address, and use the web-ipc-ca.crt of the home that the server's \
                     certificate was made in; if this is the server's home, make a new certificate \
                     for `{name}`"
                );
            }
            Remedy::UseCertifiedName => "give a name that it is for",
            Remedy::ChooseDays => "give another number of days",
            Remedy::ChooseFewerNames => "give fewer names",
            Remedy::ChoosePeerName => "give a host name such as server1.example, or an address",
            Remedy::WriteALabel => "write it as it stands in the certificate: xn--…",
            Remedy::NameUser => "give the user that was made for this client",
            Remedy::ChooseUserName => "give another user name",
            Remedy::ChoosePassword => "give another password",
            Remedy::ChangePassword { user } => {
                return write!(f, "change the password of `{user}`");
            }
            Remedy::RepeatPassword { user } => {
                return write!(f, "set the password of `{user}` again to the same");
            }
            Remedy::RenewCredentials { user } => {
                return write!(
                    f,
                    "change the password of `{user}`, or add the user again if it was deleted: \
                     both renew admin.cred"
                );
            }
            Remedy::TestCredentials { user } => {
                return write!(f, "try the credentials of `{user}` on the server's host");
            }
            Remedy::ListUsers => "look at the list of users",
            Remedy::MakeBundle => "make another bundle in the server's home",
            Remedy::ListEnrolments => "look at the list of enrolments",
            Remedy::CancelEnrolment { name } => {
                return write!(f, "cancel the enrolment of `{name}` first");
            }
            Remedy::NameAddress => "name an address of the server",
            Remedy::ListCertificates => "look at the list of certificates",
            Remedy::ListKeys => "look at the list of keys",
            Remedy::RotateKeys { .. } => "make a new key first",
            Remedy::DropKey => "drop a key that nobody uses any more",
            Remedy::UpdateInbox => "open the inbox once, which brings it up to date",
            Remedy::UseNewerVersion => "use the newer web-ipc with this home",
            Remedy::ChooseBackupPlace => "name a directory elsewhere that is not there yet",
            Remedy::SetClock => "set the clock of this host",
            Remedy::CheckClocks => "check the clocks of both hosts",
            Remedy::TryAgain => "try again",
            Remedy::WaitForOther => "try again when the other process is done",
            Remedy::UseHttps => "speak https to it (`Protocol::Https`)",
            Remedy::CheckAddressOrUseHttp => {
                "check the address; if it is a web-ipc server for plain http, speak http to it \
                 (`Protocol::Http`)"
            }
        };
        f.write_str(text)
    }
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModeChange::To(mode) => write!(f, "set the mode {mode:04o} on"),
            ModeChange::OwnerOnly => {
                f.write_str("take every right of group and others on all that is in")
            }
            ModeChange::NotWritableByOthers => {
                f.write_str("take the right of group and others to write to")
            }
            ModeChange::OwnerEverything => f.write_str("give the owner every right on"),
            ModeChange::OwnerWrites => f.write_str("give the owner the right to write to"),
        }
    }
}

impl From<&'static str> for Remedy {
    fn from(clause: &'static str) -> Self {
        Remedy::act(clause)
    }
}

fn joined(f: &mut fmt::Formatter<'_>, all: &[Remedy], separator: &str) -> fmt::Result {
    for (index, remedy) in all.iter().enumerate() {
        let before = if index == 0 { "" } else { separator };
        write!(f, "{before}{remedy}")?;
    }
    Ok(())
}

fn issue(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    alt_names: &[String],
    place: Place,
) -> fmt::Result {
    write!(f, "make a new certificate for `{name}`")?;
    if !alt_names.is_empty() {
        write!(f, " with the alternative names {}", alt_names.join(", "))?;
    }
    match place {
        Place::ThisHome => Ok(()),
        Place::AuthoritysHome => {
            write!(f, " where web-ipc-ca.key is kept, and put {name}.crt and {name}.key here")
        }
        Place::ServersHome => f.write_str(" in the home of the server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_and_steps_are_joined_into_one_clause() {
        let file = || Remedy::RestoreFile { path: "/x/envelope.keys".into() };
        assert_eq!(
            file().or(Remedy::ReplaceHome).to_string(),
            "put back a good copy of the file, or make a new home in its place (the old one is kept aside)"
        );
        let three = Remedy::MakeRoom.or(file()).or(Remedy::TryAgain);
        assert_eq!(three, Remedy::AnyOf(vec![Remedy::MakeRoom, file(), Remedy::TryAgain]));
        assert_eq!(
            Remedy::CheckClocks.then(Remedy::TryAgain).to_string(),
            "check the clocks of both hosts, then try again"
        );
    }

    #[test]
    fn a_certificate_is_ordered_with_the_names_that_its_home_gives_it() {
        assert_eq!(
            Remedy::issue("peer1", true, Place::ThisHome).to_string(),
            "make a new certificate for `peer1`"
        );
        assert_eq!(
            Remedy::issue("localhost", false, Place::ThisHome),
            Remedy::IssueCertificate {
                name: "localhost".into(),
                alt_names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
                replace: true,
                place: Place::ThisHome,
            }
        );
        let elsewhere = Remedy::issue("localhost", true, Place::ServersHome);
        assert!(
            matches!(&elsewhere, Remedy::IssueCertificate { alt_names, .. } if alt_names.is_empty()),
            "{elsewhere:?}"
        );
    }

    #[test]
    fn permissions_are_told_without_a_command() {
        let fix = |change| Remedy::FixPermissions { paths: vec!["/a".into(), "/b".into()], change };
        assert_eq!(fix(ModeChange::To(0o600)).to_string(), "set the mode 0600 on /a and /b");
        assert_eq!(
            fix(ModeChange::OwnerWrites).to_string(),
            "give the owner the right to write to /a and /b"
        );
    }
}

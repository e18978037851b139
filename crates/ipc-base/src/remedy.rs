//! What a person can do about an error, as data.
//!
//! The `remedy()` of every error returns one. A program with a command line of its own matches on
//! it and names its commands. `Display` describes it without commands. Nothing here examines a
//! file.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// What a person can do about an error.
///
/// `Display` writes a clause that begins with a verb and names no command. The functions that the
/// variants name are in `ipc-setup`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Any one of these remedies.
    AnyOf(Vec<Remedy>),
    /// All of these remedies, one after another.
    InOrder(Vec<Remedy>),
    /// An action without a function or a command, such as looking into a log: a clause that begins
    /// with a verb.
    Act(Cow<'static, str>),

    /// Name the home's directory: neither the caller nor the environment does.
    NameHome,
    /// Use another directory as the home.
    UseAnotherHome,
    /// Use a home on a disk that can be written to.
    UseWritableHome,
    /// Use a home whose path is shorter.
    UseShorterHomePath,
    /// Do it on the server's host, with the server's home: this directory is a client's.
    UseServersHome,
    /// Do it in the home of the installation's first server, then renew here to follow: this home
    /// is that of a further one.
    UseFirstServersHome,
    /// Make a home there, or complete the present one: `init`.
    MakeHome,
    /// Finish an interrupted run: `init`.
    FinishHome,
    /// Make a new home instead of this one, which is kept aside: `init` by force.
    ReplaceHome,
    /// Move the content of this directory elsewhere, then make a home there: `init`.
    EmptyHome {
        /// The directory.
        path: PathBuf,
    },
    /// Take the environment of the Python tool over into a new home.
    TakeOver {
        /// The environment's directory.
        path: PathBuf,
    },
    /// Copy the users of the home to the database that they are to be in.
    CopyUsersToDatabase,
    /// Stop the server that uses the home.
    StopServer,
    /// Stop the other server, or give this one a home of its own.
    StopOtherServer,

    /// Change the permissions of files or directories.
    FixPermissions {
        /// The files or directories.
        paths: Vec<PathBuf>,
        /// The change.
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
        /// The user's name, or `#` and a number if the user has no name.
        user: String,
        /// The home, which belongs to this user.
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
    /// Put the authority's key back, if certificates are to be issued here.
    RestoreAuthorityKey {
        /// The file.
        path: PathBuf,
    },
    /// Put the `-wal` file of a database back beside it.
    RestoreLog {
        /// The `-wal` file.
        path: PathBuf,
    },
    /// Make an empty `-wal` file instead of the lost one, if another program has already written
    /// the lost one into the database.
    ReplaceLog {
        /// The database.
        database: PathBuf,
        /// The `-wal` file.
        log: PathBuf,
    },
    /// Move a database and its files away, so that an empty one is made.
    MoveAside {
        /// The database.
        path: PathBuf,
    },
    /// Copy the file from the server's home.
    CopyFromServer {
        /// Where the file belongs.
        path: PathBuf,
    },
    /// Replace a symbolic link by the file itself.
    ReplaceLink {
        /// The link.
        path: PathBuf,
    },
    /// Remove a dangling symbolic link, or give it an existing target.
    MendLink {
        /// The link.
        path: PathBuf,
    },
    /// Remove an obstacle, and try again.
    RemoveObstacle {
        /// The obstacle.
        path: PathBuf,
    },
    /// Remove a bad file, then have a new one made: `init`.
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
    /// Raise the limit for file sizes.
    RaiseFileSizeLimit,

    /// Issue a certificate pair: `issue_certificate`.
    IssueCertificate {
        /// The peer that the certificate is for.
        name: String,
        /// The names and addresses that clients connect to. Empty for the name alone.
        alt_names: Vec<String>,
        /// Whether the new certificate replaces an existing one.
        replace: bool,
        /// Where to issue the certificate.
        place: Place,
    },
    /// Issue a certificate under this name although one exists: `issue_certificate`, by force.
    OverwriteCertificate {
        /// The name of the pair.
        name: String,
    },
    /// Issue the client a new certificate in the server's home: `issue_certificate`.
    IssueClientCertificate,
    /// Replace the certificate of this client, which the server does not accept any more. In the
    /// home of an enrolled client or further server: enrol it anew. In the home that has the
    /// authority's key: renew the pair, `renew_certificates`. Elsewhere: have a new pair issued in
    /// the server's home, and copy it.
    ReplaceOwnCertificate {
        /// The name of the pair, where it is known.
        name: Option<String>,
    },
    /// Use the keys that the server has. In the home of an enrolled client or further server, whose
    /// keys the server has dropped: enrol it anew. Elsewhere: copy `envelope.keys`.
    UseServersKeys,
    /// Enrol this client anew: its certificate was revoked, or its user is not known any more.
    EnrolAnew,
    /// Enrol another peer anew, from this home: `cancel_enrolment`, then `create_enrolment`.
    EnrolPeerAnew {
        /// The name of the peer.
        name: String,
        /// Whether it is a further server.
        is_server: bool,
    },
    /// Remove the files of a pair that nobody uses.
    RemovePair {
        /// The name of the pair.
        name: String,
    },
    /// Renew a pair of this home: `renew_certificates`.
    RenewCertificate {
        /// The name of the pair.
        name: String,
    },
    /// Have the server renew the certificate of this client.
    RenewOwnCertificate,
    /// Renew a certificate on the host that has its key.
    RenewElsewhere {
        /// The name in the certificate.
        name: String,
    },
    /// Replace the authority: `rotate_authority`. A replacement that was cut short is completed.
    RotateAuthority,
    /// Trust the authority of the server's home.
    TrustServersAuthority {
        /// The name of the server. Another remedy is a new certificate for it.
        name: String,
    },
    /// Connect to the server by a name that its certificate contains.
    UseCertifiedName,
    /// Use another number of days for a certificate.
    ChooseDays,
    /// Use fewer alternative names for a certificate.
    ChooseFewerNames,
    /// Use the name of a host, or an address.
    ChoosePeerName,
    /// Write a name in its A-label form (RFC 5890).
    WriteALabel,

    /// Use the user that was made for this client.
    NameUser,
    /// Use another user name.
    ChooseUserName,
    /// Use another password.
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
    /// Renew the admin's credentials in the home: change the password, or add the user if it was
    /// deleted.
    RenewCredentials {
        /// The admin's name.
        user: String,
    },
    /// Try the user name and password on the server's host: `Users::verify`.
    TestCredentials {
        /// The user name.
        user: String,
    },
    /// List the users: `Users::list`.
    ListUsers,
    /// Log in from the home of the peer that the user is bound to, or bind the user to the peer of
    /// this client in the server's home: `Users::bind`.
    BindUser {
        /// The user name, where it is known.
        user: Option<String>,
        /// The name of this client's certificate, where it is known.
        peer: Option<String>,
    },

    /// Have each of the clients renew its certificate, in its own home.
    RenewEach,
    /// Drop the authority that was replaced, once every client has followed: `drop_old_authority`.
    DropOldAuthority {
        /// Whether some have not: they are refused then, and must be enrolled again.
        force: bool,
    },
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
    /// Have every client that uses the key follow first: each renews its certificate, which gives
    /// it the new key. Or drop the key by force: `drop_key`. They are refused then, and must be
    /// enrolled again.
    DropUsedKey {
        /// The id of the key.
        id: String,
    },

    /// Bring the file of a durable inbox up to date: open it once.
    UpdateInbox,
    /// Use the newer version of the program, which has written the file.
    UseNewerVersion,
    /// Name a place for the copy that does not exist yet.
    ChooseBackupPlace,
    /// Name a file for the sealed backup that does not exist yet.
    ChooseBackupFile,
    /// Have the home that is there moved aside, by force, or use another directory.
    MoveHomeAside,
    /// Have the home diagnosed.
    Diagnose,

    /// Set the clock of this host.
    SetClock,
    /// Check the clocks of both hosts.
    CheckClocks,
    /// Try again.
    TryAgain,
    /// Try again when the other process has ended.
    WaitForOther,

    /// Use https.
    UseHttps,
    /// Check the address. If the server is one for plain http, use http.
    CheckAddressOrUseHttp,
}

/// Where to issue a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the present home.
    ThisHome,
    /// In the home with the authority's key. The pair is then copied to the present one.
    AuthoritysHome,
    /// In the home of the server.
    ServersHome,
}

/// How to change permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModeChange {
    /// To exactly these bits.
    To(u32),
    /// Remove all permissions of group and others, on a directory and everything in it.
    OwnerOnly,
    /// Remove the write permission of group and others.
    NotWritableByOthers,
    /// Give the owner all permissions.
    OwnerEverything,
    /// Give the owner write permission.
    OwnerWrites,
}

impl Remedy {
    /// An action without a function or a command.
    pub fn act(clause: impl Into<Cow<'static, str>>) -> Self {
        Remedy::Act(clause.into())
    }

    /// The remedy to issue a certificate pair. `localhost` in the present home gets the alternative
    /// names that every home gives it.
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

    /// This remedy, or else `other`.
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

    /// This remedy, and then `next`.
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
            Remedy::UseFirstServersHome => {
                "do it on the first server's host, in that server's home; then renew here to follow"
            }
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
            Remedy::TakeOver { path } => {
                return write!(f, "take {} over into a new home", path.display());
            }
            Remedy::CopyUsersToDatabase => "copy the users to that database first",
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
            Remedy::RunAs { user, .. } => return write!(f, "run as the user {user}"),
            Remedy::RestoreFile { .. } => "put back a good copy of the file",
            Remedy::RestoreFiles { .. } => "put back good copies of the missing files",
            Remedy::RestoreAuthorityKey { .. } => {
                "put it back if certificates are to be issued here"
            }
            Remedy::RestoreLog { path } => {
                return write!(f, "put {} back beside it", path.display());
            }
            Remedy::ReplaceLog { database, log } => {
                return write!(
                    f,
                    "make an empty {} if another program has already written its content into {}",
                    log.display(),
                    database.display()
                );
            }
            Remedy::MoveAside { path } => {
                return write!(
                    f,
                    "move {} and the files beside it with its name away, for an empty one",
                    path.display()
                );
            }
            Remedy::CopyFromServer { .. } => "copy it from the server's home",
            Remedy::ReplaceLink { path } => {
                return write!(f, "replace {} by the file itself", path.display());
            }
            Remedy::MendLink { path } => {
                return write!(f, "remove {} or repair it", path.display());
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
            Remedy::SaveAsUtf8 { .. } => "save it as UTF-8",
            Remedy::DecryptKey { .. } => "write it without a passphrase",
            Remedy::MakeRoom => "make room on the disk and try again",
            Remedy::RaiseFileSizeLimit => "raise the limit for file sizes and try again",
            Remedy::IssueCertificate { name, alt_names, replace: _, place } => {
                return issue(f, name, alt_names, *place);
            }
            Remedy::OverwriteCertificate { name } => {
                return write!(f, "issue it by force to replace the certificate of `{name}`");
            }
            Remedy::IssueClientCertificate => {
                "make this client a new certificate in the home of the server"
            }
            Remedy::RenewCertificate { name } => {
                return write!(f, "renew the certificate of `{name}`");
            }
            Remedy::RenewOwnCertificate => "have the server renew the certificate of this client",
            Remedy::RenewElsewhere { name } => {
                return write!(f, "renew the certificate of `{name}` on the host that has its key");
            }
            Remedy::RotateAuthority => "replace the authority",
            Remedy::TrustServersAuthority { name } => {
                return write!(
                    f,
                    "check the address, and use the web-ipc-ca.crt of the home that the server's \
                     certificate was made in; if this is the server's home, make a new certificate \
                     for `{name}`"
                );
            }
            Remedy::UseCertifiedName => "use a name that the certificate is for",
            Remedy::ChooseDays => "use another number of days",
            Remedy::ChooseFewerNames => "use fewer names",
            Remedy::ChoosePeerName => "use a host name such as server1.example, or an address",
            Remedy::WriteALabel => "write it in its A-label form, as in the certificate: xn--…",
            Remedy::NameUser => "use the user that was made for this client",
            Remedy::ChooseUserName => "use another user name",
            Remedy::ChoosePassword => "use another password",
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
            Remedy::ListUsers => "list the users",
            Remedy::BindUser { .. } => {
                "use the certificate that the user is bound to, or bind the user to this one in \
                 the server's home"
            }
            Remedy::RenewEach => "renew in the home of each of them",
            Remedy::DropOldAuthority { force: false } => {
                "drop the old authority when every client has followed"
            }
            Remedy::DropOldAuthority { force: true } => {
                "drop the old authority by force: they are refused then"
            }
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
            Remedy::DropUsedKey { .. } => {
                "renew in the home of each of them, which gives it the new key, or drop the key by \
                 force: they are refused then"
            }
            Remedy::UpdateInbox => "open the inbox once, which brings it up to date",
            Remedy::UseNewerVersion => "use the newer web-ipc with this home",
            Remedy::ChooseBackupPlace => "name a directory elsewhere that does not exist yet",
            Remedy::ChooseBackupFile => "name a file elsewhere that does not exist yet",
            Remedy::Diagnose => "have the home diagnosed, which says what mends it",
            Remedy::MoveHomeAside => {
                "have the home that is there moved aside, by force, or use another directory"
            }
            Remedy::EnrolAnew => {
                "have whoever runs the server enrol this client anew, and accept that enrolment here"
            }
            Remedy::EnrolPeerAnew { name, .. } => {
                return write!(
                    f,
                    "cancel the enrolment of `{name}`, create another one, and have it accepted \
                     on the other host"
                );
            }
            Remedy::ReplaceOwnCertificate { .. } => {
                "have whoever runs the server renew the certificate of this client, or enrol it anew"
            }
            Remedy::UseServersKeys => {
                "check that both ends have the same envelope.keys; have an enrolled client \
                 enrolled anew"
            }
            Remedy::RemovePair { name } => {
                return write!(f, "remove {name}.crt and {name}.key where nobody uses them");
            }
            Remedy::SetClock => "set the clock of this host",
            Remedy::CheckClocks => "check the clocks of both hosts",
            Remedy::TryAgain => "try again",
            Remedy::WaitForOther => "try again when the other process has ended",
            Remedy::UseHttps => "use https (`Protocol::Https`)",
            Remedy::CheckAddressOrUseHttp => {
                "check the address; if it is a web-ipc server for plain http, use http \
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
                f.write_str("remove all permissions of group and others from everything in")
            }
            ModeChange::NotWritableByOthers => {
                f.write_str("remove the write permission of group and others from")
            }
            ModeChange::OwnerEverything => f.write_str("give the owner all permissions on"),
            ModeChange::OwnerWrites => f.write_str("give the owner write permission on"),
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
            "give the owner write permission on /a and /b"
        );
    }
}

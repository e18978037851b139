//! Puts the remedy of an error in words that name commands and options.
//!
//! `error.rs` and the doctor come here with the `Remedy` of a library. Libraries name no commands,
//! since programs without this command line use them too. What a remedy is in words depends on the
//! home in which it is read: a client's certificate is renewed in the server's own home, and comes
//! with another enrolment in that of an enrolled client.

use std::path::{Path, PathBuf};

use ipc_base::{ModeChange, Place, Remedy};
use ipc_home::{Enrolled, Home, locate};
use ipc_setup::{Enrolment, EnrolmentState, list_enrolments};

use crate::shell::{command, shell_quoted};

/// In which home a remedy is read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    /// The `--home` that the user gave.
    explicit_home: Option<&'a Path>,
    kind: Kind,
}

/// What kind of home that is.
#[derive(Debug)]
enum Kind {
    /// One with an authority, users and the server's keys.
    Server { has_authority_key: bool },
    /// That of an enrolled client or further server.
    Enrolled(Enrolled),
    /// A client's, with files that were copied from a server's home.
    Copied,
    /// There is no home, or it cannot be read.
    Unknown,
}

impl<'a> Reader<'a> {
    /// Whoever uses the home that the user gave, or the one that is used without `--home`.
    pub(crate) fn of(explicit_home: Option<&'a Path>) -> Self {
        let kind = locate(explicit_home).map_or(Kind::Unknown, |path| {
            let home = Home::at(path);
            match home.enrolled() {
                Ok(Some(enrolled)) => Kind::Enrolled(enrolled),
                _ if home.is_client_directory() => Kind::Copied,
                _ if home.ca_certificate_file().is_file() => {
                    Kind::Server { has_authority_key: home.ca_key_file().is_file() }
                }
                _ => Kind::Unknown,
            }
        });
        Self { explicit_home, kind }
    }

    /// Somebody of whose home nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { explicit_home: None, kind: Kind::Unknown }
    }

    /// The `--home` of commands that make or manage something: they are for the server's home, not
    /// for that of a client.
    pub(crate) fn servers_home(&self) -> Option<&'a Path> {
        let is_client = matches!(self.kind, Kind::Copied | Kind::Enrolled(Enrolled::Client(_)));
        self.explicit_home.filter(|_| !is_client)
    }
}

/// The enrolment of a name in a home, if there is one that was not cancelled.
pub(crate) fn enrolment_of(home: &Home, name: &str) -> Option<Enrolment> {
    let enrolments = list_enrolments(home).ok()?;
    enrolments
        .into_iter()
        .find(|one| one.name.eq_ignore_ascii_case(name) && one.state != EnrolmentState::Cancelled)
}

/// The arguments that enrol a client or further server.
pub(crate) fn enrolment_arguments(name: &str, user: &str, is_server: bool) -> String {
    let mut arguments = format!("--enrol --create --name {}", shell_quoted(name));
    if !user.eq_ignore_ascii_case(name) {
        arguments += &format!(" --user {}", shell_quoted(user));
    }
    if is_server {
        arguments += " --kind server";
    }
    arguments
}

/// The remedy as a clause that begins with a verb.
pub(crate) fn sentence(remedy: &Remedy, reader: &Reader<'_>) -> String {
    let home = reader.servers_home();
    let run = |arguments: &str| format!("run {}", command(home, arguments));
    match remedy {
        Remedy::AnyOf(all) => joined(all, reader, ", or "),
        Remedy::InOrder(all) => joined(all, reader, ", then "),
        Remedy::NameHome => "give a directory with --home DIR or set WEB_IPC_HOME".to_owned(),
        Remedy::UseAnotherHome => "give another directory with --home DIR".to_owned(),
        Remedy::UseWritableHome => {
            "give a home on a disk that can be written with --home DIR".to_owned()
        }
        Remedy::UseShorterHomePath => "give a shorter path with --home DIR".to_owned(),
        Remedy::UseServersHome => "run it on the server's host, in the server's home".to_owned(),
        Remedy::UseFirstServersHome => {
            "run it on the first server's host, in that server's home; then run web-ipc --certs \
             --renew here to follow"
                .to_owned()
        }
        Remedy::MakeHome => run("--init --run"),
        Remedy::FinishHome => format!("{}, which finishes it", run("--init --run")),
        Remedy::ReplaceHome => {
            format!("{} for a new home (the old one is kept aside)", run("--init --run --force"))
        }
        Remedy::EmptyHome { path } => format!(
            "move what is in {} elsewhere yourself, then {}",
            shell_quoted(path),
            run("--init --run")
        ),
        Remedy::TakeOver { path } => format!(
            "take it over into a new home, with {}",
            command(
                Some(Path::new("NEW")),
                &format!("--init --run --importFrom {}", shell_quoted(path))
            )
        ),
        Remedy::CopyUsersToDatabase => format!("{} first", run("--users --copyTo URL")),
        Remedy::FixPermissions { paths, change } => chmod(paths, *change),
        Remedy::ChangeOwner { .. } => {
            "give it to the user who owns the home, with chown".to_owned()
        }
        Remedy::RunAs { user, home } => format!(
            "run it as that user: sudo -u {} {}",
            shell_quoted(user),
            command(Some(home), "...")
        ),
        Remedy::RestoreLog { path } => format!(
            "put {} back beside it ({} makes copies that are whole)",
            shell_quoted(path),
            command(home, "--backup --run")
        ),
        Remedy::ReplaceLog { database, log } => format!(
            "run touch {} where another program has written it into {} already",
            shell_quoted(log),
            shell_quoted(database)
        ),
        Remedy::MoveAside { path } => format!(
            "move {} and what lies beside it under its name away for an empty one",
            shell_quoted(path)
        ),
        Remedy::ReplaceLink { path } => {
            format!("put the file itself in the place of {}", shell_quoted(path))
        }
        Remedy::MendLink { path } => format!("remove {} or mend it", shell_quoted(path)),
        Remedy::RemoveObstacle { path } => {
            format!("remove {} and run it again", shell_quoted(path))
        }
        Remedy::RemakeFile { path } => format!(
            "remove {}, then {}, which makes a new one",
            shell_quoted(path),
            run("--init --run")
        ),
        Remedy::SaveAsUtf8 { .. } => {
            "put it there in UTF-8; iconv -f UTF-16 -t UTF-8 makes it so".to_owned()
        }
        Remedy::DecryptKey { path } => format!(
            "write it without one (openssl pkey -in {} -out NEW, then put NEW in its place)",
            shell_quoted(path)
        ),
        Remedy::MakeRoom => "make room on the disk and run it again".to_owned(),
        Remedy::RaiseFileSizeLimit => {
            "raise the limit for the size of a file (ulimit -f) and run it again".to_owned()
        }
        Remedy::IssueCertificate { name, alt_names, replace, place } => {
            issue(name, alt_names, *replace, *place, home)
        }
        Remedy::OverwriteCertificate { name } => {
            let arguments = format!("--certs --name {} --force", shell_quoted(name));
            format!("{} to replace it", run(&arguments))
        }
        Remedy::IssueClientCertificate => format!(
            "make this client a new certificate in the home of the server, with {}",
            command(home, "--certs --name NAME")
        ),
        Remedy::TrustServersAuthority { name } => {
            let arguments = format!("--certs --name {} --force", shell_quoted(name));
            format!(
                "check the address, and use the web-ipc-ca.crt of the home that the server's \
                 certificate was made in; if this is the server's home, make it anew with {}",
                command(home, &arguments)
            )
        }
        Remedy::RenewCertificate { name } => {
            run(&format!("--certs --renew --name {}", shell_quoted(name)))
        }
        Remedy::RenewOwnCertificate => {
            format!("run {}", command(reader.explicit_home, "--certs --renew"))
        }
        Remedy::ReplaceOwnCertificate { name } => {
            replace_own(name.as_deref().unwrap_or("NAME"), reader)
        }
        Remedy::EnrolAnew => match &reader.kind {
            Kind::Enrolled(enrolled) => enrol_anew(enrolled, reader.explicit_home),
            _ => remedy.to_string(),
        },
        Remedy::UseServersKeys => match &reader.kind {
            Kind::Enrolled(enrolled) => enrol_anew(enrolled, reader.explicit_home),
            _ => "check that both ends have the same envelope.keys".to_owned(),
        },
        Remedy::EnrolPeerAnew { name, is_server } => {
            let enrolment = match reader.kind {
                Kind::Server { .. } => locate(reader.explicit_home)
                    .ok()
                    .and_then(|path| enrolment_of(&Home::at(path), name)),
                _ => None,
            };
            let user = enrolment.as_ref().map_or(name, |enrolment| &enrolment.user);
            format!(
                "{} and {}, and accept that bundle on the other host",
                run(&format!("--enrol --cancel {}", shell_quoted(name))),
                command(home, &enrolment_arguments(name, user, *is_server))
            )
        }
        Remedy::RemovePair { name } => format!(
            "remove {} and {} where nobody uses them",
            shell_quoted(format!("{name}.crt")),
            shell_quoted(format!("{name}.key"))
        ),
        Remedy::RenewElsewhere { name } => format!(
            "run web-ipc --certs --renew on the host that has the key of {}",
            shell_quoted(name)
        ),
        Remedy::RotateAuthority => run("--certs --rotateCa"),
        Remedy::ChooseDays => "give another number of days with --days N".to_owned(),
        Remedy::ChooseFewerNames => "give fewer with --altNames".to_owned(),
        Remedy::WriteALabel => {
            format!("write it as {} told the name of the pair: xn--…", command(home, "--certs"))
        }
        Remedy::NameUser => {
            "give the user that was made for this client with --user NAME".to_owned()
        }
        Remedy::ChooseUserName => "give another name with --user NAME".to_owned(),
        Remedy::ChoosePassword => "give another one with --password".to_owned(),
        Remedy::ChangePassword { user } => run(&users("--change", user)),
        Remedy::RepeatPassword { user } => {
            format!("{} with the same password", run(&users("--change", user)))
        }
        Remedy::RenewCredentials { user } => format!(
            "{}, or {} if the user was deleted: both renew admin.cred",
            run(&users("--change", user)),
            command(home, &users("--add", user))
        ),
        Remedy::TestCredentials { user } => format!(
            "try them on the server's host, in the server's home, with {}",
            command(home, &users("--testCredentials", user))
        ),
        Remedy::BindUser { user, peer } => {
            let (user, peer) = (user.as_deref().unwrap_or("USER"), peer.as_deref());
            let peer = shell_quoted(peer.unwrap_or("PEER"));
            let arguments = format!("--users --bind {} --cert {peer}", shell_quoted(user));
            let (place, home) = match reader.kind {
                Kind::Server { .. } => ("", home),
                // Users are bound where the first server has them.
                Kind::Enrolled(_) => ("in the server's home, ", None),
                _ => ("in the server's home, ", home),
            };
            format!(
                "{place}run {}, or use the home of the peer that the user is bound to",
                command(home, &arguments)
            )
        }
        Remedy::ListUsers => format!("{} to see who is there", run("--users --list")),
        Remedy::DropOldAuthority { force: false } => {
            format!("{} when every client has followed", run("--certs --dropOldCa"))
        }
        Remedy::RenewEach => "run web-ipc --certs --renew in the home of each of them".to_owned(),
        Remedy::DropOldAuthority { force: true } => {
            format!("{}: they are refused then", run("--certs --dropOldCa --force"))
        }
        Remedy::MakeBundle => {
            "make another in the server's home with web-ipc --enrol --create --name NAME".to_owned()
        }
        Remedy::ListEnrolments => format!("{} to see them", run("--enrol --list")),
        Remedy::CancelEnrolment { name } => {
            format!("{} first", run(&format!("--enrol --cancel {}", shell_quoted(name))))
        }
        Remedy::NameAddress => "give one with --server ADDRESS".to_owned(),
        Remedy::ListCertificates => format!("{} to see them", run("--certs --list")),
        Remedy::ListKeys => format!("{} to see them", run("--keys --list")),
        Remedy::RotateKeys { session } => {
            let session = if *session { " --session" } else { "" };
            format!("{} first, for a new one", run(&format!("--keys --rotate{session}")))
        }
        Remedy::DropKey => {
            format!("drop one that nobody uses any more with {}", command(home, "--keys --drop ID"))
        }
        Remedy::DropUsedKey { id } => format!(
            "run web-ipc --certs --renew in the home of each of them, which gives it the new key, \
             or {}: they are refused then",
            run(&format!("--keys --drop {id} --force"))
        ),
        Remedy::UpdateInbox => {
            format!("{}, which brings it up to date, and run it again", run("--dead --list"))
        }
        Remedy::ChooseBackupPlace => {
            "name a directory elsewhere that is not there yet with --out DIR".to_owned()
        }
        Remedy::ChooseBackupFile => {
            "choose a path outside the home that does not exist yet".to_owned()
        }
        Remedy::Diagnose => format!("{}, which says what mends it", run("--doctor")),
        Remedy::MoveHomeAside => {
            "give --force to have it kept aside under a dated name, or another directory with \
             --home DIR"
                .to_owned()
        }
        Remedy::TryAgain => "run it again".to_owned(),
        Remedy::WaitForOther => "run it again when the other process is done".to_owned(),
        Remedy::RunAsOwner => "run as the user who owns the home".to_owned(),
        Remedy::UseHttps => "give --protocol https".to_owned(),
        Remedy::CheckAddressOrUseHttp => {
            "check the address; if it is a web-ipc server that was started with --protocol http, \
             give the same"
                .to_owned()
        }
        // Remedies that name no command have the words of the library.
        other => other.to_string(),
    }
}

/// How a client gets a certificate in the place of one that the server does not accept.
fn replace_own(name: &str, reader: &Reader<'_>) -> String {
    let home = reader.servers_home();
    let renew = format!("--certs --renew --name {}", shell_quoted(name));
    match &reader.kind {
        Kind::Enrolled(enrolled) => enrol_anew(enrolled, reader.explicit_home),
        Kind::Server { has_authority_key: true } => format!("run {}", command(home, &renew)),
        Kind::Server { has_authority_key: false } => {
            format!("run web-ipc {renew} in the home that has web-ipc-ca.key, and copy the pair")
        }
        Kind::Copied | Kind::Unknown => format!(
            "{}, and put {name}.crt and {name}.key here",
            issue(name, &[], true, Place::ServersHome, home)
        ),
    }
}

/// How an enrolled home is enrolled once more. A name that has accepted is cancelled first, and a
/// bundle is accepted into an empty directory alone.
fn enrol_anew(enrolled: &Enrolled, explicit_home: Option<&Path>) -> String {
    let settings = enrolled.settings();
    let name = settings.identity.as_str();
    let is_server = matches!(enrolled, Enrolled::Server(_));
    format!(
        "have whoever runs the server run web-ipc --enrol --cancel {} and web-ipc {}, then move \
         this home aside and run {}",
        shell_quoted(name),
        enrolment_arguments(name, &settings.username, is_server),
        command(explicit_home, "--enrol --accept BUNDLE")
    )
}

fn joined(all: &[Remedy], reader: &Reader<'_>, separator: &str) -> String {
    let all: Vec<_> = all.iter().map(|remedy| sentence(remedy, reader)).collect();
    all.join(separator)
}

fn users(action: &str, user: &str) -> String {
    format!("--users {action} --user {}", shell_quoted(user))
}

fn chmod(paths: &[PathBuf], change: ModeChange) -> String {
    let mode = match change {
        ModeChange::To(mode) => format!("{mode:o}"),
        ModeChange::OwnerOnly => "-R go=".to_owned(),
        ModeChange::NotWritableByOthers => "go-w".to_owned(),
        ModeChange::OwnerEverything => "u+rwx".to_owned(),
        ModeChange::OwnerWrites => "u+w".to_owned(),
        other => return format!("{other} {}", quoted(paths)),
    };
    format!("run chmod {mode} {}", quoted(paths))
}

fn quoted(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(shell_quoted).collect();
    paths.join(" ")
}

fn issue(
    name: &str,
    alt_names: &[String],
    replace: bool,
    place: Place,
    home: Option<&Path>,
) -> String {
    let mut arguments = format!("--certs --name {}", shell_quoted(name));
    if !alt_names.is_empty() {
        let names: Vec<_> = alt_names.iter().map(shell_quoted).collect();
        arguments += &format!(" --altNames {}", names.join(" "));
    }
    match place {
        Place::AuthoritysHome => {
            // The path of that home is not known here, nor whether it has such a pair already.
            return format!(
                "make the pair where web-ipc-ca.key is kept, with {arguments}, and put {name}.crt \
                 and {name}.key here"
            );
        }
        _ if replace => arguments += " --force",
        _ => {}
    }
    match place {
        Place::ServersHome => {
            format!("make it anew in the home of the server, with {}", command(home, &arguments))
        }
        _ => format!("run {}", command(home, &arguments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(remedy: &Remedy) -> String {
        sentence(remedy, &Reader::unknown())
    }

    fn read_in(kind: Kind) -> Reader<'static> {
        Reader { explicit_home: Some(Path::new("/my home")), kind }
    }

    /// The home of an enrolled client or further server.
    fn enrolled(make: fn(ipc_home::ClientSettings) -> Enrolled) -> Reader<'static> {
        let name = |name| ipc_home::PeerName::parse(name).unwrap();
        read_in(Kind::Enrolled(make(ipc_home::ClientSettings {
            server: name("localhost"),
            addresses: vec!["192.0.2.1:3000".to_owned()],
            identity: name("worker1"),
            username: "ada".to_owned(),
        })))
    }

    #[test]
    fn a_certificate_that_is_refused_is_replaced_in_the_way_of_the_home() {
        let replace = Remedy::ReplaceOwnCertificate { name: Some("worker1".to_owned()) };
        let anew = "have whoever runs the server run web-ipc --enrol --cancel worker1 and web-ipc \
                    --enrol --create --name worker1 --user ada, then move this home aside and run \
                    web-ipc --home '/my home' --enrol --accept BUNDLE";
        let client = enrolled(Enrolled::Client);
        let unnamed = Remedy::ReplaceOwnCertificate { name: None };
        for remedy in [&replace, &unnamed, &Remedy::EnrolAnew, &Remedy::UseServersKeys] {
            assert_eq!(sentence(remedy, &client), anew);
        }
        let node = sentence(&replace, &enrolled(Enrolled::Server));
        assert!(node.contains("--create --name worker1 --user ada --kind server, then"), "{node}");

        let server = |has_authority_key| read_in(Kind::Server { has_authority_key });
        assert_eq!(
            sentence(&replace, &server(true)),
            "run web-ipc --home '/my home' --certs --renew --name worker1"
        );
        assert_eq!(
            sentence(&unnamed, &server(true)),
            "run web-ipc --home '/my home' --certs --renew --name NAME"
        );
        assert_eq!(
            sentence(&replace, &server(false)),
            "run web-ipc --certs --renew --name worker1 in the home that has web-ipc-ca.key, and \
             copy the pair"
        );
        assert_eq!(
            sentence(&replace, &read_in(Kind::Copied)),
            "make it anew in the home of the server, with web-ipc --certs --name worker1 --force, \
             and put worker1.crt and worker1.key here"
        );
        for reader in [server(true), read_in(Kind::Copied), read_in(Kind::Unknown)] {
            assert_eq!(
                sentence(&Remedy::UseServersKeys, &reader),
                "check that both ends have the same envelope.keys"
            );
        }
    }

    #[test]
    fn a_user_is_bound_in_the_servers_home_or_the_peers_own_is_used() {
        let bind = |user: Option<&str>, peer: Option<&str>| Remedy::BindUser {
            user: user.map(str::to_owned),
            peer: peer.map(str::to_owned),
        };
        assert_eq!(
            sentence(&bind(Some("a b"), Some("worker1")), &enrolled(Enrolled::Client)),
            "in the server's home, run web-ipc --users --bind 'a b' --cert worker1, or use the \
             home of the peer that the user is bound to"
        );
        let node = sentence(&bind(None, None), &enrolled(Enrolled::Server));
        assert!(
            node.starts_with("in the server's home, run web-ipc --users --bind USER --cert PEER"),
            "{node}"
        );
        let server = read_in(Kind::Server { has_authority_key: true });
        let here = sentence(&bind(None, None), &server);
        assert!(
            here.starts_with("run web-ipc --home '/my home' --users --bind USER --cert PEER, or"),
            "{here}"
        );
    }

    #[test]
    fn only_commands_for_a_clients_own_home_name_it() {
        for client in [enrolled(Enrolled::Client), read_in(Kind::Copied)] {
            let own = sentence(&Remedy::RenewOwnCertificate, &client);
            assert_eq!(own, "run web-ipc --home '/my home' --certs --renew");
            assert_eq!(
                sentence(&Remedy::ListUsers, &client),
                "run web-ipc --users --list to see who is there"
            );
        }
        for server in [read_in(Kind::Server { has_authority_key: true }), read_in(Kind::Unknown)] {
            let list = sentence(&Remedy::ListUsers, &server);
            assert!(list.starts_with("run web-ipc --home '/my home' --users"), "{list}");
        }
    }

    #[test]
    fn the_kind_of_a_home_is_seen_in_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let kind = || Reader::of(Some(path)).kind;
        assert!(matches!(kind(), Kind::Unknown), "{:?}", kind());
        std::fs::write(path.join("web-ipc-ca.crt"), "").unwrap();
        assert!(matches!(kind(), Kind::Server { has_authority_key: false }), "{:?}", kind());
        std::fs::write(path.join("web-ipc-ca.key"), "").unwrap();
        assert!(matches!(kind(), Kind::Server { has_authority_key: true }), "{:?}", kind());
        std::fs::remove_file(path.join("web-ipc-ca.key")).unwrap();
        std::fs::write(path.join("envelope.keys"), "").unwrap();
        assert!(matches!(kind(), Kind::Copied), "{:?}", kind());
        let Kind::Enrolled(client) = enrolled(Enrolled::Client).kind else { unreachable!() };
        Home::at(path).write_client_settings(client.settings()).unwrap();
        assert!(matches!(kind(), Kind::Enrolled(Enrolled::Client(_))), "{:?}", kind());
    }

    #[test]
    fn what_is_done_by_a_command_names_it_with_the_home_that_the_user_gave() {
        let home = &read_in(Kind::Unknown);
        assert_eq!(said(&Remedy::MakeHome), "run web-ipc --init --run");
        assert_eq!(sentence(&Remedy::MakeHome, home), "run web-ipc --home '/my home' --init --run");
        let restore = Remedy::RestoreFile { path: "/x/envelope.keys".into() };
        assert_eq!(
            sentence(&restore.or(Remedy::ReplaceHome), home),
            "put back a good copy of the file, or run web-ipc --home '/my home' --init --run \
             --force for a new home (the old one is kept aside)"
        );
        let run_as = Remedy::RunAs { user: "#12".into(), home: "/x".into() };
        assert_eq!(
            sentence(&run_as, home),
            "run it as that user: sudo -u '#12' web-ipc --home /x ..."
        );
    }

    #[test]
    fn a_certificate_is_made_here_in_the_servers_home_or_where_the_authoritys_key_is() {
        for (remedy, says) in [
            (Remedy::issue("peer1", false, Place::ThisHome), "run web-ipc --certs --name peer1"),
            (
                Remedy::issue("localhost", true, Place::ThisHome),
                "run web-ipc --certs --name localhost --altNames localhost 127.0.0.1 ::1 --force",
            ),
            (
                Remedy::issue("localhost", true, Place::ServersHome),
                "make it anew in the home of the server, with web-ipc --certs --name localhost --force",
            ),
            (
                Remedy::issue("peer1", false, Place::AuthoritysHome),
                "make the pair where web-ipc-ca.key is kept, with --certs --name peer1, and put \
                 peer1.crt and peer1.key here",
            ),
            (
                Remedy::IssueCertificate {
                    name: "a".into(),
                    alt_names: vec!["a".into(), "*.b.example".into()],
                    replace: true,
                    place: Place::ServersHome,
                },
                "make it anew in the home of the server, with web-ipc --certs --name a --altNames \
                 a '*.b.example' --force",
            ),
        ] {
            assert_eq!(said(&remedy), says);
        }
    }

    #[test]
    fn a_user_name_is_quoted_for_the_shell() {
        let test = Remedy::TestCredentials { user: "a; b".into() };
        assert!(said(&test).ends_with("web-ipc --users --testCredentials --user 'a; b'"));
        let renew = said(&Remedy::RenewCredentials { user: "ipc-admin".into() });
        assert!(
            renew.starts_with(
                "run web-ipc --users --change --user ipc-admin, or web-ipc --users --add"
            ),
            "{renew}"
        );
    }

    #[test]
    fn permissions_are_changed_with_a_chmod_that_can_be_pasted() {
        let fix = |change| {
            said(&Remedy::FixPermissions {
                paths: vec!["/tmp/my home".into(), "/b".into()],
                change,
            })
        };
        assert_eq!(fix(ModeChange::To(0o700)), "run chmod 700 '/tmp/my home' /b");
        assert_eq!(fix(ModeChange::OwnerOnly), "run chmod -R go= '/tmp/my home' /b");
        assert_eq!(fix(ModeChange::OwnerWrites), "run chmod u+w '/tmp/my home' /b");
    }

    #[test]
    fn a_file_that_lacks_its_log_goes_on_with_either() {
        let remedy = Remedy::RestoreLog { path: "/x/inbox.db-wal".into() }.or(Remedy::ReplaceLog {
            database: "/x/inbox.db".into(),
            log: "/x/inbox.db-wal".into(),
        });
        assert_eq!(
            said(&remedy),
            "put /x/inbox.db-wal back beside it (web-ipc --backup --run makes copies that are \
             whole), or run touch /x/inbox.db-wal where another program has written it into \
             /x/inbox.db already"
        );
    }
}

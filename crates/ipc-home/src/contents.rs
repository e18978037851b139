//! Classifies a directory by the names in it: a home, an unfinished home, or a foreign directory.
//!
//! `listing` calls it for a home, and errors call it to choose a remedy. It opens no file.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use ipc_base::PeerName;

/// Names that exist only in a web-ipc home.
const MARKS: [&str; 2] = ["envelope.keys", "admin.cred"];

/// Names that exist only in the environment directory of the Python tool: its wrapped key and its
/// credentials.
const PYTHON_MARKS: [&str; 2] = [".xork", ".ipca"];

/// Other names in a home whose creation was interrupted early. A lone `users.db` also occurs: users
/// of the Python tool copy it to keep their accounts.
const EARLY: [&str; 12] = [
    ".lock",
    "session.key",
    "web-ipc-ca.crt",
    "web-ipc-ca.key",
    "localhost.crt",
    "localhost.key",
    "sessions",
    "users.url",
    "users.db",
    "users.db-wal",
    "users.db-shm",
    "users.db-journal",
];

/// The configuration of the command line. Somebody may write it before there is a home.
pub(crate) const CONFIGURATION: &str = "web-ipc.toml";

/// The suffix of a new certificate or key that is complete but has not replaced the old one yet.
pub(crate) const STAGED_SUFFIX: &str = ".new";

/// The suffix of a file that is being written.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a directory is, judged by the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// Empty, except for the configuration, the lock and temporary files of a home.
    Nothing,
    /// Only a `users.db`, for which a home is to be made.
    OnlyUsers,
    /// A home whose creation has begun and not ended.
    Begun,
    /// A complete home.
    Complete,
    /// The directory of a client on another host: keys and certificates from a home elsewhere.
    Client,
    /// The environment directory of the Python tool.
    PythonTool,
    /// None of these.
    Foreign,
}

/// Whether it is the directory of a client, as far as the system lets us read it.
pub(crate) fn is_client_directory(directory: &Path) -> bool {
    names_in(directory).is_ok_and(|names| contents_of(&names) == Contents::Client)
}

/// The names in a directory, in no particular order.
pub(crate) fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Classifies a directory with these names. It does not recognise a complete home: that needs a
/// look at `admin.cred` itself, which may be a broken link.
pub(crate) fn contents_of(names: &[OsString]) -> Contents {
    let has_any = |marks: &[&str]| names.iter().any(|name| marks.iter().any(|mark| name == mark));
    if is_client(names) {
        return Contents::Client;
    }
    if has_any(&MARKS) {
        return Contents::Begun;
    }
    if has_any(&PYTHON_MARKS) {
        return Contents::PythonTool;
    }
    let mut contents = Contents::Nothing;
    let counts = |name: &&OsString| {
        *name != ".lock" && *name != CONFIGURATION && !is_temporary(name.as_os_str())
    };
    for name in names.iter().filter(counts) {
        match name.to_str() {
            Some(name) if name.starts_with("users.db") && EARLY.contains(&name) => {
                if contents == Contents::Nothing {
                    contents = Contents::OnlyUsers;
                }
            }
            Some(early) if EARLY.contains(&early) || staged_name(name).is_some() => {
                contents = Contents::Begun;
            }
            _ => return Contents::Foreign,
        }
    }
    contents
}

/// Names that exist only in a home, and must never be copied to a client.
const OF_SERVERS: [&str; 5] =
    ["session.key", "web-ipc-ca.key", "admin.cred", "users.db", "users.url"];

/// What tells the directory of a client or server whose enrolment was cut short, whatever else is
/// in it yet: nothing but accepting a bundle again completes it. `ipc-setup` writes it first and
/// removes it last.
const ENROLLING: &str = ".enrolling";

/// Whether the directory has at least two of the three things that a client needs, and nothing that
/// exists only in a home. An interrupted creation of a home leaves only one of the three without
/// `session.key` or the authority's key.
fn is_client(names: &[OsString]) -> bool {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(ENROLLING) {
        return true;
    }
    if OF_SERVERS.into_iter().any(has) {
        return false;
    }
    let has_pair = names.iter().any(|name| {
        let peer = name.to_str().and_then(|name| name.strip_suffix(".key"));
        peer.is_some_and(|peer| PeerName::parse(peer).is_ok() && has(&format!("{peer}.crt")))
    });
    let given = [has("envelope.keys"), has("web-ipc-ca.crt"), has_pair];
    given.into_iter().filter(|is_there| *is_there).count() >= 2
}

/// `.NAME.<16 hex digits>.tmp`, the names of a [`StagedFile`](crate::StagedFile).
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let Some(stem) =
        name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(TEMPORARY_SUFFIX))
    else {
        return false;
    };
    stem.rsplit_once('.').is_some_and(|(name, random)| {
        !name.is_empty()
            && random.len() == 16
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The name of the pair, if the file is a staged certificate or key.
pub(crate) fn staged_name(name: &OsStr) -> Option<PeerName> {
    let name = name.to_str()?.strip_prefix('.')?.strip_suffix(STAGED_SUFFIX)?;
    PeerName::parse(name.strip_suffix(".crt").or_else(|| name.strip_suffix(".key"))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(names: &[&str]) -> Contents {
        contents_of(&names.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_lock_the_configuration_and_temporary_files_are_nothing() {
        for names in [
            &[][..],
            &[".lock"],
            &["web-ipc.toml"],
            &[".lock", "web-ipc.toml", ".envelope.keys.0123456789abcdef.tmp"],
        ] {
            assert_eq!(contents(names), Contents::Nothing, "{names:?}");
        }
    }

    #[test]
    fn a_database_of_users_may_be_brought_along() {
        for names in [&["users.db"][..], &[".lock", "users.db", "users.db-wal", "users.db-shm"]] {
            assert_eq!(contents(names), Contents::OnlyUsers, "{names:?}");
        }
    }

    #[test]
    fn a_home_is_told_by_its_marks_or_by_holding_nothing_else() {
        for names in [
            &["envelope.keys", "anything", "peer1.crt"][..],
            &["session.key"],
            &["users.db", "web-ipc-ca.key"],
            &["web-ipc-ca.key", "users.db"],
            &["web-ipc-ca.crt", "web-ipc-ca.key", "localhost.key", ".localhost.crt.new"],
            &["envelope.keys", ".xork"],
        ] {
            assert_eq!(contents(names), Contents::Begun, "{names:?}");
        }
    }

    #[test]
    fn a_client_is_told_by_what_it_was_given_and_by_what_it_must_not_have() {
        let given = ["envelope.keys", "web-ipc-ca.crt", "peer1.crt", "peer1.key"];
        assert_eq!(contents(&given), Contents::Client);
        assert_eq!(
            contents(&["sessions", ".lock", "envelope.keys", "web-ipc-ca.crt"]),
            Contents::Client
        );
        assert_eq!(contents(&["web-ipc-ca.crt", "peer1.crt", "peer1.key"]), Contents::Client);
        assert_eq!(contents(&["envelope.keys", "peer1.crt", "peer1.key"]), Contents::Client);
        for only_in_homes in OF_SERVERS {
            assert_eq!(
                contents(&[&given[..], &[only_in_homes]].concat()),
                Contents::Begun,
                "{only_in_homes}"
            );
        }
        // A creation that was killed early leaves this.
        assert_eq!(contents(&["envelope.keys"]), Contents::Begun);
        // What an enrolment that was killed early leaves.
        assert_eq!(contents(&[".lock", ".enrolling"]), Contents::Client);
        assert_eq!(contents(&[".lock", ".enrolling", "envelope.keys"]), Contents::Client);
        // No home is made of what an enrolment of a server left: it has no authority of its own.
        assert_eq!(contents(&[".enrolling", "session.key", "users.db"]), Contents::Client);
    }

    #[test]
    fn the_directory_of_the_python_tool_is_told() {
        assert_eq!(
            contents(&["users.db", "web-ipc-ca.crt", "ca-serial", ".xork"]),
            Contents::PythonTool
        );
        assert_eq!(contents(&[".ipca"]), Contents::PythonTool);
    }

    #[test]
    fn anything_else_is_somebody_elses() {
        for names in [
            &["notes.txt"][..],
            &["users.db", "notes.txt"],
            &["users.db.bak"],
            &[".lock", "Cargo.toml"],
            &[".x.tmp"],
            // These are in a directory of trusted certificates.
            &["web-ipc-ca.crt", "other-ca.crt"],
        ] {
            assert_eq!(contents(names), Contents::Foreign, "{names:?}");
        }
    }

    #[test]
    fn temporary_files_are_told_by_their_whole_form() {
        assert!(is_temporary(OsStr::new(".admin.cred.00112233445566ff.tmp")));
        for name in [
            "admin.cred.00112233445566ff.tmp",
            ".admin.cred.tmp",
            "..00112233445566ff.tmp",
            ".a.0011.tmp",
        ] {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn staged_halves_are_told_by_their_whole_form() {
        for name in [".server1.example.crt.new", ".server1.example.key.new"] {
            assert_eq!(staged_name(OsStr::new(name)).unwrap().as_str(), "server1.example");
        }
        for name in ["server1.crt.new", ".server1.new", ".server1.crt", "..crt.new", ".a b.crt.new"]
        {
            assert!(staged_name(OsStr::new(name)).is_none(), "{name}");
        }
    }
}

//! What a user can do where the system refuses a file, and commands that can be pasted.
//!
//! The errors of this crate and of those above come here. Files are looked at, and none is opened.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::accounts::own_uid;
use crate::permissions::is_read_only;

/// What makes a pair anew, as a clause that begins with a verb: a command, or, where the
/// authority's key is kept elsewhere, what to do there. `path` is one of its two files.
#[must_use]
pub fn remedy_of_pair(path: &Path, name: &str) -> String {
    certs_clause(path, name, true)
}

/// What makes the pair of `name`, of which `path` is or was a file, as a clause that begins with a
/// verb. Without the authority's key nothing can be issued here.
pub(crate) fn certs_clause(path: &Path, name: &str, force: bool) -> String {
    let is_there = |name: &str| path.with_file_name(name).symlink_metadata().is_ok();
    if is_there("web-ipc-ca.crt") && !is_there("web-ipc-ca.key") {
        format!(
            "make the pair where web-ipc-ca.key is kept, with --certs --name {name}, and put {name}.crt and \
             {name}.key here"
        )
    } else {
        format!("run {}", certs_command(name, force))
    }
}

/// The command that makes the pair of `name` anew, `localhost` with the names that every home gives
/// it.
fn certs_command(name: &str, force: bool) -> String {
    match (name, force) {
        ("localhost", _) => {
            "web-ipc --certs --name localhost --altNames localhost 127.0.0.1 ::1 --force".to_owned()
        }
        (name, true) => format!("web-ipc --certs --name {name} --force"),
        (name, false) => format!("web-ipc --certs --name {name}"),
    }
}

/// What a user can do where the system refused to read, write or make `path`, as a clause that
/// begins with a verb; `None` where only the cause can tell. It looks at the modes of the file and
/// its directories as they are now.
#[must_use]
pub fn remedy_of_io(error: &io::Error, path: &Path) -> Option<String> {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => return Some(remedy_of_denial(path, own_uid())),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk and run it again"
        }
        io::ErrorKind::FileTooLarge => {
            "raise the limit for the size of a file (ulimit -f) and run it again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "give a directory that can be written with --home DIR",
        io::ErrorKind::InvalidFilename => "give a shorter path with --home DIR",
        // What is in the way, or not there to put anything in.
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::Unsupported
        | io::ErrorKind::CrossesDevices => ANOTHER_DIRECTORY,
        // The kind of too many symbolic links in a path is not stable yet.
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            ANOTHER_DIRECTORY
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}

/// What to do where a directory cannot be the home.
pub(crate) const ANOTHER_DIRECTORY: &str = "give another directory with --home DIR";

/// Who owns a file or directory and has taken the right on it from himself can give it back.
fn remedy_of_denial(path: &Path, own_uid: u32) -> String {
    // The nearest that can be looked at at all, and where that is a file, its directory too.
    for path in path.ancestors() {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let own_rights = if metadata.is_dir() { 0o700 } else { 0o600 };
        if metadata.uid() == own_uid && metadata.mode() & own_rights != own_rights {
            let rights = if metadata.is_dir() { "u+rwx" } else { "600" };
            return format!("run chmod {rights} {}", shell_quoted(path));
        }
        if metadata.is_dir() {
            break;
        }
    }
    "run as the user who owns the home, or give another with --home DIR".to_owned()
}

/// What a user can do about a database that can be read and not written. SQLite writes beside the
/// file too, so either may be what cannot be written; or neither, where it is the disk.
#[must_use]
pub fn remedy_of_read_only(database: &Path) -> String {
    let directory = database.parent().unwrap_or(database);
    let is_closed =
        |path: &Path| path.metadata().is_ok_and(|metadata| metadata.mode() & 0o200 == 0);
    let closed: Vec<_> = [directory, database].into_iter().filter(|path| is_closed(path)).collect();
    if closed.is_empty() || is_read_only(directory) {
        "give a home on a disk that can be written with --home DIR".to_owned()
    } else {
        let closed: Vec<_> = closed.into_iter().map(shell_quoted).collect();
        format!("run chmod u+w {}, or give another home with --home DIR", closed.join(" "))
    }
}

/// A path as one word for a POSIX shell, bare where that is safe.
#[must_use]
pub fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@' | ',');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_be_written_is_opened_with_a_chmod_where_that_helps() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("users.db");
        // Where no mode forbids it, it is the disk; what is not there yet has no mode.
        for make in [false, true] {
            if make {
                std::fs::write(&database, "").unwrap();
            }
            assert!(remedy_of_read_only(&database).contains("--home DIR"));
            assert!(!remedy_of_read_only(&database).contains("chmod"));
        }
        std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o400)).unwrap();
        let chmod = format!("run chmod u+w {}, or", database.display());
        assert!(
            remedy_of_read_only(&database).starts_with(&chmod),
            "{}",
            remedy_of_read_only(&database)
        );
    }

    #[test]
    fn a_right_that_the_owner_took_from_himself_is_given_back_with_a_chmod() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let (inner, file) = (directory.path().join("inner"), directory.path().join("inner/file"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod(&file, 0o000);
        assert_eq!(remedy_of_denial(&file, own_uid()), format!("run chmod 600 {}", file.display()));
        assert!(remedy_of_denial(&file, own_uid() + 1).contains("owns"));
        chmod(&file, 0o600);
        assert!(remedy_of_denial(&file, own_uid()).contains("owns"));
        chmod(&inner, 0o500);
        for path in [&file, &inner.join("new")] {
            assert_eq!(
                remedy_of_denial(path, own_uid()),
                format!("run chmod u+rwx {}", inner.display())
            );
        }
        chmod(&inner, 0o700);
    }

    #[test]
    fn a_path_with_a_quote_or_a_leading_hyphen_is_one_shell_word() {
        assert_eq!(shell_quoted(Path::new("/a/it's")), r"'/a/it'\''s'");
        assert_eq!(shell_quoted(Path::new("-rf")), "'-rf'");
        assert_eq!(shell_quoted(Path::new("/plain/path.d")), "/plain/path.d");
    }
}

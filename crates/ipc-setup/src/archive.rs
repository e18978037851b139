//! The files of a home one after another, as they are sealed in a backup.
//!
//! `sealed_backup` writes them and `restore` reads them. One file is
//!
//! | bytes | what |
//! |---:|---|
//! | 2, n | the length of its path, big-endian, and the path within the home, in UTF-8 |
//! | 2 | its mode, the lower nine bits |
//! | 8, n | the length of its content, big-endian, and the content |
//!
//! and behind the last one are two bytes 0. A path is a name, or a name within one of the
//! directories of a home that have files. Nothing else is read: a backup cannot write outside of
//! the home that is made of it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ipc_home::{FILE_MODE, make_private_directory, sync_directory};
use zeroize::Zeroizing;

use crate::backup_error::BackupFileError;
use crate::sealed_stream::{ReadError, SealedReader, SealedWriter, WriteError};

/// The directories of a home that have files of their own.
const DIRECTORIES: [&str; 2] = ["issued", "enrolments"];

/// How much of a file is in memory at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Why the files of a home could not be sealed.
#[derive(Debug)]
pub(crate) enum PackError {
    /// A file could not be read.
    Read(PathBuf, io::Error),
    /// The backup could not be written.
    Write(WriteError),
}

/// Writes all files of the directory, which nobody else changes.
pub(crate) fn pack(
    directory: &Path,
    out: &mut SealedWriter<impl io::Write>,
) -> Result<(), PackError> {
    let mut names = names_in(directory)?;
    for sub in DIRECTORIES {
        if directory.join(sub).is_dir() {
            let within = names_in(&directory.join(sub))?;
            names.extend(within.into_iter().map(|name| format!("{sub}/{name}")));
        }
    }
    for name in names {
        pack_file(&directory.join(&name), &name, out)?;
    }
    out.write(&0_u16.to_be_bytes()).map_err(PackError::Write)
}

/// The names of the regular files in a directory, sorted.
fn names_in(directory: &Path) -> Result<Vec<String>, PackError> {
    let failed = |source| PackError::Read(directory.to_owned(), source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_file() {
            continue;
        }
        let name = entry.file_name().into_string().map_err(|_| {
            let what = io::Error::new(io::ErrorKind::InvalidFilename, "its name is not UTF-8");
            PackError::Read(entry.path(), what)
        })?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn pack_file(
    path: &Path,
    name: &str,
    out: &mut SealedWriter<impl io::Write>,
) -> Result<(), PackError> {
    let failed = |source| PackError::Read(path.to_owned(), source);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut left = metadata.len();
    let mode = (metadata.permissions().mode() & 0o777) as u16;
    let length = u16::try_from(name.len()).expect("a name has 255 bytes at most");
    let mut head = length.to_be_bytes().to_vec();
    head.extend(name.as_bytes());
    head.extend(mode.to_be_bytes());
    head.extend(left.to_be_bytes());
    out.write(&head).map_err(PackError::Write)?;
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = file.read(&mut piece[..wanted]).map_err(failed)?;
        if bytes == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        out.write(&piece[..bytes]).map_err(PackError::Write)?;
        left -= bytes as u64;
    }
    Ok(())
}

/// Why the files of a backup could not be unpacked.
#[derive(Debug)]
pub(crate) enum UnpackError {
    /// The backup could not be read, or is not good.
    Read(ReadError),
    /// A file could not be written.
    Write(PathBuf, io::Error),
}

/// Writes all files of the backup into an empty directory, and syncs them. When this returns, the
/// end of the backup was verified.
pub(crate) fn unpack(
    input: &mut SealedReader<impl io::Read>,
    directory: &Path,
) -> Result<(), UnpackError> {
    let unsupported = || UnpackError::Read(ReadError::Bad(BackupFileError::Unsupported));
    loop {
        let length = usize::from(u16::from_be_bytes(read_array(input)?));
        if length == 0 {
            break;
        }
        let mut name = vec![0; length];
        input.read_exact(&mut name).map_err(UnpackError::Read)?;
        let name = String::from_utf8(name).map_err(|_| unsupported())?;
        let mode = u32::from(u16::from_be_bytes(read_array(input)?));
        let bytes = u64::from_be_bytes(read_array(input)?);
        let sub = checked_name(&name).ok_or_else(unsupported)?;
        if let Some(sub) = sub {
            let path = directory.join(sub);
            make_private_directory(&path)
                .map_err(|error| UnpackError::Write(path, io::Error::other(error)))?;
        }
        unpack_file(input, &directory.join(&name), mode, bytes)?;
    }
    if input.read(&mut [0]).map_err(UnpackError::Read)? > 0 {
        return Err(unsupported());
    }
    for path in DIRECTORIES.map(|sub| directory.join(sub)) {
        if path.is_dir() {
            sync_directory(&path)
                .map_err(|error| UnpackError::Write(path, io::Error::other(error)))?;
        }
    }
    Ok(())
}

/// The directory of a home that the file is in, if it is in one. `None` for a name that no backup
/// has.
fn checked_name(name: &str) -> Option<Option<&str>> {
    let (sub, file) = match name.split_once('/') {
        Some((sub, file)) => (Some(sub), file),
        None => (None, name),
    };
    let is_good = sub.is_none_or(|sub| DIRECTORIES.contains(&sub))
        && !matches!(file, "" | "." | "..")
        && !file.contains(['/', '\0'])
        // Names of directories are not names of files.
        && (sub.is_some() || !DIRECTORIES.contains(&file) && file != "sessions");
    is_good.then_some(sub)
}

fn unpack_file(
    input: &mut SealedReader<impl io::Read>,
    path: &Path,
    mode: u32,
    mut left: u64,
) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write(path.to_owned(), source);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path).map_err(
            |source| match source.kind() {
                // The directory was empty: the backup has the name twice.
                io::ErrorKind::AlreadyExists => {
                    UnpackError::Read(ReadError::Bad(BackupFileError::Unsupported))
                }
                _ => failed(source),
            },
        )?;
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        input.read_exact(&mut piece[..wanted]).map_err(UnpackError::Read)?;
        file.write_all(&piece[..wanted]).map_err(failed)?;
        left -= wanted as u64;
    }
    // Group and others get no right, except to read a certificate.
    let is_certificate = path.extension().is_some_and(|extension| extension == "crt");
    let mode = mode & if is_certificate { 0o744 } else { 0o700 } | 0o400;
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn read_array<const N: usize>(
    input: &mut SealedReader<impl io::Read>,
) -> Result<[u8; N], UnpackError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(UnpackError::Read)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    const NOW_SECS: u64 = 1_750_000_000;

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = (name.len() as u16).to_be_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.extend(0o4777_u16.to_be_bytes());
        bytes.extend((content.len() as u64).to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn unpacked(content: &[u8], directory: &Path) -> Result<(), UnpackError> {
        let code = Code::generate().unwrap();
        let mut writer = SealedWriter::begin(Vec::new(), &code, b"", NOW_SECS).unwrap();
        writer.write(content).unwrap();
        let file = writer.finish().unwrap();
        let (mut reader, _) = SealedReader::open(&file[..], &code).unwrap();
        unpack(&mut reader, directory)
    }

    #[test]
    fn files_come_back_with_their_modes_and_no_others() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        let long: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
        let files = [
            ("envelope.keys", &b"key\n"[..], 0o600),
            ("localhost.crt", b"certificate", 0o644),
            ("empty", b"", 0o400),
            ("inbox.db", &long, 0o600),
            ("issued/01.crt", b"issued", 0o600),
        ];
        std::fs::create_dir(from.path().join("issued")).unwrap();
        std::fs::create_dir(from.path().join("other")).unwrap();
        std::fs::write(from.path().join("other/file"), "not of a home").unwrap();
        std::os::unix::fs::symlink("envelope.keys", from.path().join("link")).unwrap();
        for (name, content, mode) in files {
            std::fs::write(from.path().join(name), content).unwrap();
            std::fs::set_permissions(from.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        let code = Code::generate().unwrap();
        let mut writer = SealedWriter::begin(Vec::new(), &code, b"", NOW_SECS).unwrap();
        pack(from.path(), &mut writer).unwrap();
        let sealed = writer.finish().unwrap();
        let (mut reader, _) = SealedReader::open(&sealed[..], &code).unwrap();
        unpack(&mut reader, to.path()).unwrap();
        for (name, content, mode) in files {
            let path = to.path().join(name);
            assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }
        let issued = to.path().join("issued").metadata().unwrap();
        assert_eq!(issued.permissions().mode() & 0o7777, 0o700);
        assert_eq!(to.path().read_dir().unwrap().count(), 5);
    }

    /// Made by `tests/vectors/make_backup.py`, which shares no code with this.
    #[test]
    fn a_backup_of_another_implementation_is_read() {
        let file = include_bytes!("../tests/vectors/backup-v1.wib");
        let code: Code = "01234-56789-ABCDE-FGHJK-MNPQR".parse().unwrap();
        let (mut reader, header) = SealedReader::open(&file[..], &code).unwrap();
        assert!(header.starts_with(br#"{"format": 1, "#), "{header:?}");
        let to = tempfile::tempdir().unwrap();
        unpack(&mut reader, to.path()).unwrap();
        let issued: Vec<u8> = (0..8).flat_map(|_| 0..=255).collect();
        for (name, content, mode) in [
            ("envelope.keys", &b"a key\n"[..], 0o600),
            ("localhost.crt", b"a certificate\n", 0o644),
            ("issued/0a.crt", &issued, 0o600),
        ] {
            let path = to.path().join(name);
            assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }
        assert_eq!(to.path().read_dir().unwrap().count(), 3);
    }

    #[test]
    fn no_file_gets_more_than_a_home_allows() {
        let to = tempfile::tempdir().unwrap();
        let files = [entry("a", b"x"), entry("a.crt", b"x"), vec![0, 0]].concat();
        unpacked(&files, to.path()).unwrap();
        for (name, expected) in [("a", 0o700), ("a.crt", 0o744)] {
            let mode = to.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, expected, "{name}");
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_or_comes_twice_is_refused() {
        for name in [
            "../a",
            "/a",
            "issued/../a",
            "a/b",
            "issued/",
            "issued/a/b",
            ".",
            "..",
            "issued/..",
            "issued",
            "enrolments",
            "sessions",
            "sessions/a",
            "a\0b",
            "./a",
            "/",
        ] {
            let outside = tempfile::tempdir().unwrap();
            let directory = outside.path().join("home");
            std::fs::create_dir(&directory).unwrap();
            let error = unpacked(&[entry(name, b"x"), vec![0, 0]].concat(), &directory);
            let unsupported = BackupFileError::Unsupported;
            assert!(
                matches!(&error, Err(UnpackError::Read(ReadError::Bad(bad))) if *bad == unsupported),
                "{name:?}: {error:?}"
            );
            assert_eq!(outside.path().read_dir().unwrap().count(), 1, "{name:?}");
            assert_eq!(directory.read_dir().unwrap().count(), 0, "{name:?}");
        }
        let to = tempfile::tempdir().unwrap();
        let twice = [entry("a", b"x"), entry("a", b"y"), vec![0, 0]].concat();
        assert!(unpacked(&twice, to.path()).is_err());
        assert_eq!(std::fs::read(to.path().join("a")).unwrap(), b"x");
    }

    #[test]
    fn what_ends_too_early_or_goes_on_too_long_is_refused() {
        let whole = [entry("a", b"content"), vec![0, 0]].concat();
        for end in 0..whole.len() {
            let to = tempfile::tempdir().unwrap();
            assert!(unpacked(&whole[..end], to.path()).is_err(), "{end}");
        }
        let to = tempfile::tempdir().unwrap();
        assert!(unpacked(&[&whole[..], b"x"].concat(), to.path()).is_err());
    }
}

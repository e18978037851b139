//! Replaces a certificate pair so that a process that is killed at any point leaves either the old
//! pair or the new one.
//!
//! Code that issues certificates comes here with the lock held. So does all code that takes the
//! lock, to finish an interrupted replacement. The steps, which [`Home::identity`] knows too:
//!
//! 1. the new key is written as `.NAME.key.new`,
//! 2. the new certificate is written as `.NAME.crt.new`,
//! 3. the new key takes the place of the old one,
//! 4. the new certificate takes the place of the old one.
//!
//! Up to step 2 the old pair is in place, and an interrupted replacement is undone. After step 3
//! the old key is gone: a `.NAME.crt.new` without a `.NAME.key.new` says that step 4 is left to do,
//! and readers take that certificate.

use std::path::Path;

use ipc_home::{FILE_MODE, Home, HomeError, PeerName, StagedFile, sync_directory};
use ipc_pki::IssuedPair;

use crate::{SetupError, files};

/// Writes a pair under its name, in place of any older one.
pub(crate) fn write(home: &Home, name: &PeerName, pair: &IssuedPair) -> Result<(), SetupError> {
    write_pem(home, name, &pair.certificate_pem, pair.key_pem.as_bytes())
}

/// [`write`] of a certificate and its key in PEM, which another home made.
pub(crate) fn write_pem(
    home: &Home,
    name: &PeerName,
    certificate_pem: &[u8],
    key_pem: &[u8],
) -> Result<(), SetupError> {
    for path in [home.key_file(name), home.certificate_file(name)] {
        refuse_what_cannot_be_replaced(&path)?;
    }
    let staged = write_both(home, name, certificate_pem, key_pem);
    if staged.is_err() {
        // Best effort: the next holder of the lock undoes the rest. The certificate may be there,
        // and goes first, as in `recover`.
        let _ = remove_if_there(&home.staged_certificate_file(name))
            .and_then(|()| remove_if_there(&home.staged_key_file(name)));
    }
    staged?;
    files::step();
    take_place(&home.staged_key_file(name), &home.key_file(name))?;
    files::step();
    take_place(&home.staged_certificate_file(name), &home.certificate_file(name))
}

fn write_both(
    home: &Home,
    name: &PeerName,
    certificate_pem: &[u8],
    key_pem: &[u8],
) -> Result<(), HomeError> {
    let write = |path: &Path, bytes: &[u8]| {
        let staged = StagedFile::write(path, bytes, FILE_MODE)?;
        files::step();
        staged.commit()
    };
    write(&home.staged_key_file(name), key_pem)?;
    files::step();
    write(&home.staged_certificate_file(name), certificate_pem)
}

/// Finishes or undoes interrupted replacements. Returns whether there was one. The caller holds the
/// lock.
pub(crate) fn recover(home: &Home) -> Result<bool, SetupError> {
    let names = home.staged_pairs()?;
    for name in &names {
        let (key, certificate) = (home.staged_key_file(name), home.staged_certificate_file(name));
        if key.symlink_metadata().is_err() {
            take_place(&certificate, &home.certificate_file(name))?;
            continue;
        }
        // The certificate first: a certificate alone would mean that the replacement is to be
        // finished.
        for path in [certificate, key] {
            remove_if_there(&path)?;
        }
    }
    Ok(!names.is_empty())
}

fn remove_if_there(path: &Path) -> Result<(), SetupError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(unwritable(path, source))
        }
        _ => Ok(sync_directory(path.parent().unwrap_or(path))?),
    }
}

fn take_place(staged: &Path, path: &Path) -> Result<(), SetupError> {
    std::fs::rename(staged, path).map_err(|source| unwritable(path, source))?;
    Ok(sync_directory(path.parent().unwrap_or(path))?)
}

/// Refuses a directory in the place of a file before anything is written. A rename would fail on it
/// halfway.
fn refuse_what_cannot_be_replaced(path: &Path) -> Result<(), SetupError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            Err(HomeError::NotAFile { path: path.to_owned() }.into())
        }
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, source: std::io::Error) -> SetupError {
    HomeError::Unwritable { path: path.to_owned(), source }.into()
}

#[cfg(test)]
mod tests {
    use ipc_home::Identity;
    use ipc_pki::{Authority, AuthorityOptions, LeafRequest, SubjectName};

    use super::*;

    const NOW_SECS: u64 = 1_750_000_000;

    fn new_home() -> (tempfile::TempDir, Home, Authority, PeerName) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        (directory, home, authority, PeerName::parse("peer1").unwrap())
    }

    fn issue(authority: &Authority) -> IssuedPair {
        authority.issue(&LeafRequest::new(SubjectName::parse("peer1").unwrap()), NOW_SECS).unwrap()
    }

    fn read(home: &Home, name: &PeerName) -> (Vec<u8>, Vec<u8>) {
        let read = |path| std::fs::read(path).unwrap();
        (read(home.certificate_file(name)), read(home.key_file(name)))
    }

    fn is(home: &Home, name: &PeerName, pair: &IssuedPair) -> bool {
        read(home, name) == (pair.certificate_pem.clone(), pair.key_pem.as_bytes().to_vec())
    }

    #[test]
    fn a_pair_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let (directory, home, authority, name) = new_home();
        for _ in 0..2 {
            let pair = issue(&authority);
            write(&home, &name, &pair).unwrap();
            assert!(is(&home, &name, &pair));
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
            assert!(!recover(&home).unwrap());
        }
    }

    fn is_same(one: &Identity, other: &Identity) -> bool {
        (&one.chain, one.key.secret_der()) == (&other.chain, other.key.secret_der())
    }

    #[test]
    fn stopped_after_any_step_the_old_pair_or_the_new_one_is_there_in_the_end() {
        for steps in 0..=4 {
            let (directory, home, authority, name) = new_home();
            let (old, new) = (issue(&authority), issue(&authority));
            write(&home, &name, &old).unwrap();
            let (staged_key, staged_certificate) =
                (home.staged_key_file(&name), home.staged_certificate_file(&name));
            let secret = ipc_home::write_secret_atomically;
            let all: [&dyn Fn(); 4] = [
                &|| secret(&staged_key, new.key_pem.as_bytes()).unwrap(),
                &|| secret(&staged_certificate, &new.certificate_pem).unwrap(),
                &|| take_place(&staged_key, &home.key_file(&name)).unwrap(),
                &|| take_place(&staged_certificate, &home.certificate_file(&name)).unwrap(),
            ];
            all[..steps].iter().for_each(|step| step());

            // Readers have the pair that it will be.
            let read = home.identity(&name).unwrap();
            assert_eq!(recover(&home).unwrap(), (1..=3).contains(&steps), "{steps}");
            assert!(is(&home, &name, if steps < 3 { &old } else { &new }), "{steps}");
            assert!(is_same(&home.identity(&name).unwrap(), &read), "{steps}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "{steps}");
        }
    }

    #[test]
    fn whoever_reads_while_a_pair_is_replaced_has_the_old_one_or_the_new_one() {
        let (_directory, home, authority, name) = new_home();
        let pairs = [issue(&authority), issue(&authority)];
        let identities = pairs.each_ref().map(|pair| {
            write(&home, &name, pair).unwrap();
            home.identity(&name).unwrap()
        });
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for turn in 0..200 {
                    write(&home, &name, &pairs[turn % 2]).unwrap();
                }
            });
            while !writer.is_finished() {
                let read = home.identity(&name).unwrap();
                assert!(identities.iter().any(|identity| is_same(identity, &read)));
            }
        });
    }

    #[test]
    fn a_recovery_that_was_stopped_itself_is_finished() {
        let (directory, home, authority, name) = new_home();
        let old = issue(&authority);
        write(&home, &name, &old).unwrap();
        // Undoing removes the certificate first, so the key may be left alone.
        std::fs::write(home.staged_key_file(&name), "half").unwrap();
        assert!(recover(&home).unwrap());
        assert!(is(&home, &name, &old));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_in_the_place_of_either_file_is_refused_before_anything_is_written() {
        let (directory, home, authority, name) = new_home();
        for path in [home.certificate_file(&name), home.key_file(&name)] {
            std::fs::create_dir(&path).unwrap();
            let error = write(&home, &name, &issue(&authority)).unwrap_err();
            assert!(matches!(error, SetupError::Home(HomeError::NotAFile { .. })), "{error:?}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
            std::fs::remove_dir(&path).unwrap();
        }
    }
}

//! The pieces of a home, each made whole or not at all, in the order in which they are made.
//!
//! [`crate::init`] comes here with the lock held. A piece that is there stays; `admin.cred` is written last, so that its
//! presence means that everything else is there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipc_envelope::Key;
use ipc_home::{
    ADMIN_USERNAME, Credentials, FILE_MODE, Home, HomeError, PeerName, StagedFile, make_private_directory,
    read_public, read_secret, write_secret_atomically,
};
use ipc_pki::{Authority, AuthorityOptions, IssuedPair, LeafRequest, SubjectAltName, SubjectName};
use zeroize::Zeroizing;

use crate::random::{random_bytes, random_password};
use crate::users::Users;
use crate::{SetupError, directory};

/// The peer name that every home has, for both ends.
const DEFAULT_NAME: &str = "localhost";
/// What that peer is reached as.
const DEFAULT_ALT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes whatever a home still lacks.
pub(crate) fn make_missing(
    home: &Home,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<(), SetupError> {
    directory::sweep(home)?;
    for file in [home.envelope_keys_file(), home.session_key_file()] {
        if !exists(&file)? {
            make_key_file(&file)?;
        }
    }
    let authority = find_or_make_authority(home, now_secs)?;
    // Always made anew: nobody can have used a home that was never complete, and so the pair cannot be half there, of
    // another authority, or expired.
    make_default_pair(home, &authority, now_secs)?;
    make_private_directory(&home.sessions_dir())?;
    make_admin(home, now_secs, store_options)
}

/// Takes in the authority of the home.
pub(crate) fn load_authority(home: &Home) -> Result<Authority, SetupError> {
    let path = home.ca_certificate_file();
    let certificate = read_public(&path)?;
    let key = read_secret(&home.ca_key_file())?;
    Authority::load(&certificate, &key).map_err(|source| SetupError::BadAuthority { path, source })
}

/// Writes a pair under its name. Both files are on the disk in full before either gets its name, so that what can still
/// go wrong is small; the key goes first, since a certificate without its key would look like a whole pair to nobody.
pub(crate) fn write_pair(home: &Home, name: &PeerName, pair: &IssuedPair) -> Result<(), SetupError> {
    let key = StagedFile::write(&home.key_file(name), pair.key_pem.as_bytes(), FILE_MODE)?;
    let certificate = StagedFile::write(&home.certificate_file(name), &pair.certificate_pem, FILE_MODE)?;
    key.commit()?;
    certificate.commit()?;
    Ok(())
}

/// Whether anything lies at the path.
pub(crate) fn exists(path: &Path) -> Result<bool, SetupError> {
    let exists = path.try_exists();
    exists.map_err(|source| HomeError::Unreadable { path: path.to_owned(), source }.into())
}

fn make_key_file(path: &Path) -> Result<(), SetupError> {
    let text = Key::from_bytes(random_bytes()?).to_base64url();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
    line.push_str(&text);
    line.push('\n');
    Ok(write_secret_atomically(path, line.as_bytes())?)
}

fn find_or_make_authority(home: &Home, now_secs: u64) -> Result<Authority, SetupError> {
    let (certificate, key) = (home.ca_certificate_file(), home.ca_key_file());
    if exists(&certificate)? && exists(&key)? {
        return load_authority(home);
    }
    // One half is of no use without the other. It goes first, so that a run killed between the two writes that follow
    // leaves a key alone again, and never a new key beside an old certificate.
    for half in [&certificate, &key] {
        if exists(half)? {
            std::fs::remove_file(half)
                .map_err(|source| HomeError::Unwritable { path: half.clone(), source })?;
        }
    }
    let authority = Authority::create(&AuthorityOptions::default(), now_secs)
        .map_err(|source| SetupError::Authority { source })?;
    write_secret_atomically(&key, authority.private_key_pem().as_bytes())?;
    write_secret_atomically(&certificate, authority.certificate_pem())?;
    Ok(authority)
}

fn make_default_pair(home: &Home, authority: &Authority, now_secs: u64) -> Result<(), SetupError> {
    let bad_name = |source| SetupError::Name { name: DEFAULT_NAME.to_owned(), source };
    let name = PeerName::parse(DEFAULT_NAME)
        .map_err(|source| SetupError::PeerName { name: DEFAULT_NAME.to_owned(), source })?;
    let mut request = LeafRequest::new(SubjectName::parse(DEFAULT_NAME).map_err(bad_name)?);
    request.alt_names = DEFAULT_ALT_NAMES
        .into_iter()
        .map(SubjectAltName::parse)
        .collect::<Result<_, _>>()
        .map_err(bad_name)?;
    let pair = authority
        .issue(&request, now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    write_pair(home, &name, &pair)
}

/// Gives the home its admin, with a password that nobody sees, and writes `admin.cred`.
fn make_admin(home: &Home, now_secs: u64, store_options: &ipc_store::Options) -> Result<(), SetupError> {
    let path = home.users_db();
    if exists(&path)? {
        // One that was brought along may be open to others.
        std::fs::set_permissions(&path, Permissions::from_mode(FILE_MODE))
            .map_err(|source| HomeError::Unwritable { path, source })?;
    }
    let password = random_password()?;
    Users::create(home, store_options)?.put_admin(&password)?;
    let credentials = Credentials { username: ADMIN_USERNAME.to_owned(), password };
    home.write_admin_credentials(&credentials, now_secs, random_bytes()?)?;
    Ok(())
}

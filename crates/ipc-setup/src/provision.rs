//! Makes the files of a home in a fixed order, each completely or not at all.
//!
//! [`crate::init`] and [`crate::import_environment`] come here with the lock held. A good file
//! stays. Keys that other hosts have copies of, and an authority that has issued certificates, are
//! never made anew here. `admin.cred` is written last, so that its presence means that the home is
//! complete.

use std::path::Path;

use ipc_envelope::{Key, KeyRing};
use ipc_home::{
    ADMIN_USERNAME, Credentials, Home, HomeError, PeerName, close_file, make_private_directory,
    read_public, read_secret, write_secret_atomically,
};
use ipc_pki::{Authority, AuthorityOptions, LeafRequest, LoadError, SubjectAltName, SubjectName};
use zeroize::Zeroizing;

use crate::lock::Lock;
use crate::random::{random_bytes, random_password};
use crate::users::Users;
use crate::{SetupError, directory, pair};

/// The files that [`make_missing`] makes, without `admin.cred`, which marks a complete home, and
/// the directory of sessions, which a client makes again if it is missing.
const PIECES: [&str; 7] = [
    "envelope.keys",
    SESSION_KEY,
    "web-ipc-ca.crt",
    "web-ipc-ca.key",
    "localhost.crt",
    "localhost.key",
    "users.db",
];

/// The server's own key ring. Clients have no copy of it.
pub(crate) const SESSION_KEY: &str = "session.key";

/// The peer name that every home has, for both ends.
const DEFAULT_NAME: &str = "localhost";
/// The names and addresses that clients reach that peer by.
const DEFAULT_ALT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes the files that a home still lacks.
pub(crate) fn make_missing(
    home: &Home,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<(), SetupError> {
    make_files(home, now_secs, store_options)?;
    make_admin(home, now_secs, store_options)
}

/// Makes the files that a home still lacks, but for the admin with its `admin.cred`.
pub(crate) fn make_files(
    home: &Home,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<(), SetupError> {
    directory::clean(home)?;
    pair::recover(home)?;
    // Before anything is made, so that a refusal leaves the directory as it was.
    close_users(home)?;
    if home.users_url()?.is_some() {
        // A database that cannot be used is found out before anything is made.
        Users::create(home, store_options)?;
    }
    refuse_lost_authority(home)?;
    type Read = fn(&Home) -> Result<KeyRing, HomeError>;
    let key_rings: [(_, Read); 2] = [
        (home.envelope_keys_file(), Home::envelope_keys),
        (home.session_key_file(), Home::session_keys),
    ];
    for (file, read) in key_rings {
        if exists(&file)? {
            read(home)?;
        } else {
            make_key_file(&file)?;
        }
    }
    let authority = find_or_make_authority(home, now_secs)?;
    find_or_make_default_pair(home, &authority, now_secs)?;
    Ok(make_private_directory(&home.sessions_dir())?)
}

/// Loads the authority of the home.
pub(crate) fn load_authority(home: &Home) -> Result<Authority, SetupError> {
    let certificate = read_public(&home.ca_certificate_file())?;
    let key = read_secret(&home.ca_key_file())?;
    Authority::load(&certificate, &key).map_err(|source| {
        let path = match source {
            LoadError::Key
            | LoadError::EncryptedKey
            | LoadError::UnsupportedKey
            | LoadError::Mismatch => home.ca_key_file(),
            _ => home.ca_certificate_file(),
        };
        SetupError::BadAuthority { path, source }
    })
}

/// The files that every complete home has and this one lacks. The directory of a remote client has
/// fewer files, and is not made here.
pub(crate) fn missing(home: &Home) -> Result<Vec<&'static str>, SetupError> {
    let mut missing = Vec::new();
    // A further server has neither the authority's key nor a pair of the name that every other home
    // has.
    let is_node = exists(&home.node_settings_file())?;
    let not_in_node = ["web-ipc-ca.key", "localhost.crt", "localhost.key"];
    let are_elsewhere = home.users_url()?.is_some();
    for name in PIECES {
        if (is_node && not_in_node.contains(&name)) || (name == "users.db" && are_elsewhere) {
            continue;
        }
        if !exists(&home.root().join(name))? {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Whether something exists at the path.
pub(crate) fn exists(path: &Path) -> Result<bool, SetupError> {
    let exists = path.try_exists();
    exists.map_err(|source| HomeError::Unreadable { path: path.to_owned(), source }.into())
}

pub(crate) fn make_key_file(path: &Path) -> Result<(), SetupError> {
    write_key_file(path, &Key::from_bytes(random_bytes()?))
}

/// Writes a key ring of one key.
pub(crate) fn write_key_file(path: &Path, key: &Key) -> Result<(), SetupError> {
    let text = key.to_base64url();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
    line.push_str(&text);
    line.push('\n');
    Ok(write_secret_atomically(path, line.as_bytes())?)
}

/// Refuses a home without its authority, if that has issued a certificate: a new one would not fit.
fn refuse_lost_authority(home: &Home) -> Result<(), SetupError> {
    let (certificate, key) = (home.ca_certificate_file(), home.ca_key_file());
    match (exists(&certificate)?, exists(&key)?) {
        // A run writes the key first, and so a run that was killed leaves no certificate alone. The
        // key was lost, or is kept elsewhere.
        (true, false) => Err(HomeError::FileMissing { path: key }.into()),
        // Nor does such a run leave pairs without the authority's certificate. They were issued by
        // an authority that may still exist elsewhere.
        (false, _) if !home.peer_names()?.is_empty() => {
            Err(HomeError::FileMissing { path: certificate }.into())
        }
        _ => Ok(()),
    }
}

fn find_or_make_authority(home: &Home, now_secs: u64) -> Result<Authority, SetupError> {
    let (certificate, key) = (home.ca_certificate_file(), home.ca_key_file());
    if exists(&certificate)? {
        return load_authority(home);
    }
    let authority = Authority::create(&AuthorityOptions::default(), now_secs)
        .map_err(|source| SetupError::Authority { source })?;
    write_secret_atomically(&key, authority.private_key_pem().as_bytes())?;
    write_secret_atomically(&certificate, authority.certificate_pem())?;
    Ok(authority)
}

/// Keeps a pair that this authority has issued. Half a pair, or one of another authority, is the
/// rest of a run that was killed or was put there by hand. It has no use, and is replaced.
fn find_or_make_default_pair(
    home: &Home,
    authority: &Authority,
    now_secs: u64,
) -> Result<(), SetupError> {
    let bad_name = |source| SetupError::Name { name: DEFAULT_NAME.to_owned(), source };
    let name = PeerName::parse(DEFAULT_NAME)
        .map_err(|source| SetupError::Name { name: DEFAULT_NAME.to_owned(), source })?;
    let (certificate, key) = (home.certificate_file(&name), home.key_file(&name));
    if exists(&certificate)?
        && exists(&key)?
        && authority.has_issued(&read_public(&certificate)?, &read_secret(&key)?)
    {
        return Ok(());
    }
    let mut request = LeafRequest::new(SubjectName::parse(DEFAULT_NAME).map_err(bad_name)?);
    request.alt_names = DEFAULT_ALT_NAMES
        .into_iter()
        .map(SubjectAltName::parse)
        .collect::<Result<_, _>>()
        .map_err(bad_name)?;
    let issued = authority
        .issue(&request, now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    pair::write(home, &name, &issued)
}

/// Takes the rights of other users on a `users.db` that was there before the home, and on the files
/// that SQLite keeps beside it. A symbolic link is refused: its target may belong to somebody else.
fn close_users(home: &Home) -> Result<(), SetupError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = home.root().join(format!("users.db{suffix}"));
        if path.symlink_metadata().is_ok() {
            close_file(&path)?;
        }
    }
    Ok(())
}

/// Makes a complete home's `users.url` name the database that the caller gave, if the admin is
/// there. Returns whether that changed anything.
pub(crate) fn move_users(
    home: &Home,
    store_options: &ipc_store::Options,
) -> Result<bool, SetupError> {
    let Some(url) = home.users_url()? else { return Ok(false) };
    if Home::at(home.root()).users_url()?.as_ref() == Some(&url) {
        return Ok(false);
    }
    let Credentials { username, password } = home.admin_credentials()?;
    if !Users::create(home, store_options)?.verify(&username, &password)? {
        return Err(SetupError::UsersNotThere { path: home.root().to_owned() });
    }
    let _lock = Lock::of_complete(home)?;
    home.write_users_url(&url)?;
    Ok(true)
}

/// Makes the admin, with a random password that is not shown, and writes `admin.cred`.
fn make_admin(
    home: &Home,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<(), SetupError> {
    let password = random_password()?;
    if let Some(url) = home.users_url()? {
        home.write_users_url(&url)?;
    }
    Users::create(home, store_options)?.put_admin(&password)?;
    let credentials = Credentials { username: ADMIN_USERNAME.to_owned(), password };
    home.write_admin_credentials(&credentials, now_secs, random_bytes()?)?;
    Ok(())
}

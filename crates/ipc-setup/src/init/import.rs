//! Takes over the environment of the Python tool of the same name into a new home.
//!
//! The command line comes here with the two directories. `environment.rs` reads the old one, which
//! is never changed; this file makes the home beside its final place and gives it its name in the
//! end. So whatever stops it, there is a complete home or none.

use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{
    ADMIN_USERNAME, Contents, Credentials, Home, HomeError, PeerName, locate,
    make_private_directory, sync_directory, write_secret_atomically,
};
use ipc_store::Username;
use zeroize::Zeroizing;

use super::environment::{Environment, TakenPair};
use crate::lock::Lock;
use crate::random::{random_bytes, random_password};
use crate::users::Users;
use crate::{LeftFile, SetupError, directory, pair, provision};

/// What became of the default admin of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportedAdmin {
    /// `admin.cred` has the name and the password that `.ipca` had. Of a password that is longer
    /// than bcrypt reads, it has the part that counts.
    Kept,
    /// `.ipca` was missing, could not be read, or had a password that is no longer the user's. The
    /// user `ipc-admin` has a new random password, which is in `admin.cred`.
    NewPassword,
    /// There was no user `ipc-admin` any more, and there is none now. Whoever sends from the home
    /// has to name a user.
    NoUser,
}

/// What was taken over, and what was not.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// The new home.
    pub home: Home,
    /// The users, in the order in which they were added.
    pub users: Vec<Username>,
    /// What became of the default admin.
    pub admin: ImportedAdmin,
    /// Whether the authority's certificate is a new one for its old key, since the old one said
    /// less than is needed here. Certificates that were issued before or are issued now are good
    /// for whoever trusts the old one or the new one.
    pub is_authority_signed_anew: bool,
    /// Certificates with their keys, as they were.
    pub pairs: Vec<TakenPair>,
    /// The name of a pair that was made, since the environment had none that every home has.
    pub made_pair: Option<PeerName>,
    /// Files that were not taken, with the reason.
    pub left: Vec<LeftFile>,
    /// Whether others than the owner could read, or change, a secret of the environment.
    pub is_open_to_others: bool,
}

/// Makes a home at `path` from the environment of the Python tool in the directory `from`, which
/// stays as it is.
///
/// The home has the users, the message key (as its only envelope key), the authority's key, every
/// certificate with its key, and the admin's credentials. Python programs that have a copy of the
/// environment go on with it.
///
/// # Errors
/// - [`SetupError::NoEnvironment`], [`SetupError::NotAnEnvironment`],
///   [`SetupError::BadMessageKey`], [`SetupError::BadOldAuthority`], [`SetupError::BadOldUsers`]:
///   the environment lacks something, or a file of it is damaged.
/// - [`HomeError::SymbolicLink`] and similar variants: a file of it cannot be read.
/// - [`SetupError::HomeExists`], and what [`init`](crate::init) says of directories that cannot be
///   a home.
/// - Other variants have the error of the disk.
pub fn import_environment(path: &Path, from: &Path, now_secs: u64) -> Result<Imported, SetupError> {
    import_with(path, from, now_secs, &ipc_store::Options::default())
}

/// [`import_environment`] with options of the user store. Tests choose a low cost of bcrypt.
pub(crate) fn import_with(
    path: &Path,
    from: &Path,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<Imported, SetupError> {
    let home = Home::at(directory::without_link(locate(Some(path))?));
    // All of it before anything is made.
    let environment = Environment::read(from, now_secs)?;
    if home.root().starts_with(environment.root()) {
        return Err(HomeError::PythonTool { path: environment.root().to_owned() }.into());
    }
    let was_there = home.root().symlink_metadata().is_ok();
    refuse_used(&home)?;
    let imported = make_beside(&home, environment, now_secs, store_options);
    if imported.is_err() && !was_there {
        // Only an empty directory goes.
        let _ = std::fs::remove_dir(home.root());
    }
    imported
}

/// Refuses a place where something is already. Makes the directory if there is none.
fn refuse_used(home: &Home) -> Result<(), SetupError> {
    directory::prepare(home)?;
    match home.contents()? {
        Contents::Nothing => Ok(()),
        _ => Err(SetupError::HomeExists { path: home.root().to_owned() }),
    }
}

/// Makes the home in a directory beside its place, and gives that its name.
fn make_beside(
    home: &Home,
    environment: Environment,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<Imported, SetupError> {
    let staging = Home::at(staging_directory(home.root()));
    // Held to the end: of two runs the other one waits, and finds a home.
    let _lock = loop {
        make_private_directory(staging.root())?;
        staging.check_directory()?;
        if let Some(lock) = Lock::acquire(&staging)? {
            break lock;
        }
        refuse_used(home)?;
    };
    let made = clear(staging.root())
        .and_then(|()| fill(&staging, environment, now_secs, store_options))
        .and_then(|made| {
            take_place(&staging, home)?;
            Ok(made)
        });
    match made {
        Ok(made) => Ok(Imported { home: home.clone(), ..made }),
        Err(error) => {
            // Best effort: the next run clears it.
            let _ = std::fs::remove_dir_all(staging.root());
            Err(error)
        }
    }
}

/// `.NAME.importing`, beside the home.
fn staging_directory(root: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(root.file_name().unwrap_or_default());
    name.push(".importing");
    root.with_file_name(name)
}

/// Removes what a run has left that was killed. The caller holds the lock, which stays.
fn clear(staging: &Path) -> Result<(), SetupError> {
    let unwritable = |source| HomeError::Unwritable { path: staging.to_owned(), source };
    for entry in std::fs::read_dir(staging).map_err(unwritable)? {
        let entry = entry.map_err(unwritable)?;
        let is_directory = entry.file_type().map_err(unwritable)?.is_dir();
        match (entry.file_name() == ".lock", is_directory) {
            (true, _) => Ok(()),
            (_, true) => std::fs::remove_dir_all(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        }
        .map_err(unwritable)?;
    }
    Ok(())
}

/// Makes all files of the home.
fn fill(
    staging: &Home,
    environment: Environment,
    now_secs: u64,
    store_options: &ipc_store::Options,
) -> Result<Imported, SetupError> {
    environment.copy_users(staging)?;
    provision::write_key_file(&staging.envelope_keys_file(), environment.message_key())?;
    let authority = environment.authority();
    write_secret_atomically(&staging.ca_key_file(), authority.private_key_pem().as_bytes())?;
    write_secret_atomically(&staging.ca_certificate_file(), authority.certificate_pem())?;
    for one in environment.pairs() {
        pair::write_pem(staging, one.name(), &one.certificate_pem, &one.key_pem)?;
    }
    let names_before = staging.peer_names()?;
    provision::make_files(staging, now_secs, store_options)?;
    let made_pair = staging.peer_names()?.into_iter().find(|name| !names_before.contains(name));

    let users = Users::create(staging, store_options).map_err(|error| match error {
        SetupError::Store(source) => {
            SetupError::BadOldUsers { path: environment.users_file(), source }
        }
        other => other,
    })?;
    let names = users.list()?;
    let (credentials, admin) = admin(&users, &names, environment.admin())?;
    drop(users);
    staging.write_admin_credentials(&credentials, now_secs, random_bytes()?)?;
    Ok(Imported {
        home: staging.clone(),
        users: names,
        admin,
        is_authority_signed_anew: environment.is_authority_signed_anew(),
        is_open_to_others: environment.is_open_to_others(),
        made_pair,
        left: environment.left().to_vec(),
        pairs: environment.into_pairs(),
    })
}

/// The credentials for `admin.cred`: those of the environment if they are still good.
fn admin(
    users: &Users,
    names: &[Username],
    old: Option<&Credentials>,
) -> Result<(Credentials, ImportedAdmin), SetupError> {
    if let Some(old) = old
        && users.verify(&old.username, &old.password)?
    {
        return Ok((old.clone(), ImportedAdmin::Kept));
    }
    let password: Zeroizing<String> = random_password()?;
    let is_there = names.iter().any(|name| name.as_str() == ADMIN_USERNAME);
    if is_there {
        users.put_admin(&password)?;
    }
    let credentials = Credentials { username: ADMIN_USERNAME.to_owned(), password };
    let admin = if is_there { ImportedAdmin::NewPassword } else { ImportedAdmin::NoUser };
    Ok((credentials, admin))
}

/// Renames the complete home to its place. An empty directory there is replaced.
fn take_place(staging: &Home, home: &Home) -> Result<(), SetupError> {
    let root = home.root();
    std::fs::rename(staging.root(), root).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            SetupError::HomeExists { path: root.to_owned() }
        }
        _ => HomeError::Unwritable { path: root.to_owned(), source }.into(),
    })?;
    // Without it the name may be lost in a crash, and the directory not: the next run begins again.
    Ok(sync_directory(root.parent().unwrap_or(root))?)
}

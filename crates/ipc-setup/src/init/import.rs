//! Takes over the environment of the Python tool of the same name into a new home.
//!
//! The command line comes here with the two directories. `environment.rs` reads the old one, which
//! is never changed; this file makes the home beside its final place and gives it its name in the
//! end. So whatever stops it, there is a complete home or none.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_home::{
    ADMIN_USERNAME, Contents, Credentials, DIRECTORY_MODE, Home, HomeError, PeerName, locate,
    sync_directory, write_secret_atomically,
};
use ipc_store::Username;
use zeroize::Zeroizing;

use super::environment::{Environment, TakenPair};
use crate::lock::Lock;
use crate::random::{random_bytes, random_password};
use crate::users::{Users, runtime};
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
    if without_links(home.root()).starts_with(environment.root()) {
        return Err(HomeError::PythonTool { path: environment.root().to_owned() }.into());
    }
    let was_there = home.root().symlink_metadata().is_ok();
    refuse_used(&home)?;
    if is_mount_point(home.root()) {
        return Err(SetupError::MountPoint { path: home.root().to_owned() });
    }
    let imported = make_beside(&home, environment, now_secs, store_options);
    if imported.is_err() && !was_there {
        // Only an empty directory goes.
        let _ = std::fs::remove_dir(home.root());
    }
    imported
}

/// The path with the links of its existing part followed. The rest is still to be made.
fn without_links(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// Whether another file system begins at this directory. Nothing can be renamed to its place.
fn is_mount_point(root: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    root.parent().is_some_and(|parent| device(parent) != device(root))
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
    // The lock tells other runs that somebody is at it. One that comes between the making and the
    // locking takes the directory for abandoned.
    let (staging, _lock) = loop {
        let staging = make_staging(home.root())?;
        if let Some(lock) = Lock::acquire(&staging)? {
            break (staging, lock);
        }
    };
    clear_abandoned(home.root(), &staging);
    let made = fill(&staging, environment, now_secs, store_options).and_then(|made| {
        // Of two runs the second one finds a home.
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

/// What the names of our directories begin and end with, beside the home.
fn staging_name(root: &Path) -> (Vec<u8>, &'static [u8]) {
    let name = root.file_name().unwrap_or_default().as_encoded_bytes();
    ([b".", name, b"."].concat(), b".importing")
}

/// Makes `.NAME.0123456789abcdef.importing` beside the home. Nobody knows the name before, and what
/// is there already is never taken: it may be a link, or somebody else's.
fn make_staging(root: &Path) -> Result<Home, SetupError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(root.file_name().unwrap_or_default());
    name.push(format!(".{:016x}.importing", u64::from_ne_bytes(random_bytes()?)));
    let path = root.with_file_name(name);
    // The user knows the home, not the temporary name.
    let unwritable = |source| HomeError::Unwritable { path: root.to_owned(), source };
    DirBuilder::new().mode(DIRECTORY_MODE).create(&path).map_err(unwritable)?;
    // A umask that removes the owner's own bits would lock us out.
    std::fs::set_permissions(&path, Permissions::from_mode(DIRECTORY_MODE)).map_err(unwritable)?;
    let staging = Home::at(path);
    staging.check_directory()?;
    Ok(staging)
}

/// Removes what runs have left that were killed: directories of exactly our form, our user's, that
/// nobody has locked. What cannot be removed is not in the way.
fn clear_abandoned(root: &Path, staging: &Home) {
    let (begin, end) = staging_name(root);
    let is_ours = |name: &OsStr| {
        let middle = name.as_encoded_bytes().strip_prefix(&begin[..]);
        middle.and_then(|rest| rest.strip_suffix(end)).is_some_and(|digits| {
            digits.len() == 16
                && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let own_uid = rustix::process::geteuid().as_raw();
    let Some(entries) = root.parent().and_then(|parent| parent.read_dir().ok()) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if !is_ours(&entry.file_name()) || path == staging.root() {
            continue;
        }
        // Of a link these are the link's own.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !metadata.is_dir() || metadata.uid() != own_uid {
            continue;
        }
        if let Ok(Some(_lock)) = Lock::try_acquire_file(&Home::at(&path).lock_file()) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
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
    // What was copied while it was written may open and yet be torn.
    runtime()?
        .block_on(ipc_store::check_integrity(&staging.users_db()))
        .map_err(|source| SetupError::BadOldUsers { path: environment.users_file(), source })?;
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
        // A directory of the same file system can be mounted too.
        io::ErrorKind::ResourceBusy => SetupError::MountPoint { path: root.to_owned() },
        _ => HomeError::Unwritable { path: root.to_owned(), source }.into(),
    })?;
    // Without it the name may be lost in a crash, and the directory not: the next run begins again.
    Ok(sync_directory(root.parent().unwrap_or(root))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_another_file_system_begins_is_a_mount_point() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(directory.path()));
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(Path::new("/")));
    }
}

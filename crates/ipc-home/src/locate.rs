//! Finds the path of the home: the flag, the environment, the default of the platform, in that
//! order.
//!
//! Every program with a `--home` flag uses it. It creates and opens nothing. The environment is an
//! argument of the inner function, so that no test changes the real one.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::HomeError;

/// The environment variable that names the home.
pub const HOME_VARIABLE: &str = "WEB_IPC_HOME";

/// Finds the path of the home, absolute and normalised. The home need not exist.
///
/// `explicit` (a `--home` flag) takes precedence over `$WEB_IPC_HOME`, and that over the platform's
/// data directory: `$XDG_DATA_HOME/web-ipc` or `~/.local/share/web-ipc`, on macOS
/// `~/Library/Application Support/web-ipc`. An empty variable counts as unset, and so does a
/// relative `$XDG_DATA_HOME` (XDG Base Directory Specification).
/// # Errors
/// [`HomeError::NoDefault`] if none of them is known. [`HomeError::BadPath`] if the path is empty,
/// not UTF-8, or was meant for a shell (`~`, quotes around it, white space at its ends). Also if
/// the current directory is missing for a relative path, or a directory before a `..`.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, HomeError> {
    let environment = Environment {
        web_ipc_home: std::env::var_os(HOME_VARIABLE),
        xdg_data_home: std::env::var_os("XDG_DATA_HOME"),
        user_home: std::env::home_dir(),
    };
    let path = choose(explicit, environment)?;
    refuse_shell_words(&path)?;
    absolute(&path)
}

/// Makes a path absolute and normalises it: without `.`, `..`, and trailing or double slashes.
///
/// Links are resolved only before a `..`.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, HomeError> {
    let bad = |source| HomeError::BadPath { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(bad)?;
    let Some(text) = absolute.to_str() else {
        return Err(bad(reason("it is not UTF-8, which SQLite requires")));
    };
    if text.contains(char::is_control) {
        return Err(bad(reason("it contains a control character")));
    }
    let mut resolved = PathBuf::new();
    for component in absolute.components() {
        if component != Component::ParentDir {
            resolved.push(component);
        } else {
            resolved = resolved.canonicalize().map_err(bad)?;
            // The parent of the root is the root.
            resolved.pop();
        }
    }
    Ok(resolved)
}

/// Refuses a path that was written for a shell but did not pass through one, in a configuration
/// file or after an `=`. Otherwise a directory with exactly that name would be made.
fn refuse_shell_words(path: &Path) -> Result<(), HomeError> {
    let bad = |text| Err(HomeError::BadPath { path: path.to_owned(), source: reason(text) });
    let text = path.to_string_lossy();
    if text.trim() != text {
        return bad("it begins or ends with a blank or a line break");
    }
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return bad("it is in quotes, which no shell has removed");
    }
    if path
        .components()
        .next()
        .is_some_and(|first| first.as_os_str().to_string_lossy().starts_with('~'))
    {
        return bad("no shell has expanded the ~ (write ./~ for a directory of that name)");
    }
    Ok(())
}

fn reason(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[derive(Default)]
struct Environment {
    web_ipc_home: Option<OsString>,
    xdg_data_home: Option<OsString>,
    user_home: Option<PathBuf>,
}

fn choose(explicit: Option<&Path>, environment: Environment) -> Result<PathBuf, HomeError> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if let Some(path) = environment.web_ipc_home.filter(|value| !value.is_empty()) {
        return Ok(path.into());
    }
    let user_home = environment.user_home.filter(|path| path.is_absolute());
    if cfg!(target_os = "macos") {
        let user_home = user_home.ok_or(HomeError::NoDefault)?;
        return Ok(user_home.join("Library/Application Support/web-ipc"));
    }
    let xdg_data_home =
        environment.xdg_data_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let data_home = match xdg_data_home {
        Some(path) => path,
        None => user_home.ok_or(HomeError::NoDefault)?.join(".local/share"),
    };
    Ok(data_home.join("web-ipc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        web_ipc_home: Option<&str>,
        xdg: Option<&str>,
        user_home: Option<&str>,
    ) -> Environment {
        Environment {
            web_ipc_home: web_ipc_home.map(OsString::from),
            xdg_data_home: xdg.map(OsString::from),
            user_home: user_home.map(PathBuf::from),
        }
    }

    #[test]
    fn the_flag_wins_over_everything() {
        let chosen = choose(
            Some(Path::new("/flag")),
            environment(Some("/variable"), Some("/xdg"), Some("/user")),
        );
        assert_eq!(chosen.unwrap(), Path::new("/flag"));
    }

    #[test]
    fn the_variable_wins_over_the_platform() {
        let chosen = choose(None, environment(Some("/variable"), Some("/xdg"), Some("/user")));
        assert_eq!(chosen.unwrap(), Path::new("/variable"));
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn an_empty_variable_counts_as_unset() {
        let chosen = choose(None, environment(Some(""), Some("/xdg"), Some("/user")));
        assert_eq!(chosen.unwrap(), Path::new("/xdg/web-ipc"));
        let chosen = choose(None, environment(None, Some(""), Some("/user")));
        assert_eq!(chosen.unwrap(), Path::new("/user/.local/share/web-ipc"));
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn a_relative_xdg_directory_is_passed_over() {
        let chosen = choose(None, environment(None, Some("data"), Some("/user")));
        assert_eq!(chosen.unwrap(), Path::new("/user/.local/share/web-ipc"));
    }

    #[cfg(target_os = "macos")]
    #[test]
    fn macos_keeps_it_under_application_support() {
        let chosen = choose(None, environment(None, Some("/xdg"), Some("/Users/me")));
        assert_eq!(chosen.unwrap(), Path::new("/Users/me/Library/Application Support/web-ipc"));
    }

    #[test]
    fn without_any_of_them_there_is_no_default() {
        assert!(matches!(choose(None, Environment::default()), Err(HomeError::NoDefault)));
        assert!(matches!(
            choose(None, environment(Some(""), None, Some(""))),
            Err(HomeError::NoDefault)
        ));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_that_is_not_utf_8_is_refused_with_the_reason() {
        use std::error::Error as _;
        use std::os::unix::ffi::OsStrExt as _;

        let error = locate(Some(Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff")))).unwrap_err();
        assert!(matches!(error, HomeError::BadPath { .. }), "{error:?}");
        assert!(error.source().unwrap().to_string().contains("UTF-8"));
    }

    #[test]
    fn what_was_meant_for_a_shell_is_refused_with_the_reason() {
        use std::error::Error as _;

        for (path, reason) in [
            ("~/x", "./~"),
            ("~", "./~"),
            ("~ada/x", "./~"),
            ("\"/x\"", "quotes"),
            ("'/x'", "quotes"),
            ("/x'", "quotes"),
            (" /x", "blank"),
            ("/x ", "blank"),
            ("/x\n", "blank"),
            ("\t/x", "blank"),
            (" ", "blank"),
            ("/a\nb", "control"),
            ("/a\u{9b}b", "control"),
        ] {
            let error = locate(Some(Path::new(path))).unwrap_err();
            assert!(matches!(error, HomeError::BadPath { .. }), "{path:?}: {error:?}");
            assert!(error.source().unwrap().to_string().contains(reason), "{path:?}: {error:?}");
        }
        for path in ["/a b/c", "/it's/a", "/a/~", "./~", "/a~b", "/\"a\"/b"] {
            assert!(locate(Some(Path::new(path))).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink(root.join("a/b"), root.join("link")).unwrap();
        let located = |path: &str| locate(Some(&root.join(path))).unwrap();
        for path in
            ["home", "home/", "home//", "./home", ".//home/.", "a/../home/", "a/b/../../home"]
        {
            assert_eq!(located(path).as_os_str(), root.join("home").as_os_str(), "{path}");
        }
        // A link itself is not resolved, but `..` leads to the parent of its target.
        assert_eq!(located("link/").as_os_str(), root.join("link").as_os_str());
        assert_eq!(located("link/../home").as_os_str(), root.join("a/home").as_os_str());
        assert_eq!(locate(Some(Path::new("/../.."))).unwrap(), Path::new("/"));
        assert!(matches!(
            locate(Some(&root.join("nothing/../home"))),
            Err(HomeError::BadPath { .. })
        ));
    }

    #[test]
    fn a_relative_flag_becomes_absolute_and_an_empty_one_is_refused() {
        assert!(locate(Some(Path::new("relative"))).unwrap().is_absolute());
        assert!(matches!(locate(Some(Path::new(""))), Err(HomeError::BadPath { .. })));
    }
}

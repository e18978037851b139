//! The remedy for a missing or bad certificate pair: to issue it here, or where the authority's key
//! is.
//!
//! The errors of this crate and of higher crates use it. It checks for files, and opens none.

use std::path::Path;

use ipc_base::{Place, Remedy};

/// The remedy that makes the pair of `name` again. `path` is the path of one of its two files. If
/// the authority's key is not beside it, the pair cannot be issued here.
#[must_use]
pub fn remedy_of_pair(path: &Path, name: &str) -> Remedy {
    issue_pair(path, name, true)
}

/// [`remedy_of_pair`], but it replaces an existing pair only if `replace` is set.
pub(crate) fn issue_pair(path: &Path, name: &str, replace: bool) -> Remedy {
    let is_there = |name: &str| path.with_file_name(name).symlink_metadata().is_ok();
    let place = if is_there("web-ipc-ca.crt") && !is_there("web-ipc-ca.key") {
        Place::AuthoritysHome
    } else {
        Place::ThisHome
    };
    Remedy::issue(name, replace, place)
}

//! What makes a certificate pair anew: here, or where the authority's key is kept.
//!
//! The errors of this crate and of those above come here. Files are looked for, and none is opened.

use std::path::Path;

use ipc_base::{Place, Remedy};

/// What makes the pair of `name` anew. `path` is, or was, one of its two files: without the
/// authority's key beside it nothing can be issued here.
#[must_use]
pub fn remedy_of_pair(path: &Path, name: &str) -> Remedy {
    issue_pair(path, name, true)
}

/// [`remedy_of_pair`], which replaces a pair that is there only where `replace` says so.
pub(crate) fn issue_pair(path: &Path, name: &str, replace: bool) -> Remedy {
    let is_there = |name: &str| path.with_file_name(name).symlink_metadata().is_ok();
    let place = if is_there("web-ipc-ca.crt") && !is_there("web-ipc-ca.key") {
        Place::AuthoritysHome
    } else {
        Place::ThisHome
    };
    Remedy::issue(name, replace, place)
}

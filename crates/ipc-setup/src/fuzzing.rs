//! The stages in which an enrolment bundle is read, for the fuzz target `bundle`.
//!
//! A fuzzer cannot guess a code, and Argon2id would take all of its time. The target therefore
//! comes here for the parts before and behind the key. Nothing else does, and none of it is stable.

use ipc_home::PeerName;

use crate::bundle::{self, Sealed};
use crate::bundle_error::BundleError;
use crate::enrol::Content;

/// What stands in a bundle outside its sealed content.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Memory in KiB, passes and lanes of Argon2id.
    pub cost: [u32; 3],
    /// The salt of Argon2id.
    pub salt: Vec<u8>,
    /// The sealed content.
    pub token: Vec<u8>,
}

/// The names that a bundle's content has.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// The client's name.
    pub name: PeerName,
    /// The server's name.
    pub server: PeerName,
    /// The server's addresses.
    pub addresses: Vec<String>,
    /// The user that the client logs in as.
    pub username: String,
}

/// Reads the armour and the header of a bundle. No key is derived.
///
/// # Errors
/// [`BundleError`], as [`accept_enrolment`](crate::accept_enrolment) has them.
pub fn parse(text: &str) -> Result<Head, BundleError> {
    let sealed = Sealed::parse(text)?;
    let (salt, token) = sealed.salt_and_token();
    Ok(Head { cost: sealed.cost(), salt: salt.to_vec(), token: token.to_vec() })
}

/// Writes the armour around the bytes of a bundle, with their check behind them.
#[must_use]
pub fn armoured(bytes: Vec<u8>) -> String {
    bundle::armoured(bytes)
}

/// Reads and checks the plaintext of a bundle's content.
///
/// # Errors
/// [`BundleError`], as [`accept_enrolment`](crate::accept_enrolment) has them.
pub fn check_content(json: &[u8], now_secs: u64) -> Result<Names, BundleError> {
    let content = Content::from_json(json)?;
    let (name, server) = content.checked_names(now_secs)?;
    let (addresses, username) = content.addresses_and_username();
    Ok(Names { name, server, addresses: addresses.to_vec(), username: username.to_owned() })
}

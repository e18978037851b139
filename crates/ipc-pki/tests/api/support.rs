//! An authority, leaves of it, and a folder with both, for one test each.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_pki::{Authority, AuthorityOptions, IssuedPair, KeyType, LeafRequest, Usages};
use tempfile::TempDir;

/// Any moment, for verifiers that take the time as an argument.
pub(crate) const NOW_SECS: u64 = 1_750_000_000;

/// The real time, for verifiers that read the clock.
pub(crate) fn clock_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn authority(now_secs: u64) -> Authority {
    Authority::create(&AuthorityOptions::default(), now_secs).unwrap()
}

/// A request with what most tests check: two names, a wildcard and an address of either kind.
pub(crate) fn request(usages: Usages, key_type: KeyType) -> LeafRequest {
    let mut request = LeafRequest::new("testServer1".parse().unwrap());
    request.alt_names = ["testServer1", "localhost", "*.example.com", "127.0.0.1", "::1"]
        .map(|name| name.parse().unwrap())
        .to_vec();
    request.usages = usages;
    request.key_type = key_type;
    request
}

/// A folder with `ca.crt`, `leaf.crt` and `leaf.key`, and with `other.crt`, an authority that
/// issued nothing.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new(authority: &Authority, pair: &IssuedPair) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.file("ca.crt"), authority.certificate_pem()).unwrap();
        std::fs::write(folder.file("leaf.crt"), &pair.certificate_pem).unwrap();
        std::fs::write(folder.file("leaf.key"), pair.key_pem.as_bytes()).unwrap();
        std::fs::write(folder.file("other.crt"), self::authority(NOW_SECS).certificate_pem())
            .unwrap();
        folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

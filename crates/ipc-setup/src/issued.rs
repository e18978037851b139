//! The certificates that were issued for others: `issued/SERIAL.crt`.
//!
//! Enrolling and renewing come here before a certificate is handed out, with the lock held.
//! Revocation and lists read the files.

use std::path::Path;

use ipc_home::{Home, HomeError, read_public};
use ipc_pki::{CertificateInfo, SerialNumber};

use crate::{SetupError, files};

/// How long an expired certificate stays in the directory, in seconds: 30 days, in which the list
/// of certificates still shows that it has expired.
const KEPT_EXPIRED_SECS: u64 = 30 * 86_400;

/// Files a certificate that was issued for somebody else, before it is handed out, and removes
/// those that expired more than 30 days ago: nobody verifies them any longer.
pub(crate) fn keep(
    home: &Home,
    serial: &SerialNumber,
    certificate_pem: &[u8],
    now_secs: u64,
) -> Result<(), SetupError> {
    files::make_directory(&home.issued_dir())?;
    files::write(&home.issued_dir().join(format!("{serial}.crt")), certificate_pem)?;
    remove_expired(&home.issued_dir(), now_secs)
}

/// What cannot be read as a certificate stays: nothing says that it has expired.
fn remove_expired(directory: &Path, now_secs: u64) -> Result<(), SetupError> {
    let unreadable = |source| HomeError::Unreadable { path: directory.to_owned(), source };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "crt") {
            continue;
        }
        let info = read_public(&path).ok().and_then(|pem| CertificateInfo::from_pem(&pem).ok());
        let is_over = |info: &CertificateInfo| {
            info.not_after_secs.saturating_add(KEPT_EXPIRED_SECS) < now_secs
        };
        if info.is_some_and(|info| is_over(&info)) {
            files::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::new_home;
    use crate::{EnrolRequest, InitOptions, create_enrolment};

    const DAY_SECS: u64 = 86_400;

    #[test]
    fn a_certificate_that_expired_30_days_ago_leaves_with_the_next_one() {
        let (_directory, home) = new_home();
        let now_secs = InitOptions::now().now_secs;
        let enrol = |name: &str, validity_days, now_secs| {
            let addresses = ["192.0.2.1:3000".to_owned()];
            let request =
                EnrolRequest { validity_days, ..EnrolRequest::new(name, &addresses, now_secs) };
            let serial = create_enrolment(&home, &request).unwrap().enrolment.serial;
            home.issued_dir().join(format!("{serial}.crt"))
        };
        let (short, long) = (enrol("short", 1, now_secs), enrol("long", 300, now_secs));
        let other = home.issued_dir().join("damaged.crt");
        std::fs::write(&other, "no certificate").unwrap();
        let within = enrol("worker1", 300, now_secs + 30 * DAY_SECS);
        assert!(short.exists(), "29 days ago is not long enough");
        let last = enrol("worker2", 300, now_secs + 32 * DAY_SECS);
        assert!(!short.exists());
        for kept in [long, other, within, last] {
            assert!(kept.exists(), "{}", kept.display());
        }
    }
}

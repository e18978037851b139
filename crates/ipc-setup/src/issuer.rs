//! Issues certificates to clients that renew theirs over the line.
//!
//! The server comes here by way of [`CertificateIssuer`], which knows neither this crate nor the
//! home. It has verified the connection's certificate and the user; what else a client may have is
//! decided here.

use ipc_base::{CertificateIssuer, RenewalError, RenewalQuery, Renewed};
use ipc_home::{Home, HomeError, PeerName};
use ipc_pki::{CertificateInfo, CertificateRequest, LeafRequest, RevocationReason, Usages};

use crate::certificates::{CertificateList, list_certificates};
use crate::enrol::revoke_serial;
use crate::enrolments::{Enrolment, EnrolmentKind, EnrolmentState};
use crate::lock::Lock;
use crate::provision::load_authority;
use crate::{SetupError, issued, node};

/// The most certificates that are issued for one name in 24 hours. One a year is needed.
const RENEWALS_A_DAY_MAX: usize = 50;

/// Issues certificates from the authority of a home. Every call blocks.
///
/// A client gets what its certificate on the connection says: the same name, alternative names and
/// usages, whatever it asks for. Only the public key is its choice:
///
/// - The certificate that travelled in a bundle is renewed for one key alone. The first key that
///   asks is noted, and gets a certificate again when it repeats itself; another is refused, and so
///   whoever copied the bundle on its way is found out.
/// - When the new certificate is used, the bundle's is revoked.
/// - A certificate that was renewed once may be renewed for any key.
/// - A further server gets what servers share, if its certificate is that of a server and its
///   enrolment is too. The home of such a server issues nothing.
/// - A pair that belongs to no enrolment is refused.
/// - A name gets 50 certificates in 24 hours at most. Beyond that the answer has no certificate,
///   and what has changed all the same, so that a client follows.
#[derive(Debug, Clone)]
pub struct HomeIssuer {
    home: Home,
    server: PeerName,
}

impl HomeIssuer {
    /// Issues from `home`, for clients of a server that presents the certificate `server`.
    #[must_use]
    pub fn new(home: Home, server: PeerName) -> Self {
        Self { home, server }
    }

    fn answer(&self, query: &RenewalQuery<'_>) -> Result<Renewed, Problem> {
        let malformed = |reason: &str| Problem::Malformed(reason.to_owned());
        let info = CertificateInfo::from_der(query.certificate)
            .map_err(|_| malformed("the certificate on the connection cannot be read"))?;
        let name = info.subject.as_deref().and_then(|name| PeerName::parse(name).ok());
        let name = name.ok_or_else(|| malformed("the certificate has no name"))?;
        // Parsed before the lock is waited for: what is malformed keeps nobody waiting.
        let request = match query.csr_pem {
            Some(pem) => Some(
                CertificateRequest::from_pem(pem.as_bytes())
                    .map_err(|refused| Problem::Malformed(refused.to_string()))?,
            ),
            None => None,
        };
        // A further server knows of no enrolment, and what it says of addresses would be wrong.
        if node::settings(&self.home)?.is_some() {
            return Err(Problem::Unavailable);
        }
        let _lock = Lock::of_complete(&self.home)?;
        let list = list_certificates(&self.home)?;
        let is_revoked = list
            .certificates
            .iter()
            .any(|one| one.serial == info.serial && one.revoked_at_secs.is_some());
        if is_revoked {
            return Err(refused("the certificate was revoked"));
        }
        // A pair that was copied by hand belongs to no enrolment: nothing says who may have it, nor
        // where the server is reached.
        let mut enrolment = Enrolment::read(&self.home, &name)?.ok_or_else(|| {
            refused(
                "the certificate is of no enrolment: enrol its peer, or renew the pair in the \
                 server's home and copy it again",
            )
        })?;
        if enrolment.state == EnrolmentState::Cancelled {
            return Err(refused("the enrolment was cancelled"));
        }
        if enrolment.user != query.user {
            return Err(refused("the certificate belongs to another user"));
        }
        let usages = match enrolment.kind {
            EnrolmentKind::Client => Usages::Client,
            EnrolmentKind::Server => Usages::ServerAndClient,
        };
        if info.usages != Some(usages) {
            return Err(refused("the certificate is of another kind than the enrolment"));
        }
        let is_of_bundle = enrolment.serial == info.serial.to_string();
        // On every use of a later certificate, since the call that confirms the first renewal may
        // be lost.
        if !is_of_bundle {
            self.end_bundle(&list, &enrolment, query.now_secs)?;
        }
        let certificate_pem = match request {
            Some(_) if self.has_its_number(&list, &name, query.now_secs) => None,
            Some(request) => {
                if is_of_bundle {
                    self.note_key(&mut enrolment, &request)?;
                }
                Some(self.issue(&info, &request, query.now_secs)?)
            }
            None => None,
        };
        let renewed = Renewed::new(certificate_pem, enrolment.server, enrolment.addresses);
        Ok(match enrolment.kind {
            EnrolmentKind::Client => renewed,
            EnrolmentKind::Server => renewed.for_server(),
        })
    }

    /// Whether a name got as many certificates as it gets in 24 hours. Each is a file that stays: a
    /// client must not fill the disk with them.
    fn has_its_number(&self, list: &CertificateList, name: &PeerName, now_secs: u64) -> bool {
        let issued_dir = self.home.issued_dir();
        let of_today = list.certificates.iter().filter(|one| {
            one.file.starts_with(&issued_dir)
                && one.name.eq_ignore_ascii_case(name.as_str())
                && one.not_before_secs + 86_400 > now_secs
        });
        of_today.count() >= RENEWALS_A_DAY_MAX
    }

    /// Notes the key that the bundle's certificate is renewed for, before it gets a certificate.
    fn note_key(
        &self,
        enrolment: &mut Enrolment,
        request: &CertificateRequest,
    ) -> Result<(), Problem> {
        let key: String = request.spki_sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        match &enrolment.accepted_key {
            Some(accepted) if *accepted == key => return Ok(()),
            Some(_) => {
                return Err(refused("the bundle was accepted already, with another key"));
            }
            None => {}
        }
        enrolment.accepted_key = Some(key);
        enrolment.state = EnrolmentState::Accepted;
        Ok(enrolment.write(&self.home)?)
    }

    /// Revokes the bundle's certificate, unless it is revoked: the client uses the one that took
    /// its place.
    fn end_bundle(
        &self,
        list: &CertificateList,
        enrolment: &Enrolment,
        now_secs: u64,
    ) -> Result<(), Problem> {
        let is_revoked = list
            .certificates
            .iter()
            .any(|one| one.revoked_at_secs.is_some() && one.serial.to_string() == enrolment.serial);
        if is_revoked {
            return Ok(());
        }
        let superseded = RevocationReason::Superseded;
        revoke_serial(&self.home, &enrolment.serial, superseded, now_secs)
            .map_err(|error| self.without_authority(error))
    }

    /// An error while the authority signs: where its key is kept elsewhere, nothing is signed here.
    fn without_authority(&self, error: SetupError) -> Problem {
        match error {
            SetupError::Home(HomeError::FileMissing { path })
                if path == self.home.ca_key_file() =>
            {
                Problem::Unavailable
            }
            error => Problem::Failed(error),
        }
    }

    fn issue(
        &self,
        info: &CertificateInfo,
        request: &CertificateRequest,
        now_secs: u64,
    ) -> Result<String, Problem> {
        let leaf =
            LeafRequest::renewal_of(info).map_err(|error| Problem::Refused(error.to_string()))?;
        let authority =
            load_authority(&self.home).map_err(|error| self.without_authority(error))?;
        let issued = authority
            .issue_for_key(&leaf, request, now_secs)
            .map_err(|source| SetupError::Issue { name: self.server.clone(), source })?;
        issued::keep(&self.home, &issued.serial, &issued.certificate_pem, now_secs)?;
        Ok(String::from_utf8_lossy(&issued.certificate_pem).into_owned())
    }
}

impl CertificateIssuer for HomeIssuer {
    fn renew(&self, query: &RenewalQuery<'_>) -> Result<Renewed, RenewalError> {
        self.answer(query).map_err(|problem| match problem {
            Problem::Refused(reason) => RenewalError::Refused { reason },
            Problem::Malformed(reason) => RenewalError::Malformed { reason },
            Problem::Unavailable => RenewalError::Unavailable,
            Problem::Failed(error) => RenewalError::Failed { source: error.into() },
        })
    }
}

enum Problem {
    Refused(String),
    Malformed(String),
    Unavailable,
    Failed(SetupError),
}

impl From<SetupError> for Problem {
    fn from(error: SetupError) -> Self {
        Self::Failed(error)
    }
}

fn refused(reason: &str) -> Problem {
    Problem::Refused(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use ipc_pki::{KeyType, RequestedPair, SubjectName};

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{
        EnrolRequest, InitOptions, cancel_enrolment, create_enrolment, list_enrolments,
        revoke_certificates,
    };

    fn now_secs() -> u64 {
        InitOptions::now().now_secs
    }

    fn enrolled() -> (tempfile::TempDir, Home) {
        let (directory, home) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        create_enrolment(&home, &EnrolRequest::new("worker1", &addresses, now_secs())).unwrap();
        (directory, home)
    }

    fn issuer(home: &Home) -> HomeIssuer {
        HomeIssuer::new(home.clone(), PeerName::parse("localhost").unwrap())
    }

    fn der(pem: &[u8]) -> Vec<u8> {
        use rustls_pki_types::pem::PemObject as _;
        rustls_pki_types::CertificateDer::from_pem_slice(pem).unwrap().to_vec()
    }

    /// The certificate of the bundle, in DER.
    fn of_bundle(home: &Home) -> Vec<u8> {
        let serial = list_enrolments(home).unwrap().remove(0).serial;
        der(&std::fs::read(home.issued_dir().join(format!("{serial}.crt"))).unwrap())
    }

    fn request(name: &str) -> String {
        let name = SubjectName::parse(name).unwrap();
        let pair = RequestedPair::create(&name, KeyType::P256).unwrap();
        String::from_utf8(pair.request_pem).unwrap()
    }

    fn renew(home: &Home, certificate: &[u8], csr: Option<&str>) -> Result<Renewed, RenewalError> {
        issuer(home).renew(&RenewalQuery::new(certificate, "worker1", csr, now_secs()))
    }

    fn reason(refused: Result<Renewed, RenewalError>) -> String {
        match refused {
            Err(RenewalError::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_renewed_certificate_is_that_of_the_connection_whatever_the_request_says() {
        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        let renewed = renew(&home, &bundle, Some(&request("localhost"))).unwrap();
        assert_eq!(
            (&*renewed.server, &renewed.addresses[..]),
            ("localhost", &["192.0.2.1:3000".to_owned()][..])
        );
        let new = CertificateInfo::from_pem(renewed.certificate_pem.unwrap().as_bytes()).unwrap();
        let old = CertificateInfo::from_der(&bundle).unwrap();
        assert_eq!(
            (&new.subject, &new.alt_names, new.usages),
            (&old.subject, &old.alt_names, old.usages)
        );
        assert_ne!((&new.serial, &new.key_id), (&old.serial, &old.key_id));
        assert!(home.issued_dir().join(format!("{}.crt", new.serial)).is_file());
        assert_eq!(list_enrolments(&home).unwrap()[0].state, EnrolmentState::Accepted);
    }

    #[test]
    fn a_bundle_is_renewed_for_one_key_alone() {
        let (_directory, home) = enrolled();
        let (bundle, first) = (of_bundle(&home), request("worker1"));
        renew(&home, &bundle, Some(&first)).unwrap();
        // An answer that was lost is asked for again.
        renew(&home, &bundle, Some(&first)).unwrap();
        let told = reason(renew(&home, &bundle, Some(&request("worker1"))));
        assert_eq!(told, "the bundle was accepted already, with another key");
    }

    #[test]
    fn the_bundles_certificate_ends_when_the_new_one_is_used() {
        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        let first = renew(&home, &bundle, Some(&request("worker1"))).unwrap();
        // With the bundle's own certificate nothing is revoked.
        assert_eq!(renew(&home, &bundle, None).unwrap().certificate_pem, None);
        assert!(!home.revocation_list_file().exists());
        let new = der(first.certificate_pem.unwrap().as_bytes());
        assert_eq!(renew(&home, &new, None).unwrap().certificate_pem, None);
        assert_eq!(reason(renew(&home, &bundle, None)), "the certificate was revoked");
        // The new one is renewed for any key.
        for _ in 0..2 {
            assert!(
                renew(&home, &new, Some(&request("worker1"))).unwrap().certificate_pem.is_some()
            );
        }
    }

    #[test]
    fn a_later_renewal_ends_the_bundles_certificate_if_nothing_confirmed_the_first() {
        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        let first = renew(&home, &bundle, Some(&request("worker1"))).unwrap();
        let new = der(first.certificate_pem.unwrap().as_bytes());
        let second = renew(&home, &new, Some(&request("worker1"))).unwrap();
        assert!(second.certificate_pem.is_some());
        assert_eq!(reason(renew(&home, &bundle, None)), "the certificate was revoked");
        // It is revoked once: after that no key of the authority is needed to follow.
        std::fs::remove_file(home.ca_key_file()).unwrap();
        assert!(renew(&home, &new, None).is_ok());
        let renewed = renew(&home, &new, Some(&request("worker1")));
        assert!(matches!(renewed, Err(RenewalError::Unavailable)), "{renewed:?}");
    }

    #[test]
    fn without_the_authoritys_key_the_bundles_certificate_cannot_be_ended() {
        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        let first = renew(&home, &bundle, Some(&request("worker1"))).unwrap();
        let new = der(first.certificate_pem.unwrap().as_bytes());
        std::fs::remove_file(home.ca_key_file()).unwrap();
        let renewed = renew(&home, &new, None);
        assert!(matches!(renewed, Err(RenewalError::Unavailable)), "{renewed:?}");
    }

    #[test]
    fn another_user_and_what_was_cancelled_or_revoked_are_refused() {
        let (_directory, home) = enrolled();
        let (bundle, csr) = (of_bundle(&home), request("worker1"));
        let query = RenewalQuery::new(&bundle, "ipc-admin", Some(&csr), now_secs());
        let told = reason(issuer(&home).renew(&query));
        assert_eq!(told, "the certificate belongs to another user");
        cancel_enrolment(&home, "worker1", now_secs()).unwrap();
        assert_eq!(reason(renew(&home, &bundle, Some(&csr))), "the certificate was revoked");

        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        let unspecified = RevocationReason::Unspecified;
        revoke_certificates(&home, "worker1", unspecified, now_secs()).unwrap();
        assert_eq!(reason(renew(&home, &bundle, None)), "the certificate was revoked");
        assert_eq!(list_enrolments(&home).unwrap()[0].state, EnrolmentState::Pending);
    }

    #[test]
    fn a_request_that_is_none_is_malformed_and_without_the_authoritys_key_there_is_no_issuer() {
        let (_directory, home) = enrolled();
        let bundle = of_bundle(&home);
        for text in ["", "text", "-----BEGIN CERTIFICATE REQUEST-----"] {
            let renewed = renew(&home, &bundle, Some(text));
            assert!(matches!(renewed, Err(RenewalError::Malformed { .. })), "{renewed:?}");
        }
        assert!(matches!(
            issuer(&home).renew(&RenewalQuery::new(b"x", "worker1", None, now_secs())),
            Err(RenewalError::Malformed { .. })
        ));
        std::fs::remove_file(home.ca_key_file()).unwrap();
        let renewed = renew(&home, &bundle, Some(&request("worker1")));
        assert!(matches!(renewed, Err(RenewalError::Unavailable)), "{renewed:?}");
        assert!(renew(&home, &bundle, None).is_ok());
    }

    #[test]
    fn a_client_that_renews_without_end_gets_fifty_certificates_a_day_and_follows_on() {
        let (_directory, home) = enrolled();
        let (bundle, csr) = (of_bundle(&home), request("worker1"));
        // The bundle's own certificate counts.
        for _ in 1..RENEWALS_A_DAY_MAX {
            assert!(renew(&home, &bundle, Some(&csr)).unwrap().certificate_pem.is_some());
        }
        let issued = || std::fs::read_dir(home.issued_dir()).unwrap().count();
        let before = issued();
        let renewed = renew(&home, &bundle, Some(&csr)).unwrap();
        assert_eq!(renewed.certificate_pem, None);
        assert_eq!(renewed.addresses, ["192.0.2.1:3000"]);
        assert_eq!((before, issued()), (RENEWALS_A_DAY_MAX, RENEWALS_A_DAY_MAX));
        let tomorrow_secs = now_secs() + 86_400;
        let query = RenewalQuery::new(&bundle, "worker1", Some(&csr), tomorrow_secs);
        assert!(issuer(&home).renew(&query).unwrap().certificate_pem.is_some());
    }

    #[test]
    fn a_pair_of_the_home_is_refused_also_under_the_name_of_an_enrolled_server() {
        let (_directory, home) = enrolled();
        let own = der(&std::fs::read(home.root().join("localhost.crt")).unwrap());
        for csr in [None, Some(request("localhost"))] {
            let told = reason(renew(&home, &own, csr.as_deref()));
            assert!(told.contains("of no enrolment") && told.contains("copy it again"), "{told}");
        }
        // With the certificate of a client the name of a server is of no use, and the other way.
        let client = of_bundle(&home);
        let path = home.enrolments_dir().join("worker1.json");
        let noted = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, noted.replace("\"client\"", "\"server\"")).unwrap();
        let told = reason(renew(&home, &client, None));
        assert_eq!(told, "the certificate is of another kind than the enrolment");
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_renews_over_the_line() {
        let Some(home) = kills::home_of_child() else { return };
        let home = Home::at(home);
        let csr = std::fs::read_to_string(home.root().parent().unwrap().join("csr")).unwrap();
        renew(&home, &of_bundle(&home), Some(&csr)).unwrap();
    }

    #[test]
    fn a_server_killed_at_any_step_answers_the_same_key_again() {
        let killed = kills::at_each_step(
            "issuer::tests::child_process_renews_over_the_line",
            || {
                let (directory, home) = enrolled();
                std::fs::write(directory.path().join("csr"), request("worker1")).unwrap();
                (directory, home.root().to_owned())
            },
            |home| {
                let csr = std::fs::read_to_string(home.parent().unwrap().join("csr")).unwrap();
                let home = Home::at(home);
                assert!(renew(&home, &of_bundle(&home), Some(&csr)).is_ok());
                let other = renew(&home, &of_bundle(&home), Some(&request("worker1")));
                assert!(matches!(other, Err(RenewalError::Refused { .. })));
            },
        );
        assert_eq!(killed, 10);
    }
}

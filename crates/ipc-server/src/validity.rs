//! Checks when the server's own certificate is valid. Clients refuse an invalid one, and without
//! this check the server's log would not say why.
//!
//! A server comes here before it starts, and from time to time while it runs. The time is an
//! argument.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_base::CertificateFacts;
use ipc_home::{PeerName, Timestamp, remedy_of_pair};
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::clock::unix_secs;
use crate::error::StartError;

/// An expiry is logged if it is nearer than this.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The certificate that a server presents, with the verifier that clients use.
pub(crate) struct OwnCertificate {
    name: PeerName,
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ServerCertVerifier>,
}

/// The validity of a certificate at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Good,
    /// It becomes valid at this time.
    NotYet(SystemTime),
    /// It is valid, and expires soon, at this time.
    EndsSoon(SystemTime),
    /// It expired at this time.
    Ended(SystemTime),
}

impl OwnCertificate {
    /// Takes the certificate of `name` in the file `path`. `verifier` verifies it as a client does.
    pub(crate) fn new(
        name: PeerName,
        path: PathBuf,
        chain: Vec<CertificateDer<'static>>,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Self {
        OwnCertificate { name, path, chain, verifier }
    }

    /// Refuses a certificate that no client accepts at this time. Logs an expiry that is near.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), StartError> {
        let (name, path) = (self.name.to_string(), self.path.clone());
        match self.standing(now) {
            Validity::NotYet(from) => {
                return Err(StartError::CertificateNotYetGood {
                    name,
                    path,
                    from: Timestamp::from(from).to_string(),
                    now: Timestamp::from(now).to_string(),
                });
            }
            Validity::Ended(end) => {
                return Err(StartError::CertificateEnded {
                    name,
                    path,
                    end: Timestamp::from(end).to_string(),
                    now: Timestamp::from(now).to_string(),
                });
            }
            Validity::Good | Validity::EndsSoon(_) => (),
        }
        self.tell(now);
        Ok(())
    }

    /// Whether it is valid now, and for the next 30 days.
    pub(crate) fn is_good_for_long(&self, now: SystemTime) -> bool {
        self.standing(now) == Validity::Good
    }

    /// Logs an expiry that is near or past.
    pub(crate) fn tell(&self, now: SystemTime) {
        let name = &self.name;
        let remedy = remedy_of_pair(&self.path, name.as_ref());
        match self.standing(now) {
            Validity::Good => (),
            Validity::EndsSoon(end) => {
                let days = end.duration_since(now).unwrap_or_default().as_secs() / (24 * 60 * 60);
                log::warn!(
                    "the certificate `{name}` expires in {days} days, on {}: {remedy}",
                    Timestamp::from(end)
                );
            }
            Validity::Ended(end) => {
                log::error!(
                    "the certificate `{name}` expired on {}, and clients refuse it: {remedy}",
                    Timestamp::from(end)
                );
            }
            Validity::NotYet(from) => log::error!(
                "the certificate `{name}` is not valid before {}, and clients refuse it until then: set this host's clock",
                Timestamp::from(from)
            ),
        }
    }

    fn standing(&self, now: SystemTime) -> Validity {
        match self.error_at(now) {
            Some(CertificateError::ExpiredContext { not_after, .. }) => {
                Validity::Ended(time(not_after))
            }
            Some(CertificateError::NotValidYetContext { not_before, .. }) => {
                Validity::NotYet(time(not_before))
            }
            _ => match self.error_at(now + SOON) {
                Some(CertificateError::ExpiredContext { not_after, .. }) => {
                    Validity::EndsSoon(time(not_after))
                }
                _ => Validity::Good,
            },
        }
    }

    /// The problem that a client would find with it at this time. The verifier checks the name
    /// last, so the name given here does not matter.
    fn error_at(&self, now: SystemTime) -> Option<CertificateError> {
        let (end_entity, intermediates) = self.chain.split_first()?;
        let any = ServerName::try_from("localhost").ok()?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_secs(now)));
        match self.verifier.verify_server_cert(end_entity, intermediates, &any, &[], now) {
            Err(Error::InvalidCertificate(error)) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        let facts = self.chain.first().and_then(|leaf| CertificateFacts::from_der(leaf));
        match facts {
            Some(facts) => {
                write!(f, " valid until {}", Timestamp::from_unix_secs(facts.not_after_secs))
            }
            None => Ok(()),
        }
    }
}

fn time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests {
    use ipc_base::{Place, Remedy};
    use ipc_pki::{Authority, AuthorityOptions, LeafRequest, SubjectName};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::crypto::ring;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    const ISSUED: u64 = 1_742_413_130;

    /// A certificate that is valid for 100 days.
    fn own() -> OwnCertificate {
        let authority = Authority::create(&AuthorityOptions::default(), ISSUED).unwrap();
        let mut request = LeafRequest::new(SubjectName::parse("peer1").unwrap());
        request.validity_days = 100;
        let pair = authority.issue(&request, ISSUED).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate_pem()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate_pem.as_ref()).unwrap()];
        OwnCertificate::new(
            PeerName::parse("peer1").unwrap(),
            "/x/peer1.crt".into(),
            chain,
            verifier,
        )
    }

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn one_that_is_good_for_long_is_good_and_one_that_ends_soon_is_told() {
        let own = own();
        assert_eq!(own.standing(at(ISSUED)), Validity::Good);
        assert_eq!(own.standing(at(ISSUED + 69 * DAY)), Validity::Good);
        let Validity::EndsSoon(end) = own.standing(at(ISSUED + 71 * DAY)) else { panic!() };
        assert!(end > at(ISSUED + 99 * DAY) && end <= at(ISSUED + 100 * DAY));
        assert!(own.check(at(ISSUED + 71 * DAY)).is_ok());
    }

    #[test]
    fn one_that_has_expired_or_is_not_good_yet_is_refused_with_the_times_and_what_to_do() {
        let own = own();
        let expired = own.check(at(ISSUED + 101 * DAY)).unwrap_err();
        assert!(
            expired.to_string().contains("`peer1` expired on 2025-06-2")
                && expired.to_string().contains("clock shows 2025-06-28T19:38:50Z")
        );
        let reissue = Remedy::issue("peer1", true, Place::ThisHome);
        assert_eq!(expired.remedy(), Some(reissue.clone()));
        let early = own.check(at(ISSUED - DAY)).unwrap_err();
        assert!(
            early.to_string().contains("`peer1` is not valid before ")
                && early.to_string().contains("2025-03-18T19:38:50Z")
        );
        assert_eq!(early.remedy(), Some(Remedy::SetClock.or(reissue)));
    }
}

//! `web-ipc --certs …`: issues certificates, lists, renews and revokes them.

use std::path::Path;

use ipc_base::Remedy;
use ipc_home::{Home, HomeError, Timestamp, locate};
use ipc_setup::{
    CertificateKind, CertificateList, CertificateRequest, EnrolmentKind, InitOptions,
    ListedCertificate, Renew, Renewals, RevocationReason, SetupError, WARN_DAYS,
    drop_old_authority, issue_certificate, list_certificates, renew_certificates,
    revoke_certificates, rotate_authority, users,
};
use ipc_store::PeerSighting;

use crate::args::Certs;
use crate::error::{Failure, Verdict};
use crate::out::{counted, print_line, printable, report_line};
use crate::remedy::{Reader, enrolment_of, sentence};
use crate::renewal::{self, NotRenewed, ends};
use crate::shell::shell_quoted;

const DAY_SECS: u64 = 24 * 60 * 60;

/// Issues the certificate.
pub(crate) fn run(explicit_home: Option<&Path>, certs: &Certs) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let mut request = CertificateRequest::new(&certs.name, InitOptions::now().now_secs);
    request.alt_names = &certs.alt_names;
    request.force = certs.force;
    request.key_type = certs.key_type;
    if let Some(days) = certs.days {
        request.validity_days = days;
    }
    let issued = issue_certificate(&home, &request)?;
    let asked_for_secs =
        request.now_secs.saturating_add(u64::from(request.validity_days) * DAY_SECS);
    if issued.not_after_secs < asked_for_secs {
        log::warn!(
            "{} days are more than the authority has left: the certificate ends with it",
            request.validity_days
        );
    }
    report_line(format_args!("Certificate: {}", issued.certificate_file.display()))?;
    report_line(format_args!("Key:         {}", issued.key_file.display()))?;
    report_line(format_args!("Valid for:   {}", issued.alt_names.join(", ")))?;
    report_line(format_args!("Until:       {}", Timestamp::from_unix_secs(issued.not_after_secs)))?;
    if issued.replaced {
        log::info!("servers and clients that are running take the new certificate within seconds");
    }
    Ok(Verdict::Done)
}

/// Lists the certificates, of a client's directory too.
pub(crate) fn list(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
) -> Result<Verdict, Failure> {
    let home = Home::open_client(locate(explicit_home)?)?.with_users_url(users_db);
    let now_secs = InitOptions::now().now_secs;
    let list = list_certificates(&home)?;
    // A client's home has no users, and nobody logs in there.
    let peers = match home.users_db().is_file() || home.users_url()?.is_some() {
        true => users(&home)?.peers()?,
        false => Vec::new(),
    };
    for one in &list.certificates {
        let seen = peers.iter().find(|peer| *peer.fingerprint.as_bytes() == one.fingerprint_sha256);
        print_line(format_args!("{}", block(one, seen, now_secs)))?;
    }
    for path in &list.unreadable {
        log::warn!("{} is no certificate that can be read", path.display());
    }
    for one in list.expiring(WARN_DAYS, now_secs) {
        let what = format!("the certificate of {} {}", printable(&one.name), ends(one, now_secs));
        let reader = Reader::of(explicit_home);
        let mend = match mend_of_expiring(&home, one, now_secs) {
            Mend::Remedy(remedy) => format!("; {}", sentence(&remedy, &reader)),
            Mend::RemoveFile => format!(
                "; remove {} where nobody uses it, or renew it where its key is",
                shell_quoted(&one.file)
            ),
            Mend::Nothing => String::new(),
        };
        log::warn!("{what}{mend}");
    }
    warn_of_old(&list, explicit_home, now_secs);
    Ok(Verdict::Done)
}

/// What is done about a certificate that ends soon or has ended.
#[derive(Debug, PartialEq, Eq)]
enum Mend {
    Remedy(Remedy),
    /// Nothing says where its key is: its file may be left from something else.
    RemoveFile,
    Nothing,
}

/// What to do about a certificate that ends soon or has ended.
fn mend_of_expiring(home: &Home, one: &ListedCertificate, now_secs: u64) -> Mend {
    let is_enrolled = home.enrolled().is_ok_and(|enrolled| enrolled.is_some());
    let is_expired = one.is_expired(now_secs);
    Mend::Remedy(match (&one.pair, one.kind) {
        (Some(_), _) if is_enrolled && is_expired => Remedy::EnrolAnew,
        (Some(_), _) if is_enrolled => Remedy::RenewOwnCertificate,
        (Some(name), _) if home.is_client_directory() => {
            Remedy::ReplaceOwnCertificate { name: Some(name.to_string()) }
        }
        (Some(name), _) => Remedy::RenewCertificate { name: name.to_string() },
        (None, CertificateKind::Authority) if is_enrolled => Remedy::RenewOwnCertificate,
        (None, CertificateKind::Authority) if is_expired => Remedy::ReplaceHome,
        (None, CertificateKind::Authority) if home.is_client_directory() => return Mend::Nothing,
        (None, CertificateKind::Authority) => Remedy::RotateAuthority,
        (None, _) => match enrolment_of(home, &one.name) {
            None => return Mend::RemoveFile,
            Some(enrolment) if is_expired => Remedy::EnrolPeerAnew {
                name: enrolment.name,
                is_server: enrolment.kind == EnrolmentKind::Server,
            },
            Some(enrolment) => Remedy::RenewElsewhere { name: enrolment.name },
        },
    })
}

/// A certificate in several lines.
fn block(one: &ListedCertificate, seen: Option<&PeerSighting>, now_secs: u64) -> String {
    let state = match one.revoked_at_secs {
        Some(secs) => format!("revoked {}", Timestamp::from_unix_secs(secs)),
        None if one.is_expired(now_secs) => "expired".to_owned(),
        None if one.days_left(now_secs) == 0 => "less than a day left".to_owned(),
        None => format!("{} left", counted(one.days_left(now_secs), "day")),
    };
    let fingerprint: String =
        one.fingerprint_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let names: Vec<_> = one.alt_names.iter().map(|name| printable(name)).collect();
    let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let seen = seen.map_or_else(String::new, |seen| {
        format!("\n  seen    {}", Timestamp::from_unix_secs(seen.last_seen_at))
    });
    format!(
        "{}  {}  {state}\n  names   {names}\n  until   {}{seen}\n  serial  {}\n  SHA-256 {fingerprint}\n  file    {}",
        printable(&one.name),
        one.kind,
        Timestamp::from_unix_secs(one.not_after_secs),
        one.serial,
        one.file.display()
    )
}

/// Revokes certificates.
pub(crate) fn revoke(explicit_home: Option<&Path>, which: &str) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let now_secs = InitOptions::now().now_secs;
    for one in revoke_certificates(&home, which, RevocationReason::Unspecified, now_secs)? {
        let name = match &one.certificate {
            Some(certificate) => printable(&certificate.name),
            None => {
                log::warn!("no certificate here has the serial number {}", one.serial);
                "unknown".into()
            }
        };
        let before = if one.was_revoked { "Revoked before" } else { "Revoked" };
        report_line(format_args!("{before}: {name}, serial {}", one.serial))?;
    }
    Ok(Verdict::Done)
}

/// Renews the certificate of an enrolled client or further server, which the server issues that it
/// knows.
fn renew_client(home: &Home, which: &Renew) -> Result<Verdict, Failure> {
    let now_secs = InitOptions::now().now_secs;
    let own = || {
        Ok::<_, Failure>(
            list_certificates(home)?.certificates.into_iter().find(|one| one.pair.is_some()),
        )
    };
    if *which == Renew::Due && own()?.is_some_and(|own| !own.is_due(now_secs)) {
        log::info!("nothing is due");
        return Ok(Verdict::Done);
    }
    let renewal = renewal::over_the_line(home).map_err(NotRenewed::into_failure)?;
    let settings = renewal.settings;
    if let Renew::Name(name) = which
        && !name.eq_ignore_ascii_case(settings.identity.as_str())
    {
        log::warn!("there is one certificate in this home, that of {}", settings.identity);
    }
    let until = own()?.map_or_else(String::new, |own| {
        format!(", until {}", Timestamp::from_unix_secs(own.not_after_secs))
    });
    let done = match renewal.has_new_certificate {
        true => "Renewed",
        false => {
            log::warn!(
                "the certificate stays: the server has given {} as many as it gives in 24 hours; \
                 what else has changed was taken up",
                settings.identity
            );
            "Followed"
        }
    };
    report_line(format_args!("{done}: {}{until}", settings.identity))?;
    Ok(match which {
        // The certificate itself was to be replaced.
        Renew::Due | Renew::Name(_) if !renewal.has_new_certificate => Verdict::Refused,
        _ => Verdict::Done,
    })
}

/// Renews pairs of the home.
pub(crate) fn renew(explicit_home: Option<&Path>, which: &Renew) -> Result<Verdict, Failure> {
    let path = locate(explicit_home)?;
    let home = match Home::open_as_configured(&path) {
        Err(HomeError::ClientDirectory { .. }) => {
            return renew_client(&Home::open_client(&path)?, which);
        }
        home => home?,
    };
    if home.node_settings()?.is_some() {
        return renew_client(&home, which);
    }
    let renewals = renew_certificates(&home, which, InitOptions::now().now_secs)?;
    show(&renewals)?;
    if renewals.renewed.is_empty() {
        log::info!("nothing is due");
    }
    Ok(Verdict::Done)
}

/// Makes a new authority beside the old one.
pub(crate) fn rotate(explicit_home: Option<&Path>) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let now_secs = InitOptions::now().now_secs;
    let renewals = rotate_authority(&home, now_secs)?;
    report_line(format_args!("New authority: {}", home.ca_certificate_file().display()))?;
    show(&renewals)?;
    warn_of_old(&list_certificates(&home)?, explicit_home, now_secs);
    Ok(Verdict::Done)
}

/// Removes the authority that was replaced.
pub(crate) fn drop_old(explicit_home: Option<&Path>, force: bool) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let renewals = drop_old_authority(&home, force, InitOptions::now().now_secs)?;
    show(&renewals)?;
    report_line(format_args!("Dropped the old authority"))?;
    Ok(Verdict::Done)
}

/// Names the clients that have not followed a rotation.
fn warn_of_old(list: &CertificateList, explicit_home: Option<&Path>, now_secs: u64) {
    let names = list.not_followed(now_secs);
    if names.is_empty() {
        return;
    }
    // The same sentence that refuses to drop the old authority, without the way by force.
    let error = SetupError::NotFollowed { names };
    let all = Reader::of(explicit_home);
    log::warn!("{}; {}", printable(&error.to_string()), sentence(&Remedy::RenewEach, &all));
}

fn show(renewals: &Renewals) -> Result<(), Failure> {
    for name in &renewals.skipped {
        log::warn!(
            "{name} was revoked or is of another authority, and is not renewed; name it with --name \
             to have it replaced"
        );
    }
    for one in &renewals.renewed {
        report_line(format_args!(
            "Renewed: {}, until {}",
            one.name,
            Timestamp::from_unix_secs(one.not_after_secs)
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ipc_setup::{EnrolRequest, create_enrolment, init};

    use super::*;

    #[test]
    fn only_what_was_enrolled_is_enrolled_anew_and_any_other_file_may_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        let now_secs = InitOptions::now().now_secs;
        let home = init(&path, &InitOptions::now()).unwrap().home;
        let short =
            CertificateRequest { validity_days: 20, ..CertificateRequest::new("peer1", now_secs) };
        issue_certificate(&home, &short).unwrap();
        std::fs::remove_file(path.join("peer1.key")).unwrap();
        let addresses = ["192.0.2.1:3000".to_owned()];
        let client = EnrolRequest {
            user: Some("ada"),
            validity_days: 20,
            ..EnrolRequest::new("worker1", &addresses, now_secs)
        };
        create_enrolment(&home, &client).unwrap();
        let list = list_certificates(&home).unwrap();
        let mend = |name: &str, days: u64| {
            let one = list.certificates.iter().find(|one| one.name == name).unwrap();
            mend_of_expiring(&home, one, now_secs + days * DAY_SECS)
        };
        assert_eq!(mend("peer1", 0), Mend::RemoveFile);
        assert_eq!(mend("peer1", 21), Mend::RemoveFile);
        let name = || "worker1".to_owned();
        assert_eq!(mend("worker1", 0), Mend::Remedy(Remedy::RenewElsewhere { name: name() }));
        let anew = Remedy::EnrolPeerAnew { name: name(), is_server: false };
        let told = sentence(&anew, &Reader::of(Some(&path)));
        assert_eq!(mend("worker1", 21), Mend::Remedy(anew));
        assert!(told.contains("--enrol --create --name worker1 --user ada, and"), "{told}");
    }
}

//! `web-ipc --certs …`: issues certificates, lists, renews and revokes them.

use std::path::Path;

use ipc_base::Remedy;
use ipc_home::{Home, HomeError, Timestamp, locate};
use ipc_setup::{
    CertificateKind, CertificateList, CertificateRequest, InitOptions, ListedCertificate, Renew,
    Renewals, RevocationReason, SetupError, WARN_DAYS, drop_old_authority, issue_certificate,
    list_certificates, renew_certificates, revoke_certificates, rotate_authority, users,
};
use ipc_store::PeerSighting;

use crate::args::Certs;
use crate::error::{Failure, Verdict};
use crate::out::{counted, print_line, printable, report_line};
use crate::remedy::{Reader, sentence};
use crate::renewal::{self, NotRenewed, ends};

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
        let mend = mend_of_expiring(&home, one, now_secs)
            .map(|remedy| format!("; {}", sentence(&remedy, &Reader::of(explicit_home))));
        log::warn!("{what}{}", mend.unwrap_or_default());
    }
    warn_of_old(&list, explicit_home, now_secs);
    Ok(Verdict::Done)
}

/// What to do about a certificate that ends soon or has ended.
fn mend_of_expiring(home: &Home, one: &ListedCertificate, now_secs: u64) -> Option<Remedy> {
    let is_enrolled = home.enrolled().is_ok_and(|enrolled| enrolled.is_some());
    let is_expired = one.is_expired(now_secs);
    Some(match (&one.pair, one.kind) {
        (Some(_), _) if is_enrolled && is_expired => Remedy::EnrolAnew,
        (Some(_), _) if is_enrolled => Remedy::RenewOwnCertificate,
        (Some(name), _) if home.is_client_directory() => {
            Remedy::ReplaceOwnCertificate { name: Some(name.to_string()) }
        }
        (Some(name), _) => Remedy::RenewCertificate { name: name.to_string() },
        (None, CertificateKind::Authority) if is_enrolled => Remedy::RenewOwnCertificate,
        (None, CertificateKind::Authority) if is_expired => Remedy::ReplaceHome,
        (None, CertificateKind::Authority) if home.is_client_directory() => return None,
        (None, CertificateKind::Authority) => Remedy::RotateAuthority,
        (None, kind) if is_expired => Remedy::EnrolPeerAnew {
            name: one.name.clone(),
            is_server: kind == CertificateKind::ServerAndClient,
        },
        (None, _) => Remedy::RenewElsewhere { name: one.name.clone() },
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
    Ok(Verdict::Done)
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

//! `web-ipc --certs --name NAME`: issues a certificate and says where it lies.

use std::path::Path;

use ipc_home::{Home, Timestamp, locate};
use ipc_setup::{CertificateRequest, InitOptions, issue_certificate};

use crate::args::Certs;
use crate::error::{Failure, Verdict};
use crate::out::print_line;

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
    print_line(format_args!("Certificate: {}", issued.certificate_file.display()))?;
    print_line(format_args!("Key:         {}", issued.key_file.display()))?;
    print_line(format_args!("Valid for:   {}", issued.alt_names.join(", ")))?;
    print_line(format_args!("Until:       {}", Timestamp::from_unix_secs(issued.not_after_secs)))?;
    if issued.replaced {
        log::info!(
            "a server or client that is running shows the old certificate until it is restarted"
        );
    }
    Ok(Verdict::Done)
}

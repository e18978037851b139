//! Renews what is due in a home, whatever kind of home it is.
//!
//! `renewing` comes here from time to time, and programs that bring a timer of their own. The time
//! is an argument.

use ipc_home::{ClientSettings, Home};
use ipc_setup::{ListedCertificate, Renew, RenewalTurn, list_certificates, renew_certificates};

use crate::RenewError;
use crate::enrolled::over_the_line;

/// What [`renew_due`] did. Both are empty if nothing was due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DueRenewals {
    /// The certificates that took the place of those that were due.
    pub renewed: Vec<ListedCertificate>,
    /// Those that are due still, since the key of their authority is not in this home.
    pub left: Vec<ListedCertificate>,
}

/// Renews the certificates of a home that have less than a third of their life left. It blocks.
///
/// In the home of an enrolled client or further server, the server that enrolled it is asked, as
/// [`renew_enrolled`] does; while another process does so, nothing is done here. Elsewhere the
/// pairs are issued anew from the authority's key in the home. Where that is missing, they are
/// [left](DueRenewals::left). Pairs that were revoked are not renewed. If nothing is due, no file
/// is changed and nobody is asked.
///
/// [`renew_enrolled`]: crate::renew_enrolled
///
/// # Errors
/// [`RenewError`]. What was in use stays so. With [`RenewError::TooOften`] whatever has changed at
/// the server was taken up, and the certificate is due still.
pub fn renew_due(home: &Home, now_secs: u64) -> Result<DueRenewals, RenewError> {
    let due = due(home, now_secs)?;
    if due.is_empty() {
        return Ok(DueRenewals::default());
    }
    // Which way a home renews.
    match home.enrolled()? {
        Some(enrolled) => by_the_server(home, enrolled.settings(), due, now_secs),
        None => by_the_authority(home, due, now_secs),
    }
}

fn by_the_server(
    home: &Home,
    settings: &ClientSettings,
    due: Vec<ListedCertificate>,
    now_secs: u64,
) -> Result<DueRenewals, RenewError> {
    let is_own = |one: &ListedCertificate| {
        one.pair
            .as_ref()
            .is_some_and(|pair| pair.as_str().eq_ignore_ascii_case(settings.identity.as_str()))
    };
    let (own, left): (Vec<_>, Vec<_>) = due.into_iter().partition(is_own);
    if own.is_empty() {
        return Ok(DueRenewals { renewed: own, left });
    }
    let Some(turn) = RenewalTurn::try_take(home)? else {
        return Ok(DueRenewals { renewed: Vec::new(), left });
    };
    // Another process may have had the turn since the look.
    if !self::due(home, now_secs)?.iter().any(is_own) {
        return Ok(DueRenewals { renewed: Vec::new(), left });
    }
    if !over_the_line(home, &turn)?.has_new_certificate {
        return Err(RenewError::TooOften { name: settings.identity.clone() });
    }
    Ok(DueRenewals { renewed: now_in_place_of(home, &own)?, left })
}

fn by_the_authority(
    home: &Home,
    due: Vec<ListedCertificate>,
    now_secs: u64,
) -> Result<DueRenewals, RenewError> {
    if !home.ca_key_file().is_file() {
        return Ok(DueRenewals { renewed: Vec::new(), left: due });
    }
    let renewals = renew_certificates(home, &Renew::Due, now_secs)?;
    let is_skipped = |one: &ListedCertificate| {
        one.pair.as_ref().is_some_and(|pair| renewals.skipped.contains(pair))
    };
    let (left, renewed): (Vec<_>, Vec<_>) = due.into_iter().partition(is_skipped);
    Ok(DueRenewals { renewed: now_in_place_of(home, &renewed)?, left })
}

fn due(home: &Home, now_secs: u64) -> Result<Vec<ListedCertificate>, RenewError> {
    Ok(list_certificates(home)?.due(now_secs).cloned().collect())
}

/// The certificates of the same pairs, as they are now.
fn now_in_place_of(
    home: &Home,
    before: &[ListedCertificate],
) -> Result<Vec<ListedCertificate>, RenewError> {
    let is_one = |one: &ListedCertificate| {
        one.pair.is_some() && before.iter().any(|old| old.pair == one.pair)
    };
    Ok(list_certificates(home)?.certificates.into_iter().filter(is_one).collect())
}

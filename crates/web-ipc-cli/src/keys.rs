//! `web-ipc --keys …`: lists, rotates and drops the keys of a home. No key is ever shown.

use std::path::Path;

use ipc_home::{Home, Timestamp, locate};
use ipc_setup::{InitOptions, Ring, drop_key, key_users, list_keys, rotate_keys, users};
use ipc_store::PeerSighting;

use crate::args::Keys;
use crate::error::{Failure, Verdict};
use crate::out::{counted, print_line, report_line};

/// Does what was asked for.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    keys: Keys,
) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?.with_users_url(users_db);
    let now_secs = InitOptions::now().now_secs;
    match keys {
        Keys::List => {
            let peers = users(&home)?.peers()?;
            for ring in [Ring::Envelope, Ring::Session] {
                list(&home, ring, &peers, now_secs)?;
            }
        }
        Keys::Rotate(ring) => {
            let id = rotate_keys(&home, ring, now_secs)?;
            report_line(format_args!("New key in {ring}: {id}"))?;
        }
        Keys::Drop { ring, id, force } => {
            let peers = match ring {
                Ring::Envelope if !force => users(&home)?.peers()?,
                _ => Vec::new(),
            };
            drop_key(&home, ring, id, &peers, force, now_secs)?;
            report_line(format_args!("Dropped from {ring}: {id}"))?;
        }
    }
    Ok(Verdict::Done)
}

/// Lists a ring. Behind an envelope key are the peers whose last login was sealed with it.
fn list(home: &Home, ring: Ring, peers: &[PeerSighting], now_secs: u64) -> Result<(), Failure> {
    for (index, key) in list_keys(home, ring)?.iter().enumerate() {
        let role = if index == 0 { "seals and opens" } else { "opens" };
        // `init` does not note the time in the file, and a hand may have put a key in.
        let age = match key.made_at_secs {
            Some(secs) => format!("{} ({})", Timestamp::from_unix_secs(secs), age(now_secs, secs)),
            None => "age unknown".to_owned(),
        };
        let id = key.id;
        let users = match ring {
            Ring::Envelope => key_users(id, peers),
            Ring::Session => Vec::new(),
        };
        let used = match users.is_empty() {
            true => String::new(),
            false => format!("  used by {}", users.join(", ")),
        };
        print_line(format_args!("{:<13}  {id}  {role:<15}  {age}{used}", ring.to_string()))?;
    }
    Ok(())
}

/// The time since a key was made, as a number of days.
fn age(now_secs: u64, made_at_secs: u64) -> String {
    const DAY_SECS: u64 = 24 * 60 * 60;
    counted(now_secs.saturating_sub(made_at_secs) / DAY_SECS, "day")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_whole_days_and_never_negative() {
        assert_eq!(age(1000, 2000), "0 days");
        assert_eq!(age(86_400 + 5, 5), "1 day");
        assert_eq!(age(86_399 * 4, 0), "3 days");
    }
}

//! `web-ipc --init --run --importFrom DIR`: makes a home of an environment of the Python tool.
//!
//! Prints what was taken, what was left, and what to replace, with the commands that do it.

use std::path::Path;

use ipc_home::{ADMIN_USERNAME, locate};
use ipc_setup::{Imported, ImportedAdmin, InitOptions, KeyType, import_environment};

use crate::error::{Failure, Verdict};
use crate::out::{counted, printable, report_line};
use crate::shell::{command, shell_quoted};

/// From how many days on a certificate is said to last too long.
const DAYS_MAX: u64 = 825;

/// Takes the environment over, and prints what became of it.
pub(crate) fn run(explicit_home: Option<&Path>, from: &Path) -> Result<Verdict, Failure> {
    let path = locate(explicit_home)?;
    let now_secs = InitOptions::now().now_secs;
    let imported = import_environment(&path, from, now_secs)?;
    tell_what_was_taken(&imported, from)?;
    tell_what_was_left(&imported)?;
    tell_what_to_replace(&imported, explicit_home, from, now_secs)?;
    report_line(format_args!("Next: {}", command(explicit_home, "--test --run --qty 3")))?;
    Ok(Verdict::Done)
}

fn tell_what_was_taken(imported: &Imported, from: &Path) -> Result<(), Failure> {
    report_line(format_args!(
        "Made a web-ipc home of {}, which is as it was: {}",
        from.display(),
        imported.home.root().display()
    ))?;
    let users = counted(imported.users.len(), "user");
    let admin = match imported.admin {
        ImportedAdmin::Kept => "ipc-admin's password is in admin.cred as before",
        ImportedAdmin::NewPassword => "ipc-admin has a new password, which only admin.cred has",
        ImportedAdmin::NoUser => {
            "ipc-admin had been deleted, so that admin.cred is good for nothing"
        }
    };
    let authority = match imported.is_authority_signed_anew {
        true => "the same authority: its key, with a certificate that says what it is for",
        false => "the same authority",
    };
    for line in [
        "  envelope.keys         the message key, as the only key",
        "  session.key           a new key, the server's own",
        &format!("  web-ipc-ca.crt, .key  {authority}"),
        &format!("  users.db              {users}; {admin}"),
    ] {
        report_line(format_args!("{line}"))?;
    }
    for pair in &imported.pairs {
        let files = format!("{}.crt, .key", pair.name());
        let names = printable(&pair.alt_names.join(", "));
        report_line(format_args!("  {files:<20}  as it was, for {names}"))?;
    }
    if let Some(name) = &imported.made_pair {
        let files = format!("{name}.crt, .key");
        report_line(format_args!("  {files:<20}  a new certificate for both ends"))?;
    }
    Ok(())
}

fn tell_what_was_left(imported: &Imported) -> Result<(), Failure> {
    if imported.left.is_empty() {
        return Ok(());
    }
    report_line(format_args!("Left where it was:"))?;
    for file in &imported.left {
        report_line(format_args!("  {:<20}  {}", printable(&file.name), file.reason))?;
    }
    Ok(())
}

/// The option with the names of a certificate, and a blank before it. Somebody else may have made
/// the certificate, so that a name which a terminal would not show as it is becomes `NAME`.
fn alt_names_option(alt_names: &[String]) -> String {
    let words = alt_names.iter().map(|name| match printable(name) == name.as_str() {
        true => format!(" {}", shell_quoted(name)),
        false => " NAME".to_owned(),
    });
    let words: String = words.collect();
    if words.is_empty() { words } else { format!(" --altNames{words}") }
}

/// What should not stay as it is, each with the command that replaces it.
fn tell_what_to_replace(
    imported: &Imported,
    home: Option<&Path>,
    from: &Path,
    now_secs: u64,
) -> Result<(), Failure> {
    let mut advice: Vec<(String, String)> = Vec::new();
    for pair in &imported.pairs {
        let days = pair.not_after_secs.saturating_sub(now_secs) / 86_400;
        let mut faults = Vec::new();
        if pair.not_after_secs < now_secs {
            faults.push("has expired".to_owned());
        } else if days > DAYS_MAX {
            faults.push(format!("lasts {} years", (days + 182) / 365));
        }
        if !pair.addresses_as_names.is_empty() {
            let addresses = printable(&pair.addresses_as_names.join(", "));
            faults.push(format!("has {addresses} as a name, not as an address"));
        }
        if let Some(key_type) = pair.key_type.filter(|key_type| *key_type != KeyType::P256) {
            faults.push(format!("has a key of {key_type}, which is slow"));
        }
        if !faults.is_empty() {
            let names = alt_names_option(&pair.alt_names);
            let arguments = format!("--certs --name {}{names} --force", pair.name());
            advice.push((
                format!("{} {}", pair.name(), faults.join(", ")),
                command(home, &arguments),
            ));
        }
    }
    advice.push((
        "every Python program with a copy of the environment has the authority's key".to_owned(),
        format!(
            "{}, and {} in the end",
            command(home, "--certs --rotateCa"),
            command(home, "--certs --dropOldCa")
        ),
    ));
    advice.push((
        "it has the message key too; the Python tool cannot follow a new one".to_owned(),
        command(home, "--keys --rotate"),
    ));
    advice.push((
        "of a password over 72 bytes the Python tool ignored the rest".to_owned(),
        command(home, "--users --change --user NAME"),
    ));
    if imported.admin != ImportedAdmin::NoUser {
        advice.push((
            format!("{ADMIN_USERNAME}'s password is in every copy of the environment"),
            command(home, &format!("--users --change --user {ADMIN_USERNAME}")),
        ));
    }
    if imported.is_open_to_others {
        advice.push((
            format!("other users of this host can read or change files in {}", from.display()),
            format!("chmod -R go= {}", shell_quoted(from)),
        ));
    }
    report_line(format_args!(
        "To be replaced, once no Python program needs the old one any more:"
    ))?;
    for (what, how) in advice {
        report_line(format_args!("  {what}:\n    {how}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_no_option_without_names_and_nothing_that_a_terminal_acts_on() {
        let option = |names: &[&str]| {
            alt_names_option(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(option(&[]), "");
        assert_eq!(option(&["a.example", "::1", "*.b"]), " --altNames a.example ::1 '*.b'");
        assert_eq!(option(&["a", "\x1b]0;x\x07"]), " --altNames a NAME");
    }
}

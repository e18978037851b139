//! `web-ipc --users …`: adds, lists, changes, checks and deletes users. The texts are those of the
//! Python tool.
//!
//! With several actions, `--add` wins over all others, `--list` is followed by one of the others,
//! and `--testCredentials` wins over `--delete`, as in the Python tool. A warning names what is not
//! done. `--change`, which that tool does not have, stands alone.

use std::path::Path;

use ipc_base::{Remedy, Timestamp};
use ipc_home::{Home, locate};
use ipc_setup::{EnrolmentKind, EnrolmentState, SetupError, list_enrolments};
use ipc_store::{StoreError, UserRecord};
use zeroize::Zeroizing;

use crate::args::{self, AccountChange};
use crate::error::{Failure, Verdict};
use crate::out::{counted, print_line, printable, report_line};
use crate::password::{self, Prompt};
use crate::remedy::enrolment_arguments;
use crate::shell::{command, shell_quoted};

/// Does the action that was asked for.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    arguments: args::Users,
) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?.with_users_url(users_db);
    warn_of_what_is_left_out(&arguments);
    // Before the database is opened, so that it is not open while somebody types.
    let prompt = if arguments.add || arguments.change { Prompt::Twice } else { Prompt::Once };
    let needs_password = arguments.add || arguments.change || arguments.verify;
    let user = arguments.user.filter(|user| !user.is_empty());
    let password = match (&user, needs_password) {
        (Some(user), true) => password::find(arguments.password, user, prompt)?,
        _ => None,
    };
    let credentials = user.as_deref().zip(password);

    let users = ipc_setup::users(&home)?;
    let changes =
        arguments.add || arguments.change || arguments.delete || arguments.account.is_some();
    // Users in PostgreSQL are those of all servers.
    let are_own = home.users_url()?.is_none();
    if changes
        && are_own
        && let Some(node) = home.node_settings()?
    {
        log::warn!(
            "this changes the users of {} alone: those of {} at {} stay as they are",
            node.identity,
            node.server,
            printable(&node.addresses.join(", "))
        );
    }
    if arguments.add {
        let Some((user, password)) = credentials else { return credentials_required() };
        return add(&users, user, password);
    }
    if let Some((url, may_overwrite)) = &arguments.copy_to {
        return copy_to(&users, url, *may_overwrite, explicit_home);
    }
    if let Some(change) = arguments.account {
        return change_account(&users, change, user.as_deref());
    }
    if arguments.long {
        for record in users.list_long()? {
            print_line(format_args!("{}", long(&record)))?;
        }
    } else if arguments.list {
        for user in users.list()? {
            print_line(format_args!("Username: {}", printable(user.as_str())))?;
        }
    }
    if arguments.change {
        let Some((user, password)) = credentials else { return credentials_required() };
        let verdict = change(&users, user, password)?;
        if verdict == Verdict::Done {
            warn_of_enrolled(&home, user, explicit_home);
        }
        return Ok(verdict);
    }
    if arguments.verify {
        let Some((user, password)) = credentials else { return credentials_required() };
        return verify(&users, user, &password);
    }
    if arguments.delete {
        let Some(user) = user else {
            return Err(Failure::new("Username is required", Some("give --user NAME".to_owned())));
        };
        return delete(&users, &user);
    }
    Ok(Verdict::Done)
}

/// A user with all that is known, on one line.
fn long(record: &UserRecord) -> String {
    let time = |secs: Option<u64>, none: &str| {
        secs.map_or(none.to_owned(), |secs| Timestamp::from_unix_secs(secs).to_string())
    };
    format!(
        "Username: {}, created: {}, last login: {}, failed logins: {}, certificate: {}, {}",
        printable(record.username.as_str()),
        time(record.created_at, "unknown"),
        time(record.last_login_at, "never"),
        record.failed_logins,
        record.bound_peer.as_deref().map_or("any".into(), printable),
        if record.is_disabled { "disabled" } else { "enabled" },
    )
}

/// Copies all users to another database. The URL is not printed: it may have a password in it.
fn copy_to(
    users: &ipc_setup::Users,
    url: &str,
    may_overwrite: bool,
    explicit_home: Option<&Path>,
) -> Result<Verdict, Failure> {
    let copied = match users.copy_to(url, may_overwrite) {
        Err(SetupError::Store(error @ StoreError::Differs { .. })) => {
            let remedy = Remedy::act("see who is right; with --force those there are overwritten");
            return Err(Failure::of(&error, Some(remedy)).while_doing("Nobody was copied"));
        }
        copied => copied?,
    };
    report_line(format_args!(
        "Copied: {} added, {} overwritten, {} there already",
        counted(copied.added, "user"),
        copied.overwritten,
        copied.unchanged
    ))?;
    let next = command(explicit_home, "--init --run --usersDb URL");
    log::info!("stop the servers of this home, then {next} makes it use that database");
    Ok(Verdict::Done)
}

fn change_account(
    users: &ipc_setup::Users,
    change: AccountChange,
    user: Option<&str>,
) -> Result<Verdict, Failure> {
    let user = match &change {
        AccountChange::Bind { user, .. } | AccountChange::Unbind { user } => user,
        AccountChange::Disable | AccountChange::Enable => match user {
            Some(user) => user,
            None => {
                let remedy = Some("give --user NAME".to_owned());
                return Err(Failure::new("Username is required", remedy));
            }
        },
    };
    let (changed, what) = match &change {
        AccountChange::Disable => (users.disable(user), "disabled".to_owned()),
        AccountChange::Enable => (users.enable(user), "enabled".to_owned()),
        AccountChange::Bind { peer, .. } => {
            (users.bind(user, peer), format!("bound to the certificate of {}", printable(peer)))
        }
        AccountChange::Unbind { .. } => (users.unbind(user), "may use any certificate".to_owned()),
    };
    match changed {
        Ok(()) => {
            report_line(format_args!("User {} {what}", printable(user)))?;
            Ok(Verdict::Done)
        }
        Err(error) if is_unknown(&error) => unknown(user),
        Err(error) => {
            Err(Failure::from(error).while_doing(&format!("Failed to change user {user}")))
        }
    }
}

/// Warns of actions that are not done: besides `--list`, a command does only one.
fn warn_of_what_is_left_out(arguments: &args::Users) {
    let asked = [
        ("--add", arguments.add),
        ("--list", arguments.list && arguments.add),
        ("--testCredentials", arguments.verify),
        ("--delete", arguments.delete),
    ];
    let mut asked = asked.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name));
    let done = asked.next();
    let left_out: Vec<&str> = asked.collect();
    if let (Some(done), false) = (done, left_out.is_empty()) {
        log::warn!(
            "only {done} is done, and {} is not: give each a command of its own",
            left_out.join(" and ")
        );
    }
}

fn credentials_required() -> Result<Verdict, Failure> {
    Err(Failure::new(
        "Username and password are required",
        Some(
            "give --user NAME and --password PASSWORD, or `--password -` for the first line of stdin"
                .to_owned(),
        ),
    ))
}

fn add(
    users: &ipc_setup::Users,
    user: &str,
    password: Zeroizing<String>,
) -> Result<Verdict, Failure> {
    users.add(user, password).map_err(|error| {
        Failure::from(error).while_doing(&format!("Failed to create user {user}"))
    })?;
    log::info!("Successfully created user {user}");
    Ok(Verdict::Done)
}

fn change(
    users: &ipc_setup::Users,
    user: &str,
    password: Zeroizing<String>,
) -> Result<Verdict, Failure> {
    match users.change_password(user, password) {
        Ok(()) => {
            report_line(format_args!("Password of user {} changed", printable(user)))?;
            Ok(Verdict::Done)
        }
        Err(error) if is_unknown(&error) => unknown(user),
        Err(error) => Err(Failure::from(error)
            .while_doing(&format!("Failed to change the password of user {user}"))),
    }
}

/// Warns if the user is that of an enrolled client or server, whose home has the old password.
fn warn_of_enrolled(home: &Home, user: &str, explicit_home: Option<&Path>) {
    let enrolments = match list_enrolments(home) {
        Ok(enrolments) => enrolments,
        Err(error) => return log::warn!("{}", Failure::from(error)),
    };
    for one in enrolments {
        if one.user == user && one.state != EnrolmentState::Cancelled {
            let name = shell_quoted(&one.name);
            let is_server = one.kind == EnrolmentKind::Server;
            let enrol_again = enrolment_arguments(&one.name, &one.user, is_server);
            log::warn!(
                "{} is enrolled as this user, and its home has the old password: it is refused from \
                 now on; run {}, then {}, and accept that bundle there",
                printable(&one.name),
                command(explicit_home, &format!("--enrol --cancel {name}")),
                command(explicit_home, &enrol_again)
            );
        }
    }
}

fn verify(users: &ipc_setup::Users, user: &str, password: &str) -> Result<Verdict, Failure> {
    if users.verify(user, password)? {
        report_line(format_args!("Credentials verified"))?;
        Ok(Verdict::Done)
    } else {
        log::error!(target: crate::error::TARGET, "Invalid credentials");
        Ok(Verdict::Refused)
    }
}

fn delete(users: &ipc_setup::Users, user: &str) -> Result<Verdict, Failure> {
    match users.delete(user) {
        Ok(()) => {
            report_line(format_args!("User {} deleted", printable(user)))?;
            Ok(Verdict::Done)
        }
        Err(error) if is_unknown(&error) => unknown(user),
        Err(error) => {
            Err(Failure::from(error).while_doing(&format!("Failed to delete user {user}")))
        }
    }
}

/// Whether there is no such user. A text that cannot be a name is no user's name.
fn is_unknown(error: &SetupError) -> bool {
    matches!(error, SetupError::Store(StoreError::Unknown { .. }) | SetupError::Username(_))
}

fn unknown(user: &str) -> Result<Verdict, Failure> {
    Err(Failure::with_remedy(format!("User {user} does not exist"), Remedy::ListUsers))
}

//! `web-ipc --enrol …`: makes bundles for clients on other hosts and for further servers, and the
//! home of one of a bundle.
//!
//! The bundle goes to stdout or a file, the code to stderr, so that a pipe to the other host
//! carries the one without the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ipc_home::{ClientSettings, FILE_MODE, Home, Timestamp, locate};
use ipc_setup::{
    BUNDLE_BYTES_MAX, BUNDLE_END, Code, EnrolRequest, EnrolmentKind, InitOptions, SetupError,
    accept_enrolment, cancel_enrolment, create_enrolment, list_certificates, list_enrolments,
    users_database,
};
use zeroize::Zeroizing;

use crate::args::{Enrol, EnrolCreate};
use crate::error::{Failure, Verdict};
use crate::out::{counted, print, print_line, printable, report_line};
use crate::renewal::{self, NotRenewed};
use crate::shell::command;
use crate::{addresses, code};

/// Does what was asked for.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    enrol: &Enrol,
) -> Result<Verdict, Failure> {
    let home = || {
        let home = Home::open_as_configured(locate(explicit_home)?)?;
        Ok::<_, Failure>(home.with_users_url(users_db))
    };
    match enrol {
        Enrol::Create(request) => create(&home()?, request)?,
        Enrol::Accept(file) => accept(explicit_home, file.as_deref())?,
        Enrol::List => list(&home()?)?,
        Enrol::Cancel(name) => cancel(explicit_home, &home()?, name)?,
    }
    Ok(Verdict::Done)
}

fn create(home: &Home, create: &EnrolCreate) -> Result<(), Failure> {
    let addresses = match create.addresses.is_empty() {
        true => addresses::of_this_host(create.port),
        false => create.addresses.clone(),
    };
    // Opened first: of a file that cannot be made nobody is enrolled.
    let mut out = match &create.out {
        Some(path) => Some((new_file(path)?, path)),
        None => None,
    };
    let mut request = EnrolRequest::new(&create.name, &addresses, InitOptions::now().now_secs);
    request.user = create.user.as_deref();
    request.server = &create.server;
    request.alt_names = &create.alt_names;
    if create.is_server {
        request.kind = EnrolmentKind::Server;
    }
    if let Some(days) = create.days {
        request.validity_days = days;
    }
    let created = create_enrolment(home, &request);
    if let (Err(_), Some((_, path))) = (&created, &out) {
        // Best effort: it is empty, and what went wrong is told.
        let _ = std::fs::remove_file(path);
    }
    let bundle = created?;
    match &mut out {
        Some((file, path)) => {
            let written = file.write_all(bundle.text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| {
                Failure::of(&error, None).while_doing(&format!("cannot write {}", path.display()))
            })?;
        }
        None => print(&bundle.text)?,
    }
    if bundle.replaced {
        log::info!("the earlier bundle for {} is void", bundle.enrolment.name);
    }
    if create.is_server {
        let name = &bundle.enrolment.name;
        match users_database(home)? {
            None => log::info!(
                "the bundle has a copy of the users as of now: what changes here later does not reach {name}"
            ),
            Some(database) => {
                log::info!(
                    "the bundle has the address of the users' database, {database}",
                    database = database.shown
                );
                if database.is_this_host {
                    log::warn!(
                        "that address is good on this host alone: make the bundle with --usersDb URL, with an address that {name} reaches"
                    );
                }
            }
        }
    }
    log::info!(
        "{} can be accepted until {}, and then reaches {} at {}",
        bundle.enrolment.name,
        Timestamp::from_unix_secs(bundle.enrolment.expires_at_secs),
        bundle.enrolment.server,
        bundle.enrolment.addresses.join(", ")
    );
    code::show(&bundle.code)
        .map_err(|error| Failure::of(&error, None).while_doing("cannot show the code"))
}

fn new_file(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    file.map_err(|error| {
        Failure::of(&error, Some("name a file that is not there yet with --out FILE".into()))
            .while_doing(&format!("cannot make {}", path.display()))
    })
}

fn accept(explicit_home: Option<&Path>, file: Option<&Path>) -> Result<(), Failure> {
    let path = locate(explicit_home)?;
    let bundle = match file {
        None => read_bundle(io::stdin().lock(), "stdin")?,
        Some(file) => {
            let shown = file.display().to_string();
            let opened = File::open(file).map_err(|error| {
                Failure::of(&error, None).while_doing(&format!("cannot read {shown}"))
            })?;
            read_bundle(opened, &shown)?
        }
    };
    let behind = bundle.split_once(BUNDLE_END).map_or("", |(_, behind)| behind.trim());
    let text = code::text(file.is_some(), behind)?;
    let code: Code = text.parse().map_err(|source| Failure::from(SetupError::Bundle { source }))?;
    let accepted = accept_enrolment(&path, &bundle, &code, InitOptions::now().now_secs)?;
    let later = command(explicit_home, "--certs --renew");
    let settings = match renewal::over_the_line(&accepted.home) {
        Ok(renewal) => {
            if !renewal.has_new_certificate {
                log::warn!(
                    "the key that came with the bundle is still in use: the server has given {} as many certificates as it gives in 24 hours; run {later} tomorrow",
                    renewal.settings.identity
                );
            }
            renewal.settings
        }
        Err(NotRenewed::Refused(failure)) => {
            let what = format!(
                "the server refuses this enrolment: it was accepted before or was cancelled, or a later --enrol --create for the name made it void; {} is of no use",
                accepted.home.root().display()
            );
            return Err(failure.while_doing(&what));
        }
        Err(NotRenewed::Failed(failure)) => {
            log::warn!(
                "the key that came with the bundle is still in use, since it was not renewed: {}; then run {later}",
                failure.told(explicit_home)
            );
            accepted.settings.clone()
        }
    };
    let reached: Vec<_> = settings.addresses.iter().map(|address| printable(address)).collect();
    let server = format!("{} at {}", settings.server, reached.join(", "));
    let path = accepted.home.root().display();
    match accepted.kind {
        EnrolmentKind::Server => {
            let names = names_of(&accepted.home, &settings)?;
            report_line(format_args!("Made a server's home: {path}"))?;
            report_line(format_args!("Server:  {}", settings.identity))?;
            report_line(format_args!("Names:   {names}"))?;
            report_line(format_args!("Follows: {server}"))?;
            match users_database(&accepted.home)? {
                None => report_line(format_args!(
                    "Users:   a copy; what changes in the other home from now on does not reach this one"
                )),
                Some(database) => report_line(format_args!("Users:   in {}", database.shown)),
            }
        }
        _ => {
            report_line(format_args!("Made a client's home: {path}"))?;
            report_line(format_args!("Client:  {}", settings.identity))?;
            report_line(format_args!("User:    {}", printable(&settings.username)))?;
            report_line(format_args!("Server:  {server}"))
        }
    }
}

/// What the certificate of a further server is for.
fn names_of(home: &Home, settings: &ClientSettings) -> Result<String, Failure> {
    let list = list_certificates(home)?;
    let own = list.certificates.iter().find(|one| one.pair.as_ref() == Some(&settings.identity));
    let names = own.map(|own| own.alt_names.iter().map(|name| printable(name)).collect::<Vec<_>>());
    Ok(names.unwrap_or_default().join(", "))
}

fn read_bundle(input: impl Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    input.take(BUNDLE_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| {
        Failure::of(&error, None).while_doing(&format!("cannot read the bundle from {name}"))
    })?;
    if text.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::new(format!("{name} is too long to be a bundle"), None));
    }
    Ok(text)
}

fn list(home: &Home) -> Result<(), Failure> {
    for one in list_enrolments(home)? {
        print_line(format_args!(
            "{}  {}  {}user {}, until {}, serial {}",
            printable(&one.name),
            one.state,
            if one.kind == EnrolmentKind::Server { "server, " } else { "" },
            printable(&one.user),
            Timestamp::from_unix_secs(one.expires_at_secs),
            one.serial
        ))?;
    }
    Ok(())
}

fn cancel(explicit_home: Option<&Path>, home: &Home, name: &str) -> Result<(), Failure> {
    let is_server = list_enrolments(home)?
        .iter()
        .any(|one| one.kind == EnrolmentKind::Server && one.name.eq_ignore_ascii_case(name));
    let cancelled = cancel_enrolment(home, name, InitOptions::now().now_secs)?;
    if is_server {
        log::warn!(
            "{} keeps its copies of the envelope key and the session key: rotate both with {} and {}, have clients follow, and drop the old ones",
            printable(name),
            command(explicit_home, "--keys --rotate"),
            command(explicit_home, "--keys --rotate --session")
        );
    }
    report_line(format_args!(
        "Cancelled: {}, {} revoked, {}",
        printable(name),
        counted(cancelled.revoked as u64, "certificate"),
        if cancelled.user_deleted { "user deleted" } else { "no user deleted" }
    ))
}

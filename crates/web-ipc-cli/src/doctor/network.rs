//! What `--doctor` says of the way to a server: names, connections, TLS, clocks, and the port of
//! this host.
//!
//! Each address is tried by itself with a client of its own, which asks whether the server runs. In
//! the home of a client one login follows, at the first address where it does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_base::{CertificateProblem, Remedy, Timestamp, chain};
use ipc_client::{Client, ClientBuilder, SendError};
use ipc_home::{Home, HomeError};
use ipc_protocol::ProblemCode;
use ipc_setup::{Diagnosis, Finding, HomeKind};

use crate::args::Doctor;
use crate::home::peer_name;
use crate::out::counted;
use crate::shell::shell_quoted;

const ADDRESS: &str = "address";
const SERVER: &str = "server";
const CLOCK: &str = "clock";
const LOGIN: &str = "login";
const PORT: &str = "port";

/// How long a name server, a connection, or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server refuses an envelope that is further from its own clock than this.
const CLOCK_SECS_MAX: u64 = 60;

/// From how far apart clocks are warned of.
const CLOCK_SECS_WARN: u64 = 15;

/// The name and the certificate of a home that says no other.
const DEFAULT_NAME: &str = "localhost";

/// Where and as whom a server is tried.
struct Way<'a> {
    home: &'a Home,
    name: String,
    identity: String,
    doctor: &'a Doctor,
}

/// What became of a question to a server.
enum Probed {
    /// It was not asked.
    Untried(Finding),
    Failed(SendError),
    Runs {
        server_secs: Option<u64>,
        now_secs: u64,
    },
}

/// The time of this host, in seconds since the Unix epoch.
fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Everything about the network.
pub(super) fn findings(doctor: &Doctor, diagnosis: &Diagnosis) -> Vec<Finding> {
    let settings = diagnosis.settings.as_ref();
    let Some((home, kind)) = &diagnosis.home else {
        let mut found: Vec<_> = doctor.addresses.iter().map(|address| resolved(address)).collect();
        if !found.is_empty() {
            found.push(Finding::not_checked(SERVER, "there is no home to connect with"));
        }
        return found;
    };
    let default = |own: Option<String>| own.unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let name =
        doctor.name.clone().unwrap_or_else(|| default(settings.map(|own| own.server.to_string())));
    let identity = doctor
        .identity
        .clone()
        .unwrap_or_else(|| default(settings.map(|own| own.identity.to_string())));
    let (name, identity) = match (peer_name(&name), peer_name(&identity)) {
        (Ok(name), Ok(identity)) => (name, identity),
        (Err(failure), _) | (_, Err(failure)) => {
            let finding = Finding::error(SERVER, "bad_name", failure.to_string());
            return vec![finding];
        }
    };
    let way = Way { home, name, identity, doctor };
    let addresses = match settings {
        Some(own) if doctor.addresses.is_empty() => &own.addresses,
        _ => &doctor.addresses,
    };
    match (addresses.is_empty(), kind) {
        (false, kind) => {
            let tried: Vec<_> = addresses.iter().map(|address| way.to(address)).collect();
            let runs = addresses.iter().zip(&tried).find(|(_, (_, runs))| *runs);
            let login = match kind {
                HomeKind::Client => Some(way.log_in(runs.map(|(address, _)| address))),
                HomeKind::Server => None,
            };
            tried.into_iter().flat_map(|(found, _)| found).chain(login).collect()
        }
        (true, HomeKind::Server) => way.own_port(doctor.port),
        (true, HomeKind::Client) => {
            let sentence = "the home does not say where its server is";
            vec![Finding::not_checked(SERVER, sentence).mended_by(Remedy::NameAddress)]
        }
    }
}

impl Way<'_> {
    /// Tries one address. Also returns whether a server runs there.
    fn to(&self, address: &str) -> (Vec<Finding>, bool) {
        let is_name = address
            .rsplit_once(':')
            .is_some_and(|(host, _)| host.trim_matches(['[', ']']).parse::<IpAddr>().is_err());
        let mut found = Vec::new();
        if is_name {
            let name = resolved(address);
            let is_known = name.code == "ok";
            found.push(name);
            if !is_known {
                return (found, false);
            }
        }
        let probed = self.probe(address);
        let runs = matches!(probed, Probed::Runs { .. });
        found.extend(match probed {
            Probed::Untried(finding) => vec![finding],
            Probed::Failed(error) => refused(address, &error),
            Probed::Runs { server_secs, now_secs } => {
                let sentence = format!(
                    "{address} answers as {}, and accepts the certificate {}",
                    self.name, self.identity
                );
                vec![Finding::ok(SERVER, sentence), clock(address, server_secs, now_secs)]
            }
        });
        (found, runs)
    }

    /// A client for one address.
    fn client(&self, address: &str) -> ClientBuilder {
        Client::builder(self.home)
            .server(self.name.clone(), address)
            .identity(self.identity.clone())
            .protocol(self.doctor.protocol)
            .channel(false)
            .keep_session(false)
            .timeout(PATIENCE)
    }

    /// Logs in once with the credentials of this client's home.
    fn log_in(&self, address: Option<&String>) -> Finding {
        let credentials = match self.home.client_credentials() {
            Ok(credentials) => credentials,
            Err(HomeError::FileMissing { .. }) => {
                let sentence = "the home has no client.cred, so that nobody could log in";
                return Finding::not_checked(LOGIN, sentence);
            }
            Err(error) => return Finding::of(LOGIN, "no_credentials", &error),
        };
        let user = credentials.username;
        let Some(address) = address else {
            return Finding::not_checked(LOGIN, "no server answers at the addresses above");
        };
        let client = match self.client(address).build() {
            Ok(client) => client.blocking(),
            Err(error) => {
                let untried = Finding::of(LOGIN, "no_login_tried", &error);
                return untried.mended_by(error.remedy());
            }
        };
        match client.check_login() {
            Ok(()) => Finding::ok(LOGIN, format!("{address} lets {user} in")),
            Err(error) => login_refused(address, &user, &self.identity, &error),
        }
    }

    /// Asks whether a server runs at an address: its time, and that of this host.
    fn probe(&self, address: &str) -> Probed {
        // Nobody logs in here, and no file with credentials is needed.
        let client = self.client(address).credentials("doctor", "").build();
        let client = match client {
            Ok(client) => client.blocking(),
            Err(error) => {
                let untried = Finding::of(SERVER, "no_connection_tried", &error);
                return Probed::Untried(untried.mended_by(error.remedy()));
            }
        };
        match client.probe() {
            Err(error) => Probed::Failed(error),
            Ok(probe) => Probed::Runs { server_secs: probe.server_time_secs, now_secs: now_secs() },
        }
    }

    /// Whether a server of this home runs at the default port of this host, or could.
    fn own_port(&self, port: u16) -> Vec<Finding> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            return vec![free(address)];
        }
        let shown = address.to_string();
        match self.probe(&shown) {
            Probed::Untried(finding) => vec![finding],
            Probed::Runs { server_secs, now_secs } => {
                let sentence = format!("a server of this home runs at {shown}");
                vec![Finding::ok(PORT, sentence), clock(&shown, server_secs, now_secs)]
            }
            // A certificate of ours that is refused, or theirs that has expired, is told as such.
            Probed::Failed(error) if is_ours(&error) => refused(&shown, &error),
            Probed::Failed(error) => vec![in_use(address, &chain(&error).to_string())],
        }
    }
}

/// Whether a server of this home may well have answered so.
fn is_ours(error: &SendError) -> bool {
    match error {
        SendError::CertificateRefused { .. } | SendError::Refused { .. } => true,
        SendError::ServerNotTrusted { reason, .. } => {
            !matches!(reason, CertificateProblem::UnknownAuthority)
        }
        _ => false,
    }
}

fn free(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(PORT, format!("{address} is free for a server")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            in_use(address, "nobody answers there")
        }
        Err(error) => Finding::of(PORT, "port_unusable", &error).mended_by(other_port()),
    }
}

fn in_use(address: SocketAddr, cause: &str) -> Finding {
    let sentence = format!("another program has {address}: {cause}");
    Finding::error(PORT, "port_in_use", sentence).mended_by(other_port())
}

fn other_port() -> Remedy {
    Remedy::act("stop that program, or give the server another port with web-ipc --serve --port N")
}

/// What the name of an address leads to.
fn resolved(address: &str) -> Finding {
    let (done, result) = mpsc::channel::<io::Result<Vec<IpAddr>>>();
    let text = address.to_owned();
    // A name server that does not answer can hold a look-up for longer than anybody waits.
    thread::spawn(move || {
        let found = text.to_socket_addrs().map(|found| found.map(|one| one.ip()).collect());
        // The receiver may have given up.
        let _ = done.send(found);
    });
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let unknown = |cause: String| {
        let sentence = format!("the name {host} leads to no address: {cause}");
        Finding::error(ADDRESS, "name_unresolved", sentence).mended_by(Remedy::act(
            "check the name, or give the address itself with --server ADDRESS: the name in the \
             certificate need not be that of the host",
        ))
    };
    match result.recv_timeout(PATIENCE) {
        Ok(Ok(found)) if !found.is_empty() => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            Finding::ok(ADDRESS, format!("{host} is {}", found.join(", ")))
        }
        Ok(Ok(_)) => unknown("it has none".to_owned()),
        Ok(Err(error)) => unknown(error.to_string()),
        Err(_) => unknown(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// What it means that the server was not reached, or refused this client.
fn refused(address: &str, error: &SendError) -> Vec<Finding> {
    let code = match error {
        SendError::Unreachable { .. } => "unreachable",
        SendError::NoAnswer { .. } => "no_answer",
        SendError::WrongProtocol { .. } => "wrong_protocol",
        SendError::Handshake { .. } => "handshake_failed",
        SendError::CertificateRefused { alert, .. } => match alert.as_str() {
            "CertificateExpired" => "client_expired",
            "CertificateRevoked" => "client_revoked",
            "UnknownCA" | "DecryptError" => "client_wrong_authority",
            "CertificateRequired" | "NoCertificate" => "client_without_certificate",
            _ => "client_refused",
        },
        SendError::ServerNotTrusted { reason, .. } => match reason {
            CertificateProblem::UnknownAuthority => "server_wrong_authority",
            CertificateProblem::WrongName { .. } => "server_wrong_name",
            CertificateProblem::Expired { .. } => "server_expired",
            CertificateProblem::NotValidYet { .. } => "server_not_yet_valid",
            _ => "server_not_trusted",
        },
        SendError::Refused { .. } => "refused",
        _ => "unexpected_answer",
    };
    let sentence = format!("{address}: {}", chain(error));
    let mut found = vec![Finding::error(SERVER, code, sentence).mended_by(error.remedy())];
    if matches!(code, "server_expired" | "server_not_yet_valid" | "client_expired") {
        let now = Timestamp::from_unix_secs(now_secs());
        let sentence = format!("this host's clock says {now}, and the server's cannot be read");
        found.push(
            Finding::warning(CLOCK, "clock_suspect", sentence).mended_by(Remedy::CheckClocks),
        );
    }
    found
}

/// What it means that the server did not let the home's user in. The server does not say whether
/// the user is unknown or disabled, or has another password.
fn login_refused(address: &str, user: &str, identity: &str, error: &SendError) -> Finding {
    match error {
        SendError::BadCredentials { .. } => {
            let sentence = format!(
                "{address} does not let {user} in: the user is unknown or disabled, or has another \
                 password than client.cred"
            );
            let enable = Remedy::act(format!(
                "in the server's home, run web-ipc --users --list --long to see the user, and \
                 web-ipc --users --enable --user {} if it is disabled",
                shell_quoted(user)
            ));
            Finding::error(LOGIN, "credentials_refused", sentence)
                .mended_by(enable.or(Remedy::EnrolAnew))
        }
        SendError::Refused { code: Some(ProblemCode::WrongCertificate), .. } => {
            let sentence = format!(
                "{address} does not let {user} in with the certificate {identity}: the user is \
                 bound to another one"
            );
            Finding::error(LOGIN, "user_bound_elsewhere", sentence).mended_by(Remedy::BindUser {
                user: Some(user.to_owned()),
                peer: Some(identity.to_owned()),
            })
        }
        error => {
            let sentence = format!("{address} does not let {user} in: {}", chain(error));
            Finding::error(LOGIN, "login_failed", sentence).mended_by(error.remedy())
        }
    }
}

/// Compares the server's clock with this host's.
fn clock(address: &str, server_secs: Option<u64>, now_secs: u64) -> Finding {
    let Some(server_secs) = server_secs else {
        return Finding::not_checked(
            CLOCK,
            format_args!("{address} does not say what time it has"),
        );
    };
    let apart_secs = now_secs.abs_diff(server_secs);
    let which = if now_secs > server_secs { "ahead of" } else { "behind" };
    let sentence = match apart_secs {
        // A `Date` is up to a second old.
        0..=1 => format!("this host's clock agrees with that of {address}"),
        secs => {
            format!("this host's clock is {} {which} that of {address}", counted(secs, "second"))
        }
    };
    let mend = || Remedy::act("set the clock of the host that is wrong: timedatectl set-ntp true");
    if apart_secs > CLOCK_SECS_MAX {
        Finding::error(CLOCK, "clock_wrong", format!("{sentence}, and messages are refused"))
            .mended_by(mend())
    } else if apart_secs > CLOCK_SECS_WARN {
        Finding::warning(CLOCK, "clock_off", sentence).mended_by(mend())
    } else {
        Finding::ok(CLOCK, sentence)
    }
}

#[cfg(test)]
mod tests {
    use ipc_setup::Severity;

    use super::*;

    #[test]
    fn clocks_that_are_too_far_apart_are_told_with_the_direction() {
        let said = |server_secs, now_secs| {
            let finding = clock("h:1", Some(server_secs), now_secs);
            (finding.severity, finding.code)
        };
        assert_eq!(said(1000, 1001), (Severity::Ok, "ok"));
        assert_eq!(said(1000, 1015), (Severity::Ok, "ok"));
        assert_eq!(said(1000, 984), (Severity::Warning, "clock_off"));
        assert_eq!(said(1000, 1060), (Severity::Warning, "clock_off"));
        assert_eq!(said(1000, 1061), (Severity::Error, "clock_wrong"));
        let behind = clock("h:1", Some(5000), 1400);
        assert_eq!(
            behind.sentence,
            "this host's clock is 3600 seconds behind that of h:1, and messages are refused"
        );
        assert_eq!(clock("h:1", None, 0).code, "not_checked");
    }

    #[test]
    fn a_port_that_another_program_has_is_an_error_and_one_that_is_left_is_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = free(address);
        assert_eq!((taken.severity, taken.code), (Severity::Error, "port_in_use"));
        drop(listener);
        assert_eq!(free(address).code, "ok");
    }

    #[test]
    fn a_name_that_leads_nowhere_is_an_error() {
        let finding = resolved("no-such-host.invalid:3000");
        assert_eq!((finding.severity, finding.code), (Severity::Error, "name_unresolved"));
        assert!(finding.sentence.starts_with("the name no-such-host.invalid leads to no address"));
        assert_eq!(resolved("localhost:3000").code, "ok");
    }
}

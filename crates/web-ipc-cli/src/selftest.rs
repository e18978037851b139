//! `web-ipc --test --run`: a real server and a real client on this host, and a check of the
//! messages that arrive.
//!
//! It uses the public libraries alone, so that a success holds for other programs too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::thread;
use std::time::Instant;

use futures_util::future::{Either, select};
use ipc_client::{Client, SendError};
use ipc_home::{ADMIN_USERNAME, Home, locate};
use ipc_server::{Inbox, Server};
use ipc_setup::user_store;
use serde_json::json;

use crate::args::Test;
use crate::error::{Failure, Verdict};
use crate::home::{self, peer_name};
use crate::out::{counted, report_line};
use crate::password::{self, Login};
use crate::progress_line::ProgressLine;
use crate::signals::{self, EndSignal, EndSignals};
use crate::testuser::TestUser;

/// Starts both ends, sends, checks, and stops. A signal stops it early, but in good order.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    users_db: Option<&str>,
    mut test: Test,
) -> Result<Verdict, Failure> {
    let name = peer_name(&test.name)?;
    let home = home::open_or_make(&locate(explicit_home)?, users_db)?;
    let name = home::pair_name(&home, name)?;
    let login = password::login(test.user.take(), test.password.take())?;
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    runtime.block_on(async {
        let signals = EndSignals::watch().map_err(unready)?;
        both_ends(&home, &name, &test, login, signals).await
    })
}

async fn both_ends(
    home: &Home,
    name: &str,
    test: &Test,
    login: Option<Login>,
    mut signals: EndSignals,
) -> Result<Verdict, Failure> {
    let mut server = Server::builder(home)
        .name(name)
        .bind(test.address)
        .protocol(test.protocol)
        .raise_open_files_limit();
    let mut credentials = login.map(|login| (login.user, login.password));
    if credentials.is_none()
        && let Some(user) = TestUser::unless_admin_is_there(home).await?
    {
        log::info!(
            "{ADMIN_USERNAME} was deleted: logging in as {}, whom only this test knows",
            user.name
        );
        credentials = Some((user.name.clone(), user.password.clone()));
        server = server.users(user);
    } else if home.users_url()?.is_some() {
        server = server.users(user_store(home).await?);
    }
    let server = server.start().await?;
    let port = server.address().port();
    // In the words of the Python tool. It logs this before the start, since its port is fixed.
    log::info!("Starting Web-IPC-Test {name}:{port}");
    log::info!("Starting web server {name}:{port}");
    let mut client = Client::builder(home)
        .server(name, SocketAddr::new(reachable(test.address.ip()), port))
        .identity(name)
        .protocol(test.protocol)
        // So that the log shows the login.
        .keep_session(false);
    if let Some((user, password)) = &credentials {
        client = client.credentials(user, password.as_str());
    }
    let client = client.build()?;

    let begun = Instant::now();
    let inbox = server.inbox().clone();
    let quantity = test.quantity;
    // Receives while the others are sent, since the inbox holds fewer messages than may be sent.
    let receiver = thread::spawn(move || receive(&inbox, quantity));
    let mut sent = 0;
    let ended = send_all(&client, quantity, &mut sent, &mut signals).await;
    // The stop closes the inbox, which ends the receiver. A signal meanwhile ends the test at once.
    if let Either::Right((signal, _)) = select(pin!(server.stop()), pin!(signals.next())).await {
        return Ok(interrupted(signal, sent));
    }
    let received = receiver.join().map_err(|_| Failure::new("the receiver ended early", None))?;
    let elapsed_secs = begun.elapsed().as_secs_f64();
    log::info!("Web-IPC-Test ended");

    if let Some(signal) = ended? {
        return Ok(interrupted(signal, sent));
    }
    received?;
    let rate = if quantity == 0 { 0.0 } else { f64::from(quantity) / elapsed_secs.max(0.001) };
    report_line(format_args!(
        "{} sent, received and checked in {elapsed_secs:.2} s ({rate:.0}/s)",
        counted(quantity, "message")
    ))?;
    Ok(Verdict::Done)
}

/// Sends `{"test":1}` to `{"test":quantity}` one after the other, until a signal comes. `sent`
/// counts the messages that the server has accepted.
async fn send_all(
    client: &Client,
    quantity: u32,
    sent: &mut u32,
    signals: &mut EndSignals,
) -> Result<Option<EndSignal>, SendError> {
    // At level info the log has a line for each message, which shows the progress.
    let mut progress = (!log::log_enabled!(log::Level::Info)).then(ProgressLine::default);
    let ended = async {
        while *sent < quantity {
            let message = json!({ "test": *sent + 1 });
            match select(pin!(signals.next()), pin!(client.send(&message))).await {
                Either::Left((signal, _)) => return Ok(Some(signal)),
                Either::Right((result, _)) => result?,
            };
            *sent += 1;
            if let Some(progress) = &mut progress {
                progress.show(|| format!("{sent} of {quantity} sent"));
            }
        }
        Ok(None)
    }
    .await;
    if let Some(progress) = progress {
        progress.end();
    }
    ended
}

fn interrupted(signal: EndSignal, sent: u32) -> Verdict {
    log::error!(target: crate::error::TARGET, "interrupted after {}", counted(sent, "message"));
    Verdict::Interrupted(signal)
}

/// The address at which a client on this host reaches a server that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => ip,
    }
}

/// Receives until the inbox is closed and empty, and checks that `{"test":1}` to
/// `{"test":quantity}` arrive in order.
fn receive(inbox: &Inbox, quantity: u32) -> Result<(), Failure> {
    let mut check = Check::default();
    while let Some(delivery) = inbox.recv_blocking() {
        log::info!("Received message: {}", delivery.body());
        check.take(delivery.body());
        delivery
            .ack_blocking()
            .map_err(|error| Failure::of(&error, None).while_doing("cannot acknowledge"))?;
    }
    check.end(quantity)
}

/// Compares the messages that arrive with those that were sent, and keeps the first difference.
#[derive(Debug, Default)]
struct Check {
    received: u32,
    difference: Option<String>,
}

impl Check {
    fn take(&mut self, body: &str) {
        self.received = self.received.saturating_add(1);
        let expected = json!({ "test": self.received }).to_string();
        if body != expected && self.difference.is_none() {
            self.difference = Some(format!("{expected} was sent, but {body} arrived"));
        }
    }

    fn end(self, quantity: u32) -> Result<(), Failure> {
        match self.difference {
            Some(difference) => Err(Failure::new(difference, None)),
            None if self.received != quantity => Err(Failure::new(
                format!("{} sent, but {} arrived", counted(quantity, "message"), self.received),
                None,
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bodies: &[&str], quantity: u32) -> Result<(), Failure> {
        let mut check = Check::default();
        bodies.iter().for_each(|body| check.take(body));
        check.end(quantity)
    }

    #[test]
    fn what_arrived_as_it_was_sent_is_good() {
        assert!(checked(&[], 0).is_ok());
        assert!(checked(&[r#"{"test":1}"#, r#"{"test":2}"#], 2).is_ok());
    }

    #[test]
    fn any_difference_is_told() {
        for (bodies, quantity) in [
            (&[r#"{"test":1}"#][..], 2),
            (&[r#"{"test":1}"#, r#"{"test":2}"#], 1),
            (&[r#"{"test":2}"#, r#"{"test":1}"#], 2),
            (&[r#"{"test": 1}"#], 1),
            (&[r#"{"test":1}"#, r#"{"test":1}"#], 2),
        ] {
            assert!(checked(bodies, quantity).is_err(), "{bodies:?}");
        }
    }

    #[test]
    fn a_server_on_every_address_is_found_on_loopback() {
        for (listening, reached) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("::ffff:0.0.0.0", "127.0.0.1"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), reached);
        }
    }
}

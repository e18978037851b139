//! Tells the service manager that started this process how the server is: ready, alive, stopping.
//!
//! The protocol is that of sd_notify(3): datagrams with `NAME=VALUE` lines to the socket that
//! `$NOTIFY_SOCKET` names. systemd and others speak it. Without that variable nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// The variables of the service manager, which are this process's own and not those of the commands
/// that it runs.
pub(super) const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// The service manager, if there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    /// How often it wants to hear that this process is alive, at least.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The service manager that the environment names. If it cannot be reached, that is logged, and
    /// the server runs without it.
    pub(super) fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(address) = variable("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&address) {
            Ok(socket) => ServiceManager {
                socket: Some(Arc::new(socket)),
                watchdog: watchdog(
                    variable("WATCHDOG_USEC").as_deref(),
                    variable("WATCHDOG_PID").as_deref(),
                    std::process::id(),
                ),
            },
            Err(error) => {
                log::warn!(
                    "the service manager is not told of this server: NOTIFY_SOCKET: {error}"
                );
                Self::default()
            }
        }
    }

    /// Tells that the server listens, and from then on that it is alive, for as long as the
    /// runtime's tasks run. Must be called within a tokio runtime.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
        if let Some(every) = self.watchdog {
            let manager = self.clone();
            tokio::spawn(async move {
                // Twice as often as it has to be: one that comes late is not missed.
                let mut ticks = tokio::time::interval(every / 2);
                loop {
                    ticks.tick().await;
                    manager.tell("WATCHDOG=1");
                }
            });
        }
    }

    /// Tells that the server reads its configuration again. The time lets the manager tell this
    /// message from one that it did not ask for (systemd.service(5), "notify-reload").
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Tells that it has.
    pub(super) fn reloaded(&self) {
        self.tell("READY=1");
    }

    /// Tells that the server stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = self.socket.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            log::debug!("the service manager does not hear this server: {error}");
        }
    }
}

/// A socket of this process's own, and the address of the service manager's.
fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the server.
    socket.set_nonblocking(true)?;
    Ok((socket, socket_address(address)?))
}

/// An absolute path, or `@` and a name of Linux's abstract namespace (unix(7)).
fn socket_address(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(address),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor abstract")),
    }
}

/// How often the service manager wants to hear of the process `own`.
fn watchdog(micros: Option<&OsStr>, process: Option<&OsStr>, own: u32) -> Option<Duration> {
    let number = |value: &OsStr| value.to_str()?.parse::<u64>().ok();
    let is_meant = process.is_none_or(|process| number(process) == Some(u64::from(own)));
    let micros = micros.and_then(number).filter(|micros| is_meant && *micros > 1)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager's socket with the name that a server gets.
    fn manager() -> (tempfile::TempDir, UnixDatagram, ServiceManager) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = Some(Arc::new(connect(path.as_os_str()).unwrap()));
        (directory, manager, ServiceManager { socket, watchdog: None })
    }

    fn told(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[tokio::test]
    async fn it_hears_that_the_server_is_ready_alive_and_stopping() {
        let (_directory, manager, mut server) = manager();
        server.watchdog = Some(Duration::from_millis(2));
        server.ready("Listening");
        assert_eq!(told(&manager), "READY=1\nSTATUS=Listening");
        manager.set_nonblocking(true).unwrap();
        let mut bytes = [0; 256];
        while manager.recv(&mut bytes).is_err() {
            tokio::task::yield_now().await;
        }
        assert!(bytes.starts_with(b"WATCHDOG=1"));
        manager.set_nonblocking(false).unwrap();
        server.reloading();
        let reloading = loop {
            let told = told(&manager);
            if told != "WATCHDOG=1" {
                break told;
            }
        };
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0, "{reloading}");
        server.reloaded();
        while told_now(&manager) != "READY=1" {}
        server.stopping();
        while !told_now(&manager).starts_with("STOPPING=1\n") {}
    }

    fn told_now(manager: &UnixDatagram) -> String {
        manager.set_nonblocking(false).unwrap();
        told(manager)
    }

    #[test]
    fn nobody_is_told_without_a_service_manager_or_after_its_end() {
        ServiceManager::default().stopping();
        let (directory, manager, server) = manager();
        drop((manager, directory));
        server.stopping();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_socket_is_found_too() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("web-ipc-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = Some(Arc::new(connect(OsStr::new(&format!("@{name}"))).unwrap()));
        ServiceManager { socket, watchdog: None }.stopping();
        assert_eq!(told(&manager), "STOPPING=1\nSTATUS=Stopping");
        for bad in ["", "relative/path", "vsock:2:1"] {
            assert!(connect(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let of = |micros: &str, process: Option<&str>| {
            watchdog(Some(OsStr::new(micros)), process.map(OsStr::new), 7)
        };
        assert_eq!(of("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", Some("7")), Some(Duration::from_secs(30)));
        for (micros, process) in [
            ("30000000", Some("8")),
            ("30000000", Some("x")),
            ("0", None),
            ("1", None),
            ("x", None),
        ] {
            assert_eq!(of(micros, process), None, "{micros} {process:?}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }
}

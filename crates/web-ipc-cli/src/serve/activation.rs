//! Takes the listening socket from the service manager that started this process, if it passes one.
//!
//! The protocol is that of sd_listen_fds(3): `LISTEN_PID` is this process, `LISTEN_FDS` says how
//! many descriptors from 3 on are for it. The manager keeps the socket while servers come and go,
//! so connections wait in it and none is refused.

use std::net::TcpListener;

use listenfd::ListenFd;

use crate::error::Failure;

/// How the socket is set up, for whoever runs the server.
const REMEDY: &str =
    "give the socket unit one ListenStream= with a port, or an IP address and a port";

/// The socket that the service manager passes. `None` if it passes none to this process. Only one
/// call gets it.
///
/// # Errors
/// If what is passed is not one TCP socket; or if `is_address_given`, since the socket unit says
/// where to listen.
pub(super) fn listener(is_address_given: bool) -> Result<Option<TcpListener>, Failure> {
    let variable = |name| std::env::var(name).ok();
    let Some(count) = sockets(
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_PID").as_deref(),
        std::process::id(),
    ) else {
        return Ok(None);
    };
    if count > 1 {
        return Err(Failure::new(
            format!("the service manager passes {count} sockets, and a server takes one"),
            Some(REMEDY.to_owned()),
        ));
    }
    if is_address_given {
        return Err(Failure::new(
            "the service manager passes the socket to listen on, and --ip or --port names another",
            Some("leave them out, or start the server without the socket unit".to_owned()),
        ));
    }
    // Other processes that this one starts get neither the descriptor nor the variables.
    ListenFd::from_env().take_tcp_listener(0).map_err(|error| {
        Failure::of(&error, Some(ipc_base::Remedy::act(REMEDY)))
            .while_doing("what the service manager passes is not a TCP socket")
    })
}

/// How many sockets are passed to the process `own`; `None` for none.
fn sockets(count: Option<&str>, process: Option<&str>, own: u32) -> Option<u32> {
    let number = |text: &str| text.parse::<u32>().ok();
    let count = count.and_then(number).filter(|count| *count > 0)?;
    (process.and_then(number) == Some(own)).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_those_that_are_passed_to_this_very_process() {
        assert_eq!(sockets(Some("1"), Some("17"), 17), Some(1));
        assert_eq!(sockets(Some("4000000000"), Some("17"), 17), Some(4_000_000_000));
        for (count, process) in [
            (None, Some("17")),
            (Some("0"), Some("17")),
            (Some("-1"), Some("17")),
            (Some("x"), Some("17")),
            (Some(""), Some("17")),
            // Those of a parent that has not removed the variables.
            (Some("1"), Some("16")),
            (Some("1"), Some("")),
            (Some("1"), None),
            (None, None),
        ] {
            assert_eq!(sockets(count, process, 17), None, "{count:?} {process:?}");
        }
    }
}

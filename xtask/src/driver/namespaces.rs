//! Network namespaces, joined by a bridge: hosts of their own on one machine.
//!
//! `e2e` comes here. The bridge is in a namespace too, with the host at 10.0.0.254, so that the
//! machine's own network stays as it is. All of it needs root, and iproute2.

use std::process::{Command, Stdio};

/// The namespace with the bridge, and the last number of its address.
pub(crate) const HUB: u8 = 254;

/// Namespaces with the addresses 10.0.0.N. They are removed when this is dropped.
pub(crate) struct Namespaces {
    /// Two runs at the same time do not meet.
    prefix: String,
    hosts: Vec<u8>,
}

impl Namespaces {
    /// Why none can be made here; `None` if they can.
    pub(crate) fn lacks() -> Option<String> {
        let probe = Self { prefix: prefix(), hosts: Vec::new() };
        let name = probe.name(0);
        let made = ip(&["netns", "add", &name]);
        // Needed for the bridge, which containers may not make.
        let made = made.and_then(|()| ip(&["-n", &name, "link", "add", "br0", "type", "bridge"]));
        let _ = ip(&["netns", "del", &name]);
        made.err().map(|error| format!("no network namespaces: {error}"))
    }

    /// Makes hosts with these last numbers of their addresses, and [`HUB`].
    pub(crate) fn new(hosts: &[u8]) -> Result<Self, String> {
        let mut made = Self { prefix: prefix(), hosts: vec![HUB] };
        let hub = made.name(HUB);
        let in_hub = |arguments: &[&str]| ip(&[&["-n", &hub], arguments].concat());
        ip(&["netns", "add", &hub])?;
        in_hub(&["link", "add", "br0", "type", "bridge"])?;
        in_hub(&["address", "add", &format!("10.0.0.{HUB}/24"), "dev", "br0"])?;
        for link in ["lo", "br0"] {
            in_hub(&["link", "set", link, "up"])?;
        }
        for &host in hosts {
            let (name, port) = (made.name(host), format!("port{host}"));
            made.hosts.push(host);
            ip(&["netns", "add", &name])?;
            let veth = ["link", "add", &port, "type", "veth", "peer", "name", "eth0"];
            in_hub(&[&veth[..], &["netns", &name]].concat())?;
            in_hub(&["link", "set", &port, "master", "br0", "up"])?;
            let address = format!("10.0.0.{host}/24");
            ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
            for link in ["lo", "eth0"] {
                ip(&["-n", &name, "link", "set", link, "up"])?;
            }
        }
        Ok(made)
    }

    /// The command that runs another one on a host.
    pub(crate) fn runner(&self, host: u8) -> [String; 4] {
        ["ip", "netns", "exec", &self.name(host)].map(str::to_owned)
    }

    fn name(&self, host: u8) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for host in &self.hosts {
            // One that was not made cannot be removed.
            let _ = ip(&["netns", "del", &self.name(*host)]);
        }
    }
}

fn prefix() -> String {
    format!("web-ipc-{}", std::process::id())
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
        }
    }
}

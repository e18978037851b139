//! The exchanges between two processes that are measured: the list of cases.
//!
//! The rounds run them, and the tables look them up. A case knows the raw case that it is compared
//! with.

use std::fmt;
use std::path::Path;

/// How a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// The bare client to the bare server.
    Raw,
    /// As `Send`, by the client that has no thread of its own.
    Local,
    /// One message at a time, from each of the tasks in flight.
    Send,
    /// As `Send`, without a channel.
    Post,
    /// In batches of [`BATCH`].
    SendAll,
    /// One message at a time, with a reply.
    Request,
}

impl Workload {
    /// The word for the client's command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Workload::Raw => "raw",
            Workload::Local => "local",
            Workload::Send => "send",
            Workload::Post => "post",
            Workload::SendAll => "send_all",
            Workload::Request => "request",
        }
    }
}

/// Where the server stores messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Inbox {
    Memory,
    Durable,
    /// A durable inbox with its file in memory, where no commit waits for a disk: the rest is the
    /// inbox's own cost.
    Diskless,
}

/// A directory whose files are in memory. On systems other than Linux it may not exist.
pub(crate) const MEMORY_FILES: &str = "/dev/shm";

impl Inbox {
    /// The word for the server's command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Inbox::Memory => "memory",
            Inbox::Durable => "durable",
            Inbox::Diskless => "diskless",
        }
    }
}

/// What happens before each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Connection {
    /// Nothing: connections are kept.
    Kept,
    /// A new client and a full handshake.
    Full,
    /// A new client that resumes a TLS session.
    Resumed,
}

/// What others do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attack {
    None,
    /// They log in with wrong passwords, as many at once as the server lets them.
    Flood,
    /// One peer holds [`SIEGE_CONNECTIONS`], and logs in with wrong passwords [`SIEGE_LOGINS`]
    /// times a second.
    Siege,
}

/// How many silent and slow connections one peer holds in a siege.
pub(crate) const SIEGE_CONNECTIONS: usize = 250;

/// How many logins a second that peer tries.
pub(crate) const SIEGE_LOGINS: u32 = 50;

/// The workloads that are measured in a siege, each with a name for a reader.
pub(crate) const BESIEGED: [(Workload, &str); 2] =
    [(Workload::Send, "over a channel"), (Workload::Post, "by POST")];

/// Messages in a batch.
pub(crate) const BATCH: usize = 100;

/// Sizes of a message, in bytes.
pub(crate) const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];

/// Sizes of messages that are sent with both ends on one processor.
pub(crate) const ONE_CORE_SIZES: [usize; 2] = [64, 1024];

/// Messages in flight at once.
pub(crate) const IN_FLIGHT: [usize; 3] = [1, 16, 64];

/// Client processes at once.
pub(crate) const CLIENTS: [usize; 3] = [1, 2, 4];

/// How many messages each of several clients has in flight.
pub(crate) const IN_FLIGHT_OF_EACH: usize = 16;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    pub(crate) inbox: Inbox,
    pub(crate) bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) clients: usize,
    pub(crate) connection: Connection,
    pub(crate) attack: Attack,
    /// Both ends on one processor, so that no wake-up crosses processors.
    pub(crate) on_one_core: bool,
}

impl Case {
    /// Raw, with kept connections.
    pub(crate) const fn raw(bytes: usize, in_flight: usize) -> Self {
        Case {
            workload: Workload::Raw,
            inbox: Inbox::Memory,
            bytes,
            in_flight,
            clients: 1,
            connection: Connection::Kept,
            attack: Attack::None,
            on_one_core: false,
        }
    }

    /// `send` with kept connections.
    pub(crate) const fn send(inbox: Inbox, bytes: usize, in_flight: usize) -> Self {
        Case { workload: Workload::Send, inbox, ..Case::raw(bytes, in_flight) }
    }

    /// `send` of a `LocalClient` with kept connections.
    pub(crate) const fn local(bytes: usize, in_flight: usize) -> Self {
        Case { workload: Workload::Local, ..Case::raw(bytes, in_flight) }
    }

    /// `send_all`, one batch in flight.
    pub(crate) const fn send_all(inbox: Inbox, bytes: usize) -> Self {
        Case { workload: Workload::SendAll, inbox, ..Case::raw(bytes, 1) }
    }

    /// `request`.
    pub(crate) const fn request(bytes: usize, in_flight: usize) -> Self {
        Case { workload: Workload::Request, ..Case::raw(bytes, in_flight) }
    }

    /// Messages of 64 bytes, one after the other, with something before each.
    pub(crate) const fn cold(workload: Workload, connection: Connection) -> Self {
        Case { workload, connection, ..Case::raw(64, 1) }
    }

    /// Several clients, each with messages of 64 bytes.
    pub(crate) const fn of_clients(workload: Workload, clients: usize) -> Self {
        Case { workload, clients, ..Case::raw(64, IN_FLIGHT_OF_EACH) }
    }

    /// `send` while others log in with wrong passwords.
    pub(crate) const fn flooded(in_flight: usize) -> Self {
        Case { attack: Attack::Flood, ..Case::send(Inbox::Memory, 64, in_flight) }
    }

    /// Messages of 64 bytes, one after the other, by themselves.
    pub(crate) const fn unbesieged(workload: Workload) -> Self {
        Case { workload, ..Case::raw(64, 1) }
    }

    /// The same while one peer holds connections and logs in.
    pub(crate) const fn besieged(workload: Workload) -> Self {
        Case { attack: Attack::Siege, ..Case::unbesieged(workload) }
    }

    /// The same with both ends on one processor.
    pub(crate) const fn on_one_core(self) -> Self {
        Case { on_one_core: true, ..self }
    }

    /// The raw case for the comparison: the same size, messages in flight, handshake and
    /// processors.
    pub(crate) const fn raw_baseline(self) -> Self {
        Case { workload: Workload::Raw, inbox: Inbox::Memory, attack: Attack::None, ..self }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.workload.word())?;
        if self.workload != Workload::Raw {
            write!(f, " {}", self.inbox.word())?;
        }
        write!(f, ", {}, {} in flight", size(self.bytes), self.in_flight)?;
        if self.clients > 1 {
            write!(f, ", {} clients", self.clients)?;
        }
        f.write_str(match self.connection {
            Connection::Kept => "",
            Connection::Full => ", cold",
            Connection::Resumed => ", cold resumed",
        })?;
        f.write_str(match self.attack {
            Attack::None => "",
            Attack::Flood => ", flood",
            Attack::Siege => ", siege",
        })?;
        f.write_str(if self.on_one_core { ", one core" } else { "" })
    }
}

/// A size in a readable form.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 0x10_0000),
    }
}

/// All cases in the order of a round: each directly after the raw case that it is compared with.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in SIZES {
        for in_flight in IN_FLIGHT {
            cases.push(Case::raw(bytes, in_flight));
            cases.push(Case::send(Inbox::Memory, bytes, in_flight));
            if in_flight == 1 || bytes <= 1024 {
                cases.push(Case::local(bytes, in_flight));
            }
            if bytes <= 1024 {
                cases.push(Case::request(bytes, in_flight));
                cases.push(Case::send(Inbox::Durable, bytes, in_flight));
                cases.push(Case::send(Inbox::Diskless, bytes, in_flight));
            }
            if bytes <= 1024 && in_flight == 1 {
                cases.extend([
                    Case::send_all(Inbox::Memory, bytes),
                    Case::send_all(Inbox::Durable, bytes),
                ]);
            }
            if bytes == 64 && in_flight == 1 {
                cases.push(Case::besieged(Workload::Send));
                cases.push(Case::unbesieged(Workload::Post));
                cases.push(Case::besieged(Workload::Post));
            }
            if bytes == 64 && in_flight == 16 {
                cases.push(Case::flooded(in_flight));
            }
        }
    }
    for bytes in ONE_CORE_SIZES {
        for in_flight in IN_FLIGHT {
            let of_this = [
                Case::raw(bytes, in_flight),
                Case::send(Inbox::Memory, bytes, in_flight),
                Case::local(bytes, in_flight),
                Case::request(bytes, in_flight),
            ];
            cases.extend(of_this.map(Case::on_one_core));
        }
    }
    for clients in CLIENTS.into_iter().filter(|clients| *clients > 1) {
        cases.extend([
            Case::of_clients(Workload::Raw, clients),
            Case::of_clients(Workload::Send, clients),
        ]);
    }
    cases.extend([
        Case::cold(Workload::Raw, Connection::Full),
        Case::cold(Workload::Send, Connection::Full),
        Case::cold(Workload::Raw, Connection::Resumed),
    ]);
    cases.retain(is_supported);
    cases
}

/// Whether this host can run the case.
fn is_supported(case: &Case) -> bool {
    case.inbox != Inbox::Diskless || Path::new(MEMORY_FILES).is_dir()
}

/// One case of each kind, for the short form.
pub(crate) fn one_of_each_kind() -> Vec<Case> {
    let mut cases = vec![
        Case::raw(64, 16),
        Case::send(Inbox::Memory, 64, 16),
        Case::flooded(16),
        Case::raw(1024 * 1024, 1),
        Case::send(Inbox::Memory, 1024 * 1024, 1),
        Case::raw(64, 1),
        Case::local(64, 1),
        Case::send(Inbox::Memory, 64, 1),
        Case::besieged(Workload::Send),
        Case::unbesieged(Workload::Post),
        Case::besieged(Workload::Post),
        Case::send(Inbox::Durable, 64, 1),
        Case::send(Inbox::Diskless, 64, 1),
        Case::send_all(Inbox::Memory, 64),
        Case::send_all(Inbox::Durable, 64),
        Case::request(64, 1),
        Case::raw(64, 1).on_one_core(),
        Case::send(Inbox::Memory, 64, 1).on_one_core(),
        Case::of_clients(Workload::Raw, 2),
        Case::of_clients(Workload::Send, 2),
        Case::cold(Workload::Raw, Connection::Full),
        Case::cold(Workload::Send, Connection::Full),
        Case::cold(Workload::Raw, Connection::Resumed),
    ];
    cases.retain(is_supported);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_case_comes_after_its_raw_one_and_once() {
        for cases in [all(), one_of_each_kind()] {
            let mut seen = BTreeSet::new();
            for case in cases {
                assert!(seen.insert(case), "{case} comes twice");
                assert!(seen.contains(&case.raw_baseline()), "{case} has no raw case before it");
            }
        }
    }

    #[test]
    fn names_are_different() {
        let names: BTreeSet<String> = all().iter().map(Case::to_string).collect();
        assert_eq!(names.len(), all().len());
        assert_eq!(
            Case::send(Inbox::Durable, 1024, 64).to_string(),
            "send durable, 1 KiB, 64 in flight"
        );
        assert_eq!(
            Case::cold(Workload::Raw, Connection::Resumed).to_string(),
            "raw, 64 B, 1 in flight, cold resumed"
        );
    }

    #[test]
    fn sizes_are_written_in_binary_units() {
        assert_eq!(SIZES.map(size), ["64 B", "1 KiB", "64 KiB", "1 MiB"]);
    }
}

//! The fault of a round: what is killed, or which link is cut and how.
//!
//! A run draws its faults here.

use std::fmt;

use super::links::Link;
use super::options::FaultSet;
use crate::faults::{Cut, Random};

/// A process that may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Server(usize),
    Nats(usize),
    /// The NATS server that leads the stream of messages.
    Leader,
    Postgres,
}

/// The fault of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill(Victim),
    Cut(Link, Cut),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(Victim::Server(server)) => write!(f, "killed server {server}"),
            Fault::Kill(Victim::Nats(nats)) => write!(f, "killed NATS n{nats}"),
            Fault::Kill(Victim::Leader) => write!(f, "killed the stream's leader"),
            Fault::Kill(Victim::Postgres) => write!(f, "killed PostgreSQL"),
            Fault::Cut(link, Cut::Closed) => write!(f, "closed {link}"),
            Fault::Cut(link, Cut::Silent) => write!(f, "silenced {link}"),
        }
    }
}

/// How many kinds of faults there are.
const KINDS: usize = 8;

/// The kinds that concern no NATS server.
const WITHOUT_NATS: [usize; 4] = [0, 3, 4, 7];

/// Draws faults. Of so many in a row as there are kinds, each kind is one.
pub(super) struct Faults {
    random: Random,
    set: FaultSet,
    left: Vec<usize>,
}

impl Faults {
    pub(super) fn new(seed: u64, set: FaultSet) -> Self {
        Faults { random: Random::new(seed), set, left: Vec::new() }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.below(limit as u64)).unwrap_or_default()
    }

    /// The next fault, among so many clients, servers and NATS servers.
    pub(super) fn draw(&mut self, clients: usize, servers: usize, nats: usize) -> Fault {
        if self.left.is_empty() {
            self.left = match self.set {
                FaultSet::All => (0..KINDS).collect(),
                FaultSet::WithoutNats => WITHOUT_NATS.to_vec(),
            };
        }
        let place = self.below(self.left.len());
        let kind = self.left.swap_remove(place);
        let (client, server, number) = (self.below(clients), self.below(servers), self.below(nats));
        let how = [Cut::Closed, Cut::Silent][self.below(2)];
        match kind {
            0 => Fault::Kill(Victim::Server(server)),
            1 => Fault::Kill(Victim::Nats(number)),
            2 => Fault::Kill(Victim::Leader),
            3 => Fault::Kill(Victim::Postgres),
            4 => Fault::Cut(Link::ClientServer(client, server), how),
            5 => Fault::Cut(Link::ServerNats(server, number), how),
            6 => {
                let other = (number + 1 + self.below(nats - 1)) % nats;
                Fault::Cut(Link::Routes(number.min(other), number.max(other)), how)
            }
            _ => Fault::Cut(Link::ServerPostgres(server), how),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_rounds_have_each_kind_and_a_seed_repeats_them() {
        let drawn = |seed| {
            let mut faults = Faults::new(seed, FaultSet::All);
            (0..400).map(|_| faults.draw(4, 3, 3)).collect::<Vec<_>>()
        };
        let faults = drawn(7);
        assert_eq!(faults, drawn(7));
        assert_ne!(faults, drawn(8));
        for eight in faults.chunks(KINDS) {
            let kills = eight.iter().filter(|fault| matches!(fault, Fault::Kill(_))).count();
            assert_eq!(kills, KINDS / 2, "{eight:?}");
        }
        for cut in [Cut::Closed, Cut::Silent] {
            assert!(faults.contains(&Fault::Cut(Link::Routes(1, 2), cut)));
        }
        let is_wrong = |fault: &Fault| matches!(fault, Fault::Cut(Link::Routes(one, other), _) if one >= other);
        assert!(!faults.iter().any(is_wrong));
    }

    #[test]
    fn without_nats_no_fault_concerns_it() {
        let mut faults = Faults::new(7, FaultSet::WithoutNats);
        for fault in (0..100).map(|_| faults.draw(4, 3, 3)) {
            let concerns_nats = matches!(
                fault,
                Fault::Kill(Victim::Nats(_) | Victim::Leader)
                    | Fault::Cut(Link::ServerNats(..) | Link::Routes(..), _)
            );
            assert!(!concerns_nats, "{fault}");
        }
    }
}

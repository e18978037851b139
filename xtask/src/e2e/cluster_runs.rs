//! Short runs of `cluster`: kills and cuts under load, and a check that `cluster` notices lost
//! messages.

use super::Outcome;
use crate::cluster::{self, FaultSet, InboxKind, Judged, Options};
use crate::driver::Built;

/// Each kind of fault once that leaves NATS alone, drawn anew each time. How long an election of
/// NATS takes depends on the machine, so its faults are for the task itself.
pub(super) fn faults(_: &Built) -> Outcome {
    let options = Options { faults: FaultSet::WithoutNats, ..Options::new(4) };
    match run(&options) {
        Judged::Skipped(why) => return Outcome::Skipped(why),
        Judged::Verdict(verdict) => {
            let seed = options.seed;
            assert!(verdict.is_good(), "seed {seed}: {verdict}\n{}", verdict.details());
            assert!(verdict.acknowledged > 0, "seed {seed}: nothing was sent");
        }
    }
    Outcome::Passed
}

/// Messages in inboxes in memory die with their server. `cluster` must report these as lost, or its
/// other verdicts would prove nothing.
pub(super) fn memory_is_caught(_: &Built) -> Outcome {
    let seed = cluster::seed_that_kills_a_server();
    let options = Options { inbox: InboxKind::Memory, seed, ..Options::new(1) };
    match run(&options) {
        Judged::Skipped(why) => return Outcome::Skipped(why),
        Judged::Verdict(verdict) => {
            assert!(!verdict.lost.is_empty(), "no lost message was reported: {verdict}");
            assert!(!verdict.is_good());
        }
    }
    Outcome::Passed
}

#[track_caller]
fn run(options: &Options) -> Judged {
    cluster::run_with(options).unwrap_or_else(|error| panic!("seed {}: {error}", options.seed))
}

//! Short runs of `crash`: kills and cuts under load, and a check that `crash` notices lost
//! messages.

use super::Outcome;
use crate::crash::{self, Fault, InboxKind, Options, Reader, Verdict};
use crate::driver::Built;

/// Twenty kills, with single messages, batches and requests.
pub(super) fn kills(built: &Built) -> Outcome {
    expect_good(built, &Options::new(20, Fault::Kill));
    Outcome::Passed
}

/// Kills of `web-ipc --serve`, which holds many unacknowledged messages at once.
pub(super) fn kills_of_serve(built: &Built) -> Outcome {
    expect_good(built, &Options { reader: Reader::Serve, ..Options::new(20, Fault::Kill) });
    Outcome::Passed
}

/// Cuts, delays and dropped responses.
pub(super) fn cuts(built: &Built) -> Outcome {
    let verdict = expect_good(built, &Options::new(25, Fault::Cut));
    assert_eq!(verdict.redelivered, 0, "redelivered although no receiver was killed: {verdict}");
    Outcome::Passed
}

/// The server in use, of two, is killed for good, and clients continue with the other.
pub(super) fn failover(built: &Built) -> Outcome {
    let options = Options::new(10, Fault::Failover);
    let verdict = crash::fail_over_with(built, &options)
        .unwrap_or_else(|error| panic!("seed {}: {error}", options.seed));
    assert!(verdict.is_good(), "seed {}: {verdict}\n{}", options.seed, verdict.details());
    Outcome::Passed
}

/// Messages in an inbox in memory die with the process. `crash` must report these as lost, or its
/// other verdicts would prove nothing.
pub(super) fn memory_is_caught(built: &Built) -> Outcome {
    for reader in [Reader::Receive, Reader::Serve] {
        let options = Options { inbox: InboxKind::Memory, reader, ..Options::new(5, Fault::Kill) };
        let verdict = run(built, &options);
        assert!(
            !verdict.lost.is_empty(),
            "seed {}, {reader:?}: no lost message was reported: {verdict}",
            options.seed
        );
        assert!(!verdict.is_good());
    }
    Outcome::Passed
}

#[track_caller]
fn expect_good(built: &Built, options: &Options) -> Verdict {
    let verdict = run(built, options);
    assert!(verdict.is_good(), "seed {}: {verdict}\n{}", options.seed, verdict.details());
    assert!(verdict.acknowledged > 0, "seed {}: nothing was sent", options.seed);
    verdict
}

#[track_caller]
fn run(built: &Built, options: &Options) -> Verdict {
    crash::run_with(built, options).unwrap_or_else(|error| panic!("seed {}: {error}", options.seed))
}

//! Short runs of `crash`: kills and cuts under load, and a look at whether it would notice.

use super::Outcome;
use crate::crash::{self, Fault, InboxKind, Options, Reader, Verdict};
use crate::driver::Built;

/// Twenty kills; messages sent alone, in batches and as requests.
pub(super) fn kills(built: &Built) -> Outcome {
    expect_good(built, &Options::new(20, Fault::Kill));
    Outcome::Passed
}

/// The same with the command that is shipped, which has many messages in hand.
pub(super) fn kills_of_serve(built: &Built) -> Outcome {
    expect_good(built, &Options { reader: Reader::Serve, ..Options::new(20, Fault::Kill) });
    Outcome::Passed
}

/// Cuts, delays and swallowed answers.
pub(super) fn cuts(built: &Built) -> Outcome {
    let verdict = expect_good(built, &Options::new(25, Fault::Cut));
    assert_eq!(verdict.redelivered, 0, "nobody was killed: {verdict}");
    Outcome::Passed
}

/// Of two servers the one that is in use is killed for good, and clients go on with the other.
pub(super) fn failover(built: &Built) -> Outcome {
    let options = Options::new(10, Fault::Failover);
    let verdict = crash::fail_over_with(built, &options)
        .unwrap_or_else(|error| panic!("seed {}: {error}", options.seed));
    assert!(verdict.is_good(), "seed {}: {verdict}\n{}", options.seed, verdict.details());
    Outcome::Passed
}

/// The inbox in memory acknowledges what dies with the process: a harness that says nothing of it
/// proves nothing.
pub(super) fn memory_is_caught(built: &Built) -> Outcome {
    for reader in [Reader::Receive, Reader::Serve] {
        let options = Options { inbox: InboxKind::Memory, reader, ..Options::new(5, Fault::Kill) };
        let verdict = run(built, &options);
        assert!(
            !verdict.lost.is_empty(),
            "seed {}, {reader:?}: nothing was missed: {verdict}",
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

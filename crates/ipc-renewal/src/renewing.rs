//! Keeps a home renewed while a program runs: a thread that looks from time to time.
//!
//! Programs come here. What a look does, `due` knows.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use ipc_home::Home;

use crate::news::News;
use crate::{DueRenewals, RenewError, renew_due};

/// How long it is from one look to the next, at least.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// How much longer it may be: clients that began at the same time should not all ask at once.
const JITTER_MAX_MILLIS: u64 = 10 * 60 * 1000;

/// Keeps the certificates of a home renewed until it is dropped.
///
/// A thread looks at the start and then once in an hour or a little more whether one has less than
/// a third of its life left, and renews it as [`renew_due`] does. A look that failed is repeated
/// with the next one.
///
/// Dropping it ends the looks and does not wait: a renewal under way may be cut short with the
/// process, and the next one completes it.
#[derive(Debug)]
pub struct Renewing {
    orders: Sender<Finish>,
    looked: Receiver<()>,
    thread: JoinHandle<()>,
}

/// The order to look if that was not done, and to end.
struct Finish;

impl Renewing {
    /// Begins, with the first look after `first_after`.
    ///
    /// `tell` is called on the thread with what was renewed or is left to be renewed elsewhere, and
    /// with faults. Of looks at which nothing was due it is told nothing. A fault that stays is
    /// told once a day.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn begin(
        home: &Home,
        first_after: Duration,
        tell: impl FnMut(&Result<DueRenewals, RenewError>) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (look_is_done, looked) = channel();
        let home = home.clone();
        let thread = Builder::new()
            .name("web-ipc-renewal".to_owned())
            .spawn(move || run(&home, first_after, tell, &ordered, &look_is_done))?;
        Ok(Self { orders, looked, thread })
    }

    /// Waits until the first look was made, for `timeout` at most. Returns whether it was.
    ///
    /// A server that waits for it before it starts does so with the renewed certificate.
    pub fn wait_for_first(&self, timeout: Duration) -> bool {
        self.looked.recv_timeout(timeout).is_ok()
    }

    /// Makes the first look now if it was not made yet, waits for one that is under way, and ends.
    ///
    /// Programs that run for a short time call this before they end, so that their certificate is
    /// renewed too. If nothing is due, it takes about a millisecond. A server that does not answer
    /// is waited for for half a minute at most.
    pub fn finish(self) {
        // Where the thread has ended, there is nothing to wait for.
        let _ = self.orders.send(Finish);
        let _ = self.thread.join();
    }
}

fn run(
    home: &Home,
    first_after: Duration,
    mut tell: impl FnMut(&Result<DueRenewals, RenewError>),
    ordered: &Receiver<Finish>,
    look_is_done: &Sender<()>,
) {
    let begun = Instant::now();
    let mut news = News::default();
    let (mut pause, mut has_looked) = (first_after, false);
    loop {
        let is_last = match ordered.recv_timeout(pause) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(Finish) if has_looked => return,
            Ok(Finish) => true,
            Err(RecvTimeoutError::Timeout) => false,
        };
        let looked = renew_due(home, now_secs());
        if news.is_news(&looked, begun.elapsed()) {
            tell(&looked);
        }
        // Nobody may wait for it.
        let _ = look_is_done.send(());
        if is_last {
            return;
        }
        has_looked = true;
        pause = PERIOD + jitter();
    }
}

/// A clock before 1970 counts as 1970, where nothing is due.
fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The keys of the standard library's hashers are random, which is enough here.
fn jitter() -> Duration {
    Duration::from_millis(RandomState::new().build_hasher().finish() % JITTER_MAX_MILLIS)
}

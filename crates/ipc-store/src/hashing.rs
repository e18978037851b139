//! Runs bcrypt outside of the async threads, no more at once than there are cores, and with the
//! time that other threads leave.
//!
//! The store uses it to make a hash and to compare one. Nothing here knows users or databases: an
//! unknown user is passed as "no hash", and costs as much as a wrong password.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::password::{self, Password};

/// The bcrypt cost of a new hash by default: 2^12 rounds, about 250 ms of one core.
pub(crate) const COST_DEFAULT: u32 = 12;

/// The lowest cost that [`crate::Options::bcrypt_cost`] accepts: the minimum of OWASP's Password
/// Storage Cheat Sheet.
pub(crate) const COST_MIN: u32 = 10;

/// The highest cost that [`crate::Options::bcrypt_cost`] accepts: about 16 s per login. A higher
/// one is a typing error.
pub(crate) const COST_MAX: u32 = 18;

/// The lowest cost that bcrypt itself allows. For tests only.
pub(crate) const COST_FOR_TESTS: u32 = 4;

/// Salt and hash of a well-formed bcrypt string. Its password does not matter: every comparison
/// with it is refused, whatever the result. Since it is a constant, opening a store makes no hash.
const DUMMY_SALT_AND_HASH: &str = "lTcyCyb6Z0tVJcdhOZu9SOda4myR9XBsU6DH7GO9ECny6OSYM7YyK";

/// One limit for the whole process, however many stores it opens, since all of them share the same
/// cores.
static CORES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    Arc::new(Semaphore::new(cores))
});

/// How many computations may have only the time that is left, in the whole process. One that goes
/// on after its result has come from elsewhere keeps its place, so that they do not pile up.
static BACKGROUND: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    Arc::new(Semaphore::new(cores))
});

/// How long a computation has only the time that other threads leave, where few others wait for a
/// core. It takes 250 ms where a core is free, and under a second where one is half busy.
const BACKGROUND_MAX: Duration = Duration::from_secs(3);

/// With every so many that wait for a core, [`BACKGROUND_MAX`] is divided by one more: so many
/// logins one peer may have under way. Of 32 logins on two busy cores the last one then still ends
/// within a client's patience of 30 s.
const WAITING_PER_STEP: usize = 4;

/// How many computations wait for a core.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Counts a computation that waits, until it is dropped.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a computation has only the time that is left, while so many others wait.
fn background_time(waiting: usize) -> Duration {
    let step = u32::try_from(waiting / WAITING_PER_STEP).unwrap_or(u32::MAX);
    BACKGROUND_MAX / step.saturating_add(1)
}

/// Identifies the password that a user had at some moment: the first 8 bytes of the SHA-256 of the
/// stored hash text.
///
/// The version changes whenever the password is set, even to the same password, and when the user
/// is deleted and added again, since bcrypt draws a new salt each time. It reveals nothing about
/// the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialVersion([u8; 8]);

impl CredentialVersion {
    /// A version from its bytes, for instance from a session.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The version as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// The version of a stored hash: text that [`PasswordHasher`](crate::PasswordHasher) made, or
    /// any text that changes whenever the password is set.
    #[must_use]
    pub fn of_hash(hash: &str) -> Self {
        let digest = Sha256::digest(hash.as_bytes());
        let mut version = [0; 8];
        version.copy_from_slice(&digest[..8]);
        Self(version)
    }
}

/// The result of comparing a presented password with a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password matches the hash.
    Right,
    /// There is no hash, or the password does not match it.
    Wrong,
    /// The stored text is not a hash that bcrypt can read.
    UnreadableHash,
}

/// Makes and compares bcrypt hashes.
pub(crate) struct Hasher {
    cost: u32,
    dummy: String,
    cores: Arc<Semaphore>,
    #[cfg(test)]
    runs: Arc<AtomicUsize>,
}

impl Hasher {
    /// A hasher with this cost for new hashes and for refusing unknown users.
    pub(crate) fn new(cost: u32) -> Self {
        Self::with_cores(cost, Arc::clone(&CORES))
    }

    fn with_cores(cost: u32, cores: Arc<Semaphore>) -> Self {
        Self {
            cost,
            dummy: format!("$2b${cost:02}${DUMMY_SALT_AND_HASH}"),
            cores,
            #[cfg(test)]
            runs: Arc::default(),
        }
    }

    /// A new hash of `password` with a new salt, as `$2b$` text of 60 characters.
    pub(crate) async fn hash(
        &self,
        password: &Password,
    ) -> Result<Zeroizing<String>, HashingError> {
        let (password, cost) = (password.clone(), self.cost);
        self.on_a_core(move || bcrypt::hash(password.expose(), cost))
            .await?
            .map(Zeroizing::new)
            .map_err(|cause| HashingError(cause.into()))
    }

    /// Whether `presented` matches `stored`. Takes one bcrypt for each form in which the password
    /// may have been hashed; for ASCII there is one form. Without a hash, with an unreadable one,
    /// or with a password that cannot be set, it compares with a dummy for the same time. The
    /// number of forms depends only on what was presented.
    pub(crate) async fn verify(
        &self,
        stored: Option<Zeroizing<String>>,
        presented: &str,
    ) -> Result<Verdict, HashingError> {
        // A password that cannot be set has no forms, so that a text of any length is not copied.
        let presented = password::forms(presented);
        let dummy = self.dummy.clone();
        self.on_a_core(move || {
            let mut verdict = Verdict::Wrong;
            for number in 0..presented.len().max(1) {
                if let (Some(stored), Some(form)) = (&stored, presented.get(number)) {
                    match bcrypt::verify(form.as_bytes(), stored) {
                        Ok(true) => return Verdict::Right,
                        Ok(false) => continue,
                        Err(_) => verdict = Verdict::UnreadableHash,
                    }
                }
                // Only the time matters, so the compiler must not see that the result is unused.
                black_box(bcrypt::verify(b"dummy", &dummy).is_ok());
            }
            verdict
        })
        .await
    }

    /// Runs `work` on a new thread as soon as a core is free. If the caller gives up while it
    /// waits, nothing runs; if later, the work runs to its end and holds its core until then.
    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<T, HashingError> {
        let waiting = Waiting::new();
        let permit = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .expect("nobody ever closes this semaphore");
        drop(waiting);
        #[cfg(test)]
        let runs = Arc::clone(&self.runs);
        let (done, result) = oneshot::channel();
        let run = move || {
            let _permit = permit;
            #[cfg(test)]
            runs.fetch_add(1, Ordering::Relaxed);
            let background = Arc::clone(&BACKGROUND).try_acquire_owned().ok();
            // The caller may be gone.
            let patience = background_time(WAITING.load(Ordering::Relaxed));
            let _gone = done.send(in_background(Arc::new(work), background, patience));
        };
        // A new thread, since a thread that has lowered its priority may not be allowed to raise
        // it. Its cost is negligible beside a bcrypt.
        new_thread(run).map_err(|cause| HashingError(cause.into()))?;
        result.await.map_err(|cause| HashingError(cause.into()))
    }
}

fn new_thread(run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name("web-ipc-bcrypt".into()).spawn(run).map(drop)
}

/// Runs `work` with the time that other threads leave: one that wakes up to serve a message goes
/// first, at once. Where all cores are busy there is little such time. So after `patience` the work
/// is begun a second time, on this thread, with a share of its own, and the first result counts.
/// Without a `place` it runs on this thread alone.
fn in_background<T: Send + 'static>(
    work: Arc<impl Fn() -> T + Send + Sync + 'static>,
    place: Option<OwnedSemaphorePermit>,
    patience: Duration,
) -> T {
    if let Some(place) = place {
        let (done, result) = mpsc::channel();
        let same = Arc::clone(&work);
        let started = new_thread(move || {
            // Where the system has no such threads, this one ends, and with it the channel.
            if leave_time_to_others() {
                let result = same();
                // Before the next computation begins, which would find no place: once the result is
                // known, this thread may get no time for long.
                drop(place);
                let _late = done.send(result);
            }
        });
        if let (Ok(()), Ok(result)) = (started, result.recv_timeout(patience)) {
            return result;
        }
    }
    step_back();
    work()
}

/// Gives this thread no other time than what is left, if the system can. Returns whether it can.
#[cfg(target_os = "linux")]
fn leave_time_to_others() -> bool {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, thread_schedule_policy,
    };
    // SCHED_IDLE of `man 7 sched`. With `nice` alone a thread keeps its core for some milliseconds
    // when another one wakes up.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let set = thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Min,
        idle,
    );
    // An error may come after the policy was set: where the whole process is `nice` already.
    let is_set = thread_schedule_policy().is_ok_and(|policy| policy == idle);
    if let (Err(error), false) = (set, is_set) {
        log::debug!("a hashing thread cannot leave its time to others: {error:?}");
    }
    is_set
}

/// Gives this thread no other time than what is left, if the system can. Returns whether it can.
#[cfg(not(target_os = "linux"))]
fn leave_time_to_others() -> bool {
    false
}

/// How far hashing threads lower their priority, in steps of `nice`: when processor time is short,
/// each gets a third of what another thread gets. Users who are logged in come before those who log
/// in.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Lets other threads go first when processor time is short.
fn step_back() {
    // On Linux this affects the calling thread only (`man 2 setpriority`, C library/kernel
    // differences); elsewhere it would affect the whole process. If it is not allowed, a login
    // slows the others a little more.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        log::debug!("cannot lower the priority of a hashing thread: {error}");
    }
}

/// bcrypt could not be run: the system provided no randomness for a salt, or the runtime is
/// shutting down.
#[derive(Debug)]
pub(crate) struct HashingError(pub(crate) Box<dyn Error + Send + Sync>);

impl fmt::Display for HashingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    // Hashes of "pass321" by other implementations: Python's bcrypt 5.0.0 ($2b$, $2a$) and
    // libxcrypt's crypt(3) ($2y$).
    const BY_PYTHON_2B_12: &str = "$2b$12$7VeDvfjhPApanWIc/uqK5OLDHAwYoeDRawunTVmaUDtd3s2CGFmAC";
    const BY_PYTHON_2A_04: &str = "$2a$04$4vWckenPtRjNVMhCH5ejH.v5c04/KxUFfw0hITI.RCxKmH7ceDfre";
    const BY_CRYPT_2Y_04: &str = "$2y$04$abcdefghijklmnopqrstuunWhCSmIePjd4kW1KRvOd7SsGc26/hdO";
    // Also by Python's bcrypt: hashes of "pässword ✓", and of 72 times "x".
    const BY_PYTHON_NOT_ASCII: &str =
        "$2b$04$83oHbjxxdNFCuGFAjVQegeKQXTQma34EiKzOgVa9iwEAmdvETV8iG";
    const BY_PYTHON_72_BYTES: &str = "$2b$04$7S44peMWJ827zJ4UwG40UuEmD8rUOKbckp3408Eq3gheJIGGAxJJi";

    fn hasher() -> Hasher {
        Hasher::with_cores(COST_FOR_TESTS, Arc::new(Semaphore::new(1)))
    }

    fn password(text: &str) -> Password {
        Password::parse(text.to_owned()).unwrap()
    }

    fn stored(hash: &str) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(hash.to_owned()))
    }

    async fn verdict(hash: &str, presented: &str) -> Verdict {
        hasher().verify(stored(hash), presented).await.unwrap()
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_and_no_other_is() {
        let hasher = hasher();
        let hash = hasher.hash(&password("pass321")).await.unwrap();
        assert_eq!(hasher.verify(Some(hash.clone()), "pass321").await.unwrap(), Verdict::Right);
        for wrong in ["pass322", "Pass321", "pass321 ", "pass32"] {
            assert_eq!(
                hasher.verify(Some(hash.clone()), wrong).await.unwrap(),
                Verdict::Wrong,
                "{wrong:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_new_hash_is_2b_of_the_cost_asked_for_with_a_salt_of_its_own() {
        let (one, two) = (
            hasher().hash(&password("x")).await.unwrap(),
            hasher().hash(&password("x")).await.unwrap(),
        );
        assert!(one.starts_with("$2b$04$") && one.len() == 60, "{}", *one);
        assert_ne!(*one, *two);
    }

    #[tokio::test]
    async fn hashes_made_by_other_implementations_verify() {
        for hash in [BY_PYTHON_2B_12, BY_PYTHON_2A_04, BY_CRYPT_2Y_04] {
            assert_eq!(verdict(hash, "pass321").await, Verdict::Right, "{hash}");
        }
        assert_eq!(verdict(BY_PYTHON_NOT_ASCII, "pässword ✓").await, Verdict::Right);
        assert_eq!(verdict(BY_PYTHON_72_BYTES, &"x".repeat(72)).await, Verdict::Right);
    }

    #[tokio::test]
    async fn all_72_bytes_count() {
        let hash = hasher().hash(&password(&"x".repeat(72))).await.unwrap();
        assert_eq!(verdict(&hash, &"x".repeat(72)).await, Verdict::Right);
        assert_eq!(verdict(&hash, &format!("{}y", "x".repeat(71))).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_presented_password_is_never_cut() {
        assert_eq!(verdict(BY_PYTHON_72_BYTES, &"x".repeat(73)).await, Verdict::Wrong);
        assert_eq!(verdict(BY_PYTHON_2A_04, "pass321\0").await, Verdict::Wrong);
        assert_eq!(verdict(BY_PYTHON_2A_04, "pass321\0more").await, Verdict::Wrong);
        assert_eq!(verdict(BY_PYTHON_2A_04, "").await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn whatever_is_presented_costs_one_bcrypt() {
        let hasher = hasher();
        let cases = [
            (stored(BY_PYTHON_2A_04), "pass321".to_owned()),
            (stored(BY_PYTHON_2A_04), "wrong".to_owned()),
            (stored(BY_PYTHON_2A_04), "x".repeat(100_000)),
            (stored(BY_PYTHON_2A_04), "a\0b".to_owned()),
            (None, "pass321".to_owned()),
            (None, String::new()),
            (stored("no hash at all"), "pass321".to_owned()),
        ];
        for (index, (hash, presented)) in cases.into_iter().enumerate() {
            hasher.verify(hash, &presented).await.unwrap();
            assert_eq!(hasher.runs.load(Ordering::Relaxed), index + 1);
        }
    }

    #[test]
    fn the_dummy_is_a_hash_that_bcrypt_works_through_at_the_cost_asked_for() {
        for cost in [COST_FOR_TESTS, COST_MIN] {
            let hasher = Hasher::new(cost);
            assert!(hasher.dummy.starts_with(&format!("$2b${cost:02}$")));
            assert!(bcrypt::verify("dummy", &hasher.dummy).is_ok_and(|belongs| !belongs));
        }
    }

    #[tokio::test]
    async fn a_text_that_is_no_hash_lets_nobody_in() {
        for text in [
            "",
            "pass321",
            "$2b$04$",
            "$2b$99$lTcyCyb6Z0tVJcdhOZu9SOda4myR9XBsU6DH7GO9ECny6OSYM7YyK",
            "é",
        ] {
            assert_eq!(verdict(text, "pass321").await, Verdict::UnreadableHash, "{text:?}");
        }
    }

    #[tokio::test]
    async fn one_more_than_there_are_cores_waits() {
        let hasher = hasher();
        let taken = Arc::clone(&hasher.cores).acquire_owned().await.unwrap();
        let mut waiting = pin!(hasher.verify(None, "x"));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(taken);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_costs_nothing() {
        let hasher = hasher();
        let _taken = Arc::clone(&hasher.cores).acquire_owned().await.unwrap();
        {
            let mut waiting = Box::pin(hasher.verify(None, "x"));
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(hasher.runs.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_starves_in_the_background_is_done_in_the_foreground() {
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        let (resume, resumed) = mpsc::channel::<()>();
        let resumed = std::sync::Mutex::new(resumed);
        let here = thread::current().id();
        let work = move || {
            if thread::current().id() != here {
                // Ends when `resume` is dropped.
                let _ended = resumed.lock().unwrap().recv();
            }
            thread::current().id()
        };
        let asked = in_background(Arc::new(work), Some(slot), Duration::ZERO);
        assert_eq!(asked, here);
        if cfg!(target_os = "linux") {
            assert_eq!(slots.available_permits(), 0, "what goes on keeps its place");
        }
        drop(resume);
        wait_for_place(&slots);
    }

    /// Waits until a place is free again.
    fn wait_for_place(slots: &Arc<Semaphore>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        drop(runtime.block_on(slots.acquire()).unwrap());
    }

    #[test]
    fn without_a_place_in_the_background_the_work_is_done_once_and_here() {
        let here = thread::current().id();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let work = move || {
            count.fetch_add(1, Ordering::Relaxed);
            thread::current().id()
        };
        assert_eq!(in_background(Arc::new(work), None, Duration::MAX), here);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn with_the_result_the_place_in_the_background_is_free_for_the_next() {
        let slots = Arc::new(Semaphore::new(1));
        for _ in 0..100 {
            let slot = Arc::clone(&slots).try_acquire_owned().expect("the last one is done");
            in_background(Arc::new(|| ()), Some(slot), Duration::from_secs(3600));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn in_the_background_a_thread_has_the_time_that_is_left() {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let work = || thread_priority::thread_schedule_policy().unwrap();
        let policy = in_background(Arc::new(work), Some(slot), Duration::from_secs(3600));
        let idle = thread_priority::NormalThreadSchedulePolicy::Idle;
        assert_eq!(policy, thread_priority::ThreadSchedulePolicy::Normal(idle));
    }

    #[test]
    fn the_more_wait_the_sooner_a_computation_gets_a_share_of_its_own() {
        assert_eq!(background_time(0), BACKGROUND_MAX);
        assert_eq!(background_time(3), BACKGROUND_MAX);
        assert_eq!(background_time(4), BACKGROUND_MAX / 2);
        assert_eq!(background_time(31), BACKGROUND_MAX / 8);
        assert!(background_time(usize::MAX) < BACKGROUND_MAX / 1000);
    }

    #[test]
    fn all_hashers_share_the_cores_of_the_process() {
        assert!(Arc::ptr_eq(&Hasher::new(COST_FOR_TESTS).cores, &Hasher::new(COST_MIN).cores));
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(CORES.available_permits() <= cores);
    }

    #[test]
    fn a_credential_version_is_the_head_of_the_sha256_of_the_hash_text() {
        // SHA-256("abc"), FIPS 180-4: ba7816bf 8f01cfea …
        let version = CredentialVersion::of_hash("abc");
        assert_eq!(version.as_bytes(), &[0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
        assert_eq!(CredentialVersion::from_bytes(*version.as_bytes()), version);
        assert_ne!(
            CredentialVersion::of_hash(BY_PYTHON_2B_12),
            CredentialVersion::of_hash(BY_PYTHON_2A_04)
        );
    }
}

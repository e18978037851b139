//! Connections to the database, on a thread of their own: the runtimes that call a store come and
//! go, and a socket belongs to the one that opened it.
//!
//! `store` comes here with each call. After a failure the database is not asked for a moment, so
//! that calls fail at once while it is down.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::{PostgresError, PostgresUrl};

/// How many connections a store has at most. Calls beyond it wait.
const CONNECTIONS_MAX: usize = 8;

/// For how long calls fail at once after one could not reach the database.
const DOWN_FOR: Duration = Duration::from_millis(250);

/// Connections to one database.
pub(crate) struct Connections {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    url: PostgresUrl,
    timeout: Duration,
    idle: Mutex<Vec<PgConnection>>,
    places: Semaphore,
    down: Mutex<Option<(Instant, PostgresError)>>,
    /// The database has answered. Until then its user is told what is wrong, and the log is not.
    has_answered: AtomicBool,
}

impl Connections {
    pub(crate) fn new(url: PostgresUrl, timeout: Duration) -> Result<Self, PostgresError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("web-ipc-users")
            .enable_all()
            .build()
            .map_err(|error| PostgresError::unreachable(&url, error))?;
        let shared = Shared {
            url,
            timeout,
            idle: Mutex::default(),
            places: Semaphore::new(CONNECTIONS_MAX),
            down: Mutex::default(),
            has_answered: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    pub(crate) fn url(&self) -> &PostgresUrl {
        &self.shared.url
    }

    /// Runs `work` on a connection, within `times` the timeout of the store. If the caller gives
    /// up, it runs to its end.
    pub(crate) async fn run<T, F>(
        &self,
        times: u32,
        work: impl FnOnce(PgConnection) -> F + Send + 'static,
    ) -> Result<T, PostgresError>
    where
        T: Send + 'static,
        F: Future<Output = (Result<T, sqlx::Error>, PgConnection)> + Send,
    {
        let shared = Arc::clone(&self.shared);
        shared.refuse_while_down()?;
        let runtime = self.runtime.as_ref().expect("it is taken only when this is dropped");
        let (at_most, url) = (shared.timeout * times, shared.url.clone());
        let task = runtime.spawn(async move {
            let result = match timeout(at_most, shared.work(work)).await {
                Ok(result) => result,
                Err(_) => Err(PostgresError::timed_out(&shared.url, at_most)),
            };
            shared.note(result.as_ref().err());
            result
        });
        task.await.unwrap_or_else(|error| Err(PostgresError::unreachable(&url, error)))
    }

    /// Closes the connections when the calls that run are done. Later calls fail.
    pub(crate) async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let runtime = self.runtime.as_ref().expect("it is taken only when this is dropped");
        let closed = runtime.spawn(async move {
            let all = u32::try_from(CONNECTIONS_MAX).expect("a small number");
            let _all = timeout(shared.timeout, shared.places.acquire_many(all)).await;
            shared.places.close();
            let idle = std::mem::take(&mut *lock(&shared.idle));
            for connection in idle {
                // The other end may be gone.
                let _gone = timeout(shared.timeout, connection.close()).await;
            }
        });
        let _stopped = closed.await;
    }
}

impl Shared {
    async fn work<T, F>(&self, work: impl FnOnce(PgConnection) -> F) -> Result<T, PostgresError>
    where
        F: Future<Output = (Result<T, sqlx::Error>, PgConnection)>,
    {
        let closed = || PostgresError::unreachable(&self.url, "the store was closed");
        let _place = self.places.acquire().await.map_err(|_| closed())?;
        let connection = self.connection().await?;
        let (result, connection) = work(connection).await;
        match result {
            Ok(value) => {
                lock(&self.idle).push(connection);
                Ok(value)
            }
            // What state the connection is in is not known: it is dropped.
            Err(error) => Err(PostgresError::of(&error, &self.url)),
        }
    }

    /// A connection that has just answered.
    async fn connection(&self) -> Result<PgConnection, PostgresError> {
        loop {
            let Some(mut connection) = lock(&self.idle).pop() else { break };
            if connection.ping().await.is_ok() {
                return Ok(connection);
            }
        }
        // Work may take longer than a call that waits for an answer; a connection may not.
        let connected = timeout(self.timeout, self.url.options.connect()).await;
        let connected = connected.map_err(|_| PostgresError::timed_out(&self.url, self.timeout))?;
        connected.map_err(|error| PostgresError::of_connecting(&error, &self.url))
    }

    fn refuse_while_down(&self) -> Result<(), PostgresError> {
        let mut down = lock(&self.down);
        match &mut *down {
            Some((since, error)) if since.elapsed() < DOWN_FOR => Err(error.clone()),
            Some((since, _)) => {
                // This call finds out; others do not wait for it.
                *since = Instant::now();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn note(&self, error: Option<&PostgresError>) {
        let mut down = lock(&self.down);
        match error {
            Some(error) if error.may_pass() => {
                if down.is_none() && self.has_answered.load(Ordering::Relaxed) {
                    log::warn!("{error}");
                }
                *down = Some((Instant::now(), error.clone()));
            }
            _ => {
                self.has_answered.fetch_or(error.is_none(), Ordering::Relaxed);
                if down.take().is_some() {
                    log::info!("the users' database {} answers again", self.url);
                }
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

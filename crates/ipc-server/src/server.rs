//! The running server: a thread of its own with an actix system, and the application's handle to
//! it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actix_server::ServerHandle;
use actix_web::web;
use ipc_home::{FileStamps, Home, HomeWatch, PeerName};
use ipc_inbox::{Inbox, InboxChoice, InboxSender};
use ipc_protocol::Protocol;
use ipc_store::{SqliteUserStore, UserStore};
use tokio::sync::{Semaphore, oneshot};

use crate::builder::ServerBuilder;
use crate::error::StartError;
use crate::http::Settings;
use crate::login_ids::LoginIds;
use crate::login_notes::LoginNotes;
use crate::login_permits::LoginPermits;
use crate::login_slowdown::LoginSlowdown;
use crate::login_throttle::LoginThrottle;
use crate::memory_budget::MemoryBudget;
use crate::observer::Observer;
use crate::open_files::{self, Places};
#[cfg(feature = "python-compat")]
use crate::python_sessions::PythonSessions;
use crate::sealed_body::Limits;
use crate::state::State;
use crate::statistics::Counters;
use crate::stopping::Stopping;
use crate::timeouts::Timeouts;
use crate::trust::{CurrentTrust, Trust};
use crate::users::Users;
use crate::{clock, following, http, listen};

/// How long the disk may take at the end to write back data that are already committed.
const DISK_WAIT: Duration = Duration::from_secs(10);

/// How often the users' database is told of logins.
const LOGIN_NOTES_PERIOD: Duration = Duration::from_secs(2);

/// How long a stop waits for idle connections to end before it checks only once a second.
const IDLE_END_WAIT: Duration = Duration::from_millis(250);

/// A running server.
///
/// Dropping it stops it like [`stop`](Server::stop), without waiting for the end.
pub struct Server {
    name: String,
    address: SocketAddr,
    inbox: Inbox,
    state: web::Data<State>,
    /// Ends with the server's thread.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Server {
    /// Returns a builder for a server of this home.
    pub fn builder(home: &Home) -> ServerBuilder {
        ServerBuilder::new(home)
    }

    /// The address that the server listens on. The port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The peer name in the server's certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inbox from which the application takes its messages, and which has the dead letters. The
    /// handle may be cloned and outlives the server.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// A handle that reads the server's figures.
    pub fn observer(&self) -> Observer {
        let (name, inbox) = (self.name.clone(), self.inbox.clone());
        Observer::new(name, self.address, self.state.clone(), inbox)
    }

    /// Closes the inbox for good: from now on nothing is accepted or delivered. Call it after
    /// [`stop`](Self::stop), or instead of it if the application wants no more messages.
    ///
    /// Returns when earlier acknowledgements are stored and, if the inbox is durable, its file is
    /// closed. Another server may then open it. The result is the number of messages left: a
    /// durable inbox keeps them, one in memory has lost them. A second call returns 0.
    pub async fn finish_inbox(&self) -> u64 {
        self.state.inbox.finish().await
    }

    /// Stops the server. It accepts no more connections and messages, finishes the requests that
    /// are being served (including those that wait for a reply), and then closes the inbox to new
    /// messages. Accepted messages stay in the inbox for the application. Refused clients are told
    /// to come again. Returns when all of that is done, at the latest after
    /// [`stop_timeout`](ServerBuilder::stop_timeout) plus the time that the disk takes. A second
    /// call returns at once.
    ///
    /// After it, everything is in the home's database files themselves, `users.db` and `inbox.db`.
    /// For later acknowledgements this holds once [`finish_inbox`](Self::finish_inbox) has
    /// returned, which also lets the next server open the same inbox.
    pub async fn stop(&self) {
        self.begin_stop();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // The thread drops its end of the channel when it is done.
            let _done = ended.await;
            log::info!("Web server stopped");
        }
    }

    /// Takes the server out of a load balancer's choice: from now on `GET /is/running` answers 503
    /// `shutting_down`. Everything else goes on as before, new connections and messages included,
    /// until [`begin_stop`](Server::begin_stop) or [`stop`](Server::stop). Wait between the two for
    /// as long as the load balancer may take to notice. Returns at once.
    pub fn begin_drain(&self) {
        if self.state.stopping.drain() {
            log::info!(
                "Draining web server {}:{}: /is/running answers 503, messages are still accepted",
                self.name,
                self.address.port()
            );
        }
    }

    /// Begins a [`stop`](Server::stop) and returns at once. The application may meanwhile take
    /// messages from the inbox and reply to waiting requests. The inbox is closed when no request
    /// is being served any more.
    pub fn begin_stop(&self) {
        if self.state.stopping.begin() {
            log::info!("Shutting down web server {}:{}", self.name, self.address.port());
        }
    }

    pub(crate) async fn start(builder: ServerBuilder) -> Result<Server, StartError> {
        let name = PeerName::parse(&builder.name)
            .map_err(|source| StartError::Name { name: builder.name.clone(), source })?;
        let address = match &builder.listener {
            Some(listener) => listen::address_of(listener)?,
            None => listen::resolve(&builder.address)?,
        };
        let is_remote_http =
            builder.protocol == Protocol::Http && !ipc_protocol::is_loopback(address.ip());
        if is_remote_http && !builder.allows_remote_http {
            return Err(StartError::RemoteHttp { address });
        }
        #[cfg(feature = "python-compat")]
        if builder.python_compat && builder.protocol == Protocol::Http {
            return Err(StartError::PythonCompatHttp);
        }
        clock::check(SystemTime::now())?;
        let (started, answer) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("web-ipc-server".into())
            .spawn(move || {
                run(builder, name, address, started);
                drop::<oneshot::Sender<()>>(end);
            })
            .map_err(|source| StartError::Threads { source })?;
        let gone =
            || StartError::Threads { source: std::io::Error::other("the server's thread ended") };
        let started = answer.await.map_err(|_| gone())??;
        Ok(Server {
            name: started.name,
            address: started.address,
            inbox: started.inbox,
            state: started.state,
            ended: Mutex::new(Some(ended)),
        })
    }
}

impl ServerBuilder {
    /// Starts the server and returns when it listens. Works with any async runtime, or none.
    ///
    /// # Errors
    /// [`StartError`]. Its `remedy` says what to do.
    pub async fn start(self) -> Result<Server, StartError> {
        Server::start(self).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The thread finishes the requests that are being served and closes the inbox.
        self.begin_stop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What the server's thread reports to its starter.
struct Started {
    name: String,
    address: SocketAddr,
    inbox: Inbox,
    state: web::Data<State>,
}

/// Runs the server on its thread.
fn run(
    builder: ServerBuilder,
    name: PeerName,
    address: SocketAddr,
    started: oneshot::Sender<Result<Started, StartError>>,
) {
    let system = actix_rt::System::new();
    system.block_on(async move {
        // The home is locked before anything is read from it and until the thread ends, so that it
        // is not moved away under a server.
        let held = builder.home.hold().map_err(StartError::from);
        let prepared = match held {
            Ok(in_use) => {
                start_in(builder, &name, address).await.map(|prepared| (prepared, in_use))
            }
            Err(error) => Err(error),
        };
        let (server, state, _watch, own_users, _in_use) = match prepared {
            Ok(((prepared, own_users), in_use)) => {
                let Prepared { server, state, inbox, address, watch } = prepared;
                let name = name.to_string();
                let told = Started { name, address, inbox, state: state.clone() };
                if started.send(Ok(told)).is_err() {
                    // The caller has dropped the future that started the server.
                    return;
                }
                (server, state, watch, own_users, in_use)
            }
            Err(error) => {
                // The caller may have gone, so a failure to send does not matter.
                let _gone = started.send(Err(error));
                return;
            }
        };
        // These tasks end with the thread's system.
        actix_rt::spawn(Arc::clone(&state.log).sum_up());
        actix_rt::spawn(following::watch_expiry(state.clone()));
        actix_rt::spawn(write_login_notes(state.clone()));
        actix_rt::spawn(stop_when_told(server.handle(), Arc::clone(&state.stopping)));
        if let Err(error) = server.await {
            log::error!("the web server failed: {}", ipc_base::chain(&error));
        }
        state.log.tell(Instant::now());
        let files = async {
            state.inbox.close().await;
            state.login_notes.write(state.users.store()).await;
            if let Some(users) = own_users {
                users.close().await;
            }
        };
        // The inbox is closed to new messages at once. A disk that does not respond is not waited
        // for, because the data are committed.
        if actix_rt::time::timeout(DISK_WAIT, files).await.is_err() {
            log::warn!(
                "the disk took more than {} s to write back the home's files; no data are lost",
                DISK_WAIT.as_secs()
            );
        }
    });
    // Its last tasks are dropped with the system. A connection to the users' database that one of
    // them holds is given back in a runtime, and panics where there is none.
    let runtime = system.runtime().tokio_runtime().handle().clone();
    let _in_runtime = runtime.enter();
    drop(system);
}

/// Writes what was noted of logins, from time to time.
async fn write_login_notes(state: web::Data<State>) {
    loop {
        actix_rt::time::sleep(LOGIN_NOTES_PERIOD).await;
        state.login_notes.write(state.users.store()).await;
    }
}

/// Stops the HTTP server once the stop has begun. actix-server checks once a second whether
/// connections are left. Idle connections and channels end at once, so this waits for them briefly
/// before it calls `stop`; `stop` then waits for connections with requests.
async fn stop_when_told(server: ServerHandle, stopping: Arc<Stopping>) {
    stopping.begun().await;
    let _busy = actix_rt::time::timeout(IDLE_END_WAIT, stopping.no_connection()).await;
    server.stop(true).await;
}

/// Opens the files of the home and serves from them. If that fails, closes them again.
async fn start_in(
    builder: ServerBuilder,
    name: &PeerName,
    address: SocketAddr,
) -> Result<(Prepared, Option<Arc<SqliteUserStore>>), StartError> {
    let opened = Opened::open(&builder).await?;
    let (own_users, own_inbox) = (opened.own_users.clone(), opened.own_inbox());
    match prepare(builder, name, address, opened).await {
        Ok(prepared) => Ok((prepared, own_users)),
        Err(error) => {
            if let Some(inbox) = own_inbox {
                inbox.finish().await;
            }
            if let Some(users) = own_users {
                users.close().await;
            }
            Err(error)
        }
    }
}

/// The user store and the inbox. The home's own ones were opened here.
struct Opened {
    users: Arc<dyn UserStore>,
    own_users: Option<Arc<SqliteUserStore>>,
    sender: InboxSender,
    inbox: Inbox,
    is_own_inbox: bool,
}

impl Opened {
    /// Returns the inbox if it was opened here.
    fn own_inbox(&self) -> Option<InboxSender> {
        self.is_own_inbox.then(|| self.sender.clone())
    }

    async fn open(builder: &ServerBuilder) -> Result<Self, StartError> {
        let home = &builder.home;
        let own_users = match &builder.users {
            Some(_) => None,
            None => Some(Arc::new(SqliteUserStore::open(home.users_db_checked()?).await?)),
        };
        let opened: Result<_, StartError> = async {
            Ok(match builder.inbox.clone().unwrap_or_default() {
                InboxChoice::Open(sender, inbox) => (sender, inbox, false),
                InboxChoice::Durable(options) => {
                    let (sender, inbox) = options.open(home.inbox_db_checked()?).await?;
                    (sender, inbox, true)
                }
                InboxChoice::Memory(options) => {
                    let (sender, inbox) = options.build();
                    (sender, inbox, true)
                }
            })
        }
        .await;
        let (sender, inbox, is_own_inbox) = match (opened, &own_users) {
            (Ok(opened), _) => opened,
            (Err(error), None) => return Err(error),
            (Err(error), Some(users)) => {
                users.close().await;
                return Err(error);
            }
        };
        let given = builder.users.clone();
        let own = own_users.clone().map(|users| users as Arc<dyn UserStore>);
        let users = given.or(own).expect("they were opened where none were given");
        Ok(Opened { users, own_users, sender, inbox, is_own_inbox })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A server that listens and does not serve yet.
struct Prepared {
    server: actix_server::Server,
    state: web::Data<State>,
    inbox: Inbox,
    address: SocketAddr,
    /// Follows the files of the home until it is dropped.
    watch: HomeWatch,
}

/// Reads what the server needs, and listens last, so that every client that connects is served.
async fn prepare(
    builder: ServerBuilder,
    name: &PeerName,
    address: SocketAddr,
    opened: Opened,
) -> Result<Prepared, StartError> {
    let home = &builder.home;
    let seen = FileStamps::of(&Trust::files(home, name, builder.protocol));
    let trust = Trust::read(home, name, builder.protocol, 0)?;
    trust.check(SystemTime::now())?;
    let Opened { users, sender, inbox, .. } = opened;
    let login_slowdown = LoginSlowdown::default();
    // Some stores note no certificates. Then those who log in after a restart may have to pause
    // once.
    login_slowdown.remember(users.peers().await.unwrap_or_default(), Instant::now());
    let state = web::Data::new(State {
        trust: CurrentTrust::new(trust),
        issuer: builder.certificate_issuer.clone(),
        users: Users::new(users, builder.users_outage_max),
        inbox: sender,
        log: Arc::default(),
        statistics: Counters::new(SystemTime::now()),
        attempts: LoginThrottle::new(builder.failed_logins_max, builder.peer_failed_logins_max),
        login_slowdown,
        login_ids: LoginIds::default(),
        login_notes: LoginNotes::default(),
        logins: LoginPermits::new(builder.logins_waiting_max, builder.peer_logins_waiting_max),
        limits: Limits {
            plaintext_bytes_max: builder.plaintext_bytes_max,
            body_timeout: builder.body_timeout,
        },
        channel: builder.channel_settings(),
        budget: MemoryBudget::new(builder.bodies_bytes_max),
        // The other cores are left to the connections.
        long_envelopes: Arc::new(Semaphore::new((cores() / 2).max(1))),
        inbox_wait: builder.inbox_wait,
        reply_wait_max: builder.reply_wait_max,
        batch_messages_max: builder.batch_messages_max,
        session_secs: builder.session_lifetime.as_secs(),
        stopping: Stopping::new(),
        #[cfg(feature = "python-compat")]
        python: builder.python_compat.then(|| PythonSessions::new(builder.python_sessions_max)),
    });
    let threads = |source| StartError::Threads { source };
    let listener = match builder.listener {
        // Once the server has it alone, the end of the server closes it.
        Some(listener) => match Arc::try_unwrap(listener) {
            Ok(listener) => listener,
            Err(shared) => shared.try_clone().map_err(threads)?,
        },
        None => listen::listen(address)?,
    };
    let address = listener.local_addr().map_err(threads)?;
    let workers = builder.workers.clamp(1, http::WORKERS_MAX);
    let wanted =
        Places { connections: builder.connections_max, handshakes: builder.handshakes_max };
    let places = open_files::fit(wanted, workers, builder.raises_open_files_limit);
    let settings = Settings {
        workers,
        connections_max: places.connections,
        peer_connections_max: builder
            .peer_connections_max
            .unwrap_or_else(|| places.connections.saturating_mul(3).div_ceil(4)),
        handshakes_max: places.handshakes,
        times: Timeouts {
            idle: builder.idle_timeout,
            head: builder.head_timeout,
            linger: http::DISCONNECT_TIMEOUT,
            answer: builder.body_timeout,
        },
        handshake_timeout: builder.handshake_timeout,
        stop_timeout: builder.stop_timeout,
    };
    let server = http::serve(listener, settings, &state).map_err(threads)?;
    let watch =
        following::begin(home.clone(), name.clone(), builder.protocol, seen, state.clone())?;
    log::info!("Listening on {}://{address} as {name}", builder.protocol);
    #[cfg(feature = "python-compat")]
    if state.python.is_some() {
        log::info!("Messages of the unmodified Python tool are accepted too");
    }
    Ok(Prepared { server, state, inbox, address, watch })
}

//! Logs in with wrong passwords, as fast as the server answers, until it is told to stop.
//!
//! Each login is of another unknown user, so that the limit for one user does not end the flood. As
//! many logins are in flight as the server allows one peer: each costs a bcrypt, without a pause.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ipc_envelope::KeyRing;
use ipc_home::Home;
use ipc_protocol::{MessageId, Route, write_frame};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::options::Options;
use crate::raw_client::RawClient;
use crate::tls::Material;

/// Logs in until SIGTERM, then prints how many answers of each kind came.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let identity: String = options.get("identity")?.unwrap_or_else(|| "localhost".to_owned());
    let in_flight: usize = options.get("in-flight")?.unwrap_or(4);
    let address = options.required("address")?;
    options.refuse_unused()?;
    let ring = Arc::new(home.envelope_keys()?);
    let config = Material::read(&home, &identity)?.client_config()?;
    actix_rt::Runtime::new()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let path = Route::ClientAuth.path();
        let client = Rc::new(RawClient::new(address, path, config, in_flight)?);
        let counts = Rc::new(Counts::default());
        for _ in 0..in_flight {
            let (client, ring, counts) =
                (Rc::clone(&client), Arc::clone(&ring), Rc::clone(&counts));
            actix_rt::spawn(async move {
                // An error ends this task; the counts then show it.
                while let Ok(login) = login(&ring, |id| format!("nobody-{id}")) {
                    match client.post(login).await {
                        Ok(401) => counts.wrong.set(counts.wrong.get() + 1),
                        Ok(429) => counts.too_many.set(counts.too_many.get() + 1),
                        Ok(_) => counts.other.set(counts.other.get() + 1),
                        Err(_) => return,
                    }
                }
            });
        }
        println!("flooding");
        terminate.recv().await;
        let Counts { wrong, too_many, other } = &*counts;
        println!(
            "{}",
            json!({ "wrong": wrong.get(), "too_many": too_many.get(), "other": other.get() })
        );
        Ok(())
    })
}

#[derive(Default)]
struct Counts {
    /// Answers with 401: each costs a bcrypt.
    wrong: std::cell::Cell<u64>,
    /// Answers with 429.
    too_many: std::cell::Cell<u64>,
    other: std::cell::Cell<u64>,
}

/// A sealed login with a wrong password, of the user that `username` makes of its id.
pub(crate) fn login(
    ring: &KeyRing,
    username: impl FnOnce(MessageId) -> String,
) -> Result<Bytes, Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let [id, iv] = [&random[..16], &random[16..]].map(<[u8; 16]>::try_from);
    let id = MessageId::from_random(id?);
    let body = json!({ "username": username(id), "password": "wrong" }).to_string();
    let mut frame = Vec::new();
    write_frame(&mut frame, Route::ClientAuth.path(), id, None, &body);
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(ring.seal(&frame, now_secs, iv?).into())
}

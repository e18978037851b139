//! A client that sends as fast as it gets answers, and reports what it measured.
//!
//! There is a task for each message in flight. All tasks share one sender on one thread. web-ipc's
//! client also has a thread of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_home::Home;
use tokio::time::interval_at;

use crate::failure::Failure;
use crate::gauge::Gauge;
use crate::options::Options;
use crate::sender::{Cold, SenderConfig, SenderFactory, Workload};

/// The highest rate that can be asked for, in messages a second.
const RATE_MAX: f64 = 1e6;

/// Sends, and prints a line of JSON.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let in_flight: usize = options.get("in-flight")?.unwrap_or(1);
    let config = SenderConfig {
        workload: options.get("workload")?.unwrap_or(Workload::Send),
        home: Home::open(options.required::<String>("home")?)?,
        address: options.required("address")?,
        bytes: options.get("bytes")?.unwrap_or(64),
        in_flight,
        batch: options.get("batch")?.unwrap_or(100),
        connections: options.get("connections")?,
        cold: options.get("cold")?,
    };
    let (secs, warm_up) = (options.secs("secs", 1.0)?, options.secs("warm-up", 0.3)?);
    let rate: Option<f64> = options.get("rate")?;
    let gauge = Arc::new(Gauge::new(options.get("server-pid")?));
    options.refuse_unused()?;
    let cold = config.cold;
    if rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        return Err(format!("--rate must be above 0 and at most {RATE_MAX}").into());
    }
    let factory = SenderFactory::new(config)?;
    actix_rt::Runtime::new()?.block_on(async {
        let result = match cold {
            None => warm(&factory, in_flight, rate, &gauge, warm_up, secs).await?,
            Some(cold) => self::cold(&factory, cold, &gauge, warm_up, secs).await?,
        };
        println!("{result}");
        Ok(())
    })
}

/// Sends with one sender for all tasks: as fast as answers come, or so many messages a second,
/// evenly spread.
async fn warm(
    factory: &SenderFactory,
    in_flight: usize,
    rate: Option<f64>,
    gauge: &Arc<Gauge>,
    warm_up: Duration,
    secs: Duration,
) -> Result<serde_json::Value, Failure> {
    let sender = Rc::new(factory.make()?);
    // A login costs a bcrypt. It comes before the warm-up, which would otherwise end before the
    // login.
    sender.once().await?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|number| {
            let (sender, gauge) = (Rc::clone(&sender), Arc::clone(gauge));
            let pace = rate.map(|rate| {
                let first = begun + Duration::from_secs_f64(number as f64 / rate);
                interval_at(first.into(), Duration::from_secs_f64(in_flight as f64 / rate))
            });
            actix_rt::spawn(async move {
                sender.keep_sending(&gauge, pace).await.map_err(|error| error.to_string())
            })
        })
        .collect();
    actix_rt::time::sleep(warm_up).await;
    gauge.begin()?;
    actix_rt::time::sleep(secs).await;
    let result = gauge.end()?;
    for task in tasks {
        task.await??;
    }
    Ok(result)
}

/// Sends each message with a new sender, one after the other. Making the sender counts as latency
/// of the message.
async fn cold(
    factory: &SenderFactory,
    cold: Cold,
    gauge: &Gauge,
    warm_up: Duration,
    secs: Duration,
) -> Result<serde_json::Value, Failure> {
    factory.make()?.once().await?;
    let (mut sent, mut resumed) = (0_u64, 0_u64);
    for span in [warm_up, secs] {
        gauge.begin()?;
        let until = Instant::now() + span;
        while Instant::now() < until {
            let sent_at = Instant::now();
            let sender = factory.make()?;
            sender.once().await?;
            gauge.note(sent_at, 1);
            sent += 1;
            resumed += sender.resumed();
        }
    }
    if cold == Cold::Resumed && resumed < sent {
        return Err(
            format!("{} of {sent} handshakes did not resume a session", sent - resumed).into()
        );
    }
    Ok(gauge.end()?)
}

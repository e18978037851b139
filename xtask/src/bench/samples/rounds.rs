//! Measures everything once per round, round after round, so that a disturbance of the machine
//! affects all cases alike.
//!
//! The task passes the options and gets figures, one per round. The tables interpret them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::measurements::{Measurements, Sample};
use super::single_process;
use super::test_bed::{CpuPin, TestBed};
use crate::bench::cases::{Attack, Case, Options, SIEGE_CONNECTIONS, SIEGE_LOGINS, Workload};
use crate::driver::{Captured, PATIENCE, finish, number, stop};

/// The names of the flooding peers.
const FLOODERS: [&str; 2] = ["flood1", "flood2"];

/// Runs all rounds. `say` is called before each step. The error says what could not be measured.
pub(crate) fn run(
    bed: &TestBed,
    options: &Options,
    say: &mut dyn FnMut(String),
) -> Result<Measurements, String> {
    let cases = options.cases();
    if cases.iter().any(|case| case.attack != Attack::None) {
        for name in FLOODERS {
            bed.time(bed.program(CpuPin::None, "web-ipc", &["--certs", "--name", name]))?;
        }
    }
    let mut measured = Measurements::default();
    for round in 1..=options.rounds {
        for case in &cases {
            say(format!("round {round} of {}: {case}", options.rounds));
            let sample =
                run_case(bed, case, options).map_err(|error| format!("{case}: {error}"))?;
            measured.samples.entry(*case).or_default().push(sample);
        }
        single_process::run(bed, options, round, &mut measured, say)?;
    }
    Ok(measured)
}

/// Runs one case in processes of its own.
fn run_case(bed: &TestBed, case: &Case, options: &Options) -> Result<Sample, String> {
    let server = bed.serve(case.workload, case.inbox)?;
    let home = bed.home().display().to_string();
    let (connections, logins) = (SIEGE_CONNECTIONS.to_string(), SIEGE_LOGINS.to_string());
    let (program, names, begins, more): (_, &[&str], _, &[&str]) = match case.attack {
        Attack::None => ("", &[], "", &[]),
        Attack::Flood => ("flood", &FLOODERS, "flooding", &[]),
        Attack::Siege => (
            "siege",
            &FLOODERS[..1],
            "besieging",
            &["--connections", &connections, "--logins", &logins],
        ),
    };
    let mut attackers = Vec::new();
    for name in names {
        let common = [program, "--home", &home, "--address", &server.address, "--identity", name];
        let arguments = [&common, more].concat();
        let mut attacker =
            Captured::start(bed.program(CpuPin::Client, "ipc-bench", &arguments), "")?;
        attacker.wait_for_line(begins)?;
        attackers.push(attacker);
    }
    let attack_begun = Instant::now();
    // A bcrypt takes a considerable part of a second.
    let secs = if case.attack == Attack::None { options.secs } else { options.secs * 3.0 };
    let clients: Vec<Captured> = (0..case.clients)
        .map(|_| bed.send(case, &server, secs, options.warm_up_secs))
        .collect::<Result<_, _>>()?;
    let patience = PATIENCE + Duration::from_secs_f64(secs + options.warm_up_secs);
    let mut said = Vec::new();
    for client in clients {
        said.extend(finish(client, patience)?);
    }
    let attack_secs = attack_begun.elapsed().as_secs_f64();
    let (mut wrong, mut turned_away, mut connections) = (0.0, 0.0, 0.0);
    for attacker in attackers {
        for line in stop(attacker)? {
            wrong += number(&line, "wrong")?;
            turned_away += number(&line, "too_many")?;
            if number(&line, "other")? > 0.0 {
                return Err(format!("the attack got an unexpected response: {line}"));
            }
            if case.attack == Attack::Siege {
                connections += number(&line, "opened")? - SIEGE_CONNECTIONS as f64;
                if number(&line, "channels")? == 0.0 {
                    return Err(format!("the siege has no channel: {line}"));
                }
            }
        }
    }
    let stopped = server.stop()?;
    Ok(Sample {
        logins_rate: wrong / attack_secs,
        turned_away_rate: turned_away / attack_secs,
        connections_rate: connections / attack_secs,
        ..sample(case, &said, &stopped)?
    })
}

/// Combines the results of the clients and the server.
fn sample(case: &Case, clients: &[Value], server: &Value) -> Result<Sample, String> {
    let of_each =
        |name: &str| clients.iter().map(|said| number(said, name)).collect::<Result<Vec<f64>, _>>();
    let sum = |name: &str| Ok::<f64, String>(of_each(name)?.iter().sum());
    let worst = |name: &str| Ok::<f64, String>(of_each(name)?.into_iter().fold(0.0, f64::max));
    let messages = sum("messages")?;
    if clients.len() != case.clients || messages == 0.0 {
        return Err("no message was answered in the measured time".to_owned());
    }
    if case.workload != Workload::Raw && number(server, "taken")? < messages {
        return Err(format!("{messages} messages were acknowledged, and fewer arrived: {server}"));
    }
    Ok(Sample {
        rate: sum("rate")?,
        p50_us: worst("p50_us")?,
        p99_us: worst("p99_us")?,
        max_us: worst("max_us")?,
        client_cpu_us: sum("cpu_secs")? / messages * 1e6,
        // Each client has read the processor time of the same server.
        server_cpu_us: worst("server_cpu_secs")? / messages * 1e6,
        background_cpu: if case.clients == 1 && case.attack == Attack::None {
            sum("background_cpu_secs")? / sum("secs")?
        } else {
            0.0
        },
        logins_rate: 0.0,
        turned_away_rate: 0.0,
        connections_rate: 0.0,
        client_peak: worst("rss_peak_bytes")?,
        server_peak: number(server, "rss_peak_bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::Inbox;
    use serde_json::json;

    fn client(rate: f64, p99_us: f64) -> Value {
        json!({
            "messages": rate, "rate": rate, "p50_us": 10.0, "p99_us": p99_us, "max_us": 30.0, "cpu_secs": 0.5,
            "server_cpu_secs": 1.0, "background_cpu_secs": 0.1, "secs": 1.0, "rss_peak_bytes": 100
        })
    }

    #[test]
    fn several_clients_are_added_up() {
        let case = Case::of_clients(Workload::Send, 2);
        let server = json!({"taken": 400, "rss_peak_bytes": 7});
        let sample = sample(&case, &[client(100.0, 20.0), client(300.0, 40.0)], &server).unwrap();
        assert_eq!((sample.rate, sample.p99_us, sample.server_peak), (400.0, 40.0, 7.0));
        assert_eq!((sample.client_cpu_us, sample.server_cpu_us), (2500.0, 2500.0));
    }

    #[test]
    fn what_brought_nothing_is_an_error() {
        let case = Case::send(Inbox::Memory, 64, 1);
        let server = json!({"taken": 100, "rss_peak_bytes": 7});
        assert!(sample(&case, &[client(0.0, 0.0)], &server).is_err());
        assert!(sample(&case, &[], &server).is_err());
        assert!(sample(&case, &[json!({})], &server).is_err());
        // Acknowledged, but not received.
        assert!(sample(&case, &[client(101.0, 1.0)], &server).is_err());
        assert!(sample(&case, &[client(100.0, 1.0)], &server).is_ok());
    }
}

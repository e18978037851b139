//! The measurements other than exchanges: whole commands, an idle server, sealing, remembered ids.
//!
//! The rounds come here once in each round. Figures have the names that `cases` gives them.

use std::fs;

use super::measurements::Measurements;
use super::test_bed::{CpuPin, TestBed};
use crate::bench::cases::{
    CHANNELS, COMMANDS, IDLE, Inbox, ONCE, Options, REMEMBERED, REMEMBERED_IDS, WAKE, Workload,
    sealing,
};
use crate::driver::{Captured, number, stop};

/// How often each command is run in a round.
const RUNS: u32 = 5;

/// How many channels are open at once.
const CHANNELS_OPEN: usize = 500;

/// Runs the measurements that the options select.
pub(crate) fn run(
    bed: &TestBed,
    options: &Options,
    round: u32,
    measured: &mut Measurements,
    say: &mut dyn FnMut(String),
) -> Result<(), String> {
    let mut turn = |name: &str| {
        let is_wanted = options.wants(name);
        if is_wanted {
            say(format!("round {round} of {}: {name}", options.rounds));
        }
        is_wanted
    };
    if turn("commands") {
        commands(bed, options, round, measured)?;
    }
    for (name, processor) in WAKE {
        // This case needs two pinned processes.
        if bed.is_pinned() && turn(name) {
            let round_trips = if options.quick { "10" } else { "10000" };
            let arguments = ["wake", "--echo-cpu", processor, "--round-trips", round_trips];
            for said in bed.measure(CpuPin::Client, &arguments)? {
                measured.note(name.to_owned(), number(&said, "wake_us")?);
            }
        }
    }
    if turn(IDLE) {
        measured.note(IDLE.to_owned(), idle(bed)?);
    }
    if turn(CHANNELS[0]) {
        let [server, client] = channels(bed, options)?;
        measured.note(CHANNELS[0].to_owned(), server);
        measured.note(CHANNELS[1].to_owned(), client);
    }
    if turn("sealing") {
        let secs = if options.quick { "0.005" } else { "0.3" };
        for said in bed.measure(CpuPin::Client, &["seal", "--secs", secs])? {
            let what = said["what"].as_str().unwrap_or_default();
            let bytes = said["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            measured.note(sealing(what, bytes.unwrap_or_default()), number(&said, "ns")?);
        }
    }
    // Ten million ids take long, and the result does not differ between rounds.
    if round == 1 && turn("remembered") {
        let ids = if options.quick { 10_000 } else { REMEMBERED_IDS };
        for (kind, names) in REMEMBERED {
            let arguments = ["dedup", "--ids", &ids.to_string(), "--kind", kind];
            for said in bed.measure(CpuPin::Client, &arguments)? {
                for (name, field) in
                    names.iter().zip(["bytes_per_id", "put_ns_first", "put_ns_last"])
                {
                    measured.note((*name).to_owned(), number(&said, field)?);
                }
            }
        }
    }
    Ok(())
}

/// Runs each command several times.
fn commands(
    bed: &TestBed,
    options: &Options,
    round: u32,
    measured: &mut Measurements,
) -> Result<(), String> {
    let server = bed.serve(Workload::Send, Inbox::Memory)?;
    let port = server.address.rsplit_once(':').map(|(_, port)| port).unwrap_or_default();
    let quantity = if options.quick { "10" } else { "1000" };
    // The first command may log in, and keeps the session for the others.
    let send = ["--send", "{\"a\":1}", "--port", port];
    bed.time(bed.program(CpuPin::None, "web-ipc", &send))?;
    for run in 0..if options.quick { 1 } else { RUNS } {
        let fresh = bed.folder().join(format!("fresh-{round}-{run}"));
        let fresh_text = fresh.display().to_string();
        let arguments: [&[&str]; 4] = [
            &send,
            &["--users", "--list"],
            &["--init", "--run", "--home", &fresh_text],
            &["--test", "--run", "--qty", quantity],
        ];
        for (name, arguments) in COMMANDS.iter().zip(arguments) {
            let took = bed.time(bed.program(CpuPin::None, "web-ipc", arguments))?;
            measured.note((*name).to_owned(), took.as_secs_f64() * 1000.0);
        }
        for (name, transport) in ONCE {
            let home = bed.home().display().to_string();
            let arguments = [
                "send-once",
                "--home",
                &home,
                "--address",
                &server.address,
                "--transport",
                transport,
            ];
            let took = bed.time(bed.program(CpuPin::None, "ipc-bench", &arguments))?;
            measured.note(name.to_owned(), took.as_secs_f64() * 1000.0);
        }
        fs::remove_dir_all(&fresh).map_err(|error| format!("{fresh_text}: {error}"))?;
    }
    server.stop().map(|_| ())
}

/// The resident memory, after its first message, of a server started as users do.
fn idle(bed: &TestBed) -> Result<f64, String> {
    // The server takes the first free port of a range, which its log names.
    let mut serving =
        Captured::start(bed.program(CpuPin::Server, "web-ipc", &["--serve", "--port", "0"]), "")?;
    let said = serving.wait_for_log("]: Listening on ")?;
    let port = said
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split(' ').next())
        .unwrap_or_default()
        .to_owned();
    let send = ["--send", "{\"a\":1}", "--port", &port];
    bed.time(bed.program(CpuPin::Client, "web-ipc", &send))?;
    let bytes = resident(serving.id())?;
    stop(serving)?;
    Ok(bytes)
}

/// The resident memory for each of many open and idle channels: of the server, and of the clients.
fn channels(bed: &TestBed, options: &Options) -> Result<[f64; 2], String> {
    let server = bed.serve(Workload::Send, Inbox::Memory)?;
    let home = bed.home().display().to_string();
    let hold = |channels: usize| {
        let channels = channels.to_string();
        let arguments = [
            "idle-channels",
            "--home",
            &home,
            "--address",
            &server.address,
            "--channels",
            &channels,
        ];
        let mut process =
            Captured::start(bed.program(CpuPin::Client, "ipc-bench", &arguments), "")?;
        let said = process.wait_for_line("holding ")?;
        let bytes =
            said.parse::<f64>().map_err(|_| format!("`{said}` is not a number of bytes"))?;
        Ok::<_, String>((process, bytes))
    };
    // All channels share memory that the first one allocates, so one channel is opened before the
    // measurement.
    let (first, _) = hold(1)?;
    let before = resident(server.id())?;
    let open = if options.quick { 10 } else { CHANNELS_OPEN };
    let (held, of_client) = hold(open - 1)?;
    let grown = resident(server.id())? - before;
    stop(held)?;
    stop(first)?;
    server.stop()?;
    Ok([grown / open as f64, of_client])
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kibibytes =
        resident_kibibytes(&status).ok_or_else(|| format!("{path} has an unexpected form"))?;
    Ok(kibibytes * 1024.0)
}

fn resident_kibibytes(status: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_kibibytes("VmHWM:\t 3 kB\nVmRSS:\t   2048 kB\n"), Some(2048.0));
        assert_eq!(resident_kibibytes("VmHWM:\t 3 kB\n"), None);
    }
}

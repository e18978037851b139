//! The programs that `cargo xtask bench` measures, one for each subcommand: both ends of web-ipc,
//! the bare ends that they are compared with, and measurements within one process.
//!
//! `xtask` runs them; run one alone to profile it. Results are JSON on stdout, one per line. What
//! is compared, how often and on which processor, `xtask` decides.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod body;
mod client;
mod dedup;
mod failure;
mod flood;
mod gauge;
mod histogram;
mod idle_channels;
mod options;
mod process_stats;
mod raw_client;
mod raw_server;
mod seal;
mod send_once;
mod sender;
mod server;
mod siege;
mod tls;
mod wake;

use std::process::ExitCode;

use failure::Failure;
use ipc_base::chain;
use options::Options;

const HELP: &str = "\
Programs that are measured; `cargo xtask bench` runs them

Usage: ipc-bench PROGRAM --OPTION VALUE ...

Programs:
  raw-server  reads and drops what is posted: --home DIR, --workers N (1)
  server      a web-ipc server that takes and acknowledges everything: --home DIR, --workers N (1),
              --inbox memory|durable|diskless (memory)
              Both print `listening on ADDRESS` and, on SIGTERM, a line of JSON.
  client      sends as fast as it gets answers, and prints a line of JSON: --home DIR, --address HOST:PORT,
              --workload raw|local|send|post|send_all|request (send), --bytes N (64), --in-flight N (1), --batch N (100), --secs S (1),
              --warm-up S (0.3), --connections N, --server-pid PID, --cold full|resumed
  flood       logs in with wrong passwords until it is told to stop: --home DIR, --address HOST:PORT,
              --identity NAME (localhost), --in-flight N (4)
  siege       holds silent and slow connections and logs in with wrong passwords, until it is told to stop:
              --home DIR, --address HOST:PORT, --identity NAME (localhost), --connections N (250), --logins N a second (50);
              prints `besieging` once all connections are open
  idle-channels  opens idle channels, each of a client of its own, and holds them until SIGTERM: --home DIR,
              --address HOST:PORT, --channels N (500); prints `holding` and the bytes that one takes here
  send-once   sends one message and ends: --home DIR, --address HOST:PORT, --transport any|post (any)
  seal        seals and opens, beside another Fernet and the bare primitives: --secs S (0.3)
  wake        passes a byte to and fro between two processes: --echo-cpu N, --round-trips N (10000)
  dedup       ids in the memory inbox: --ids N (10000000), --kind timed|random (timed)
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let program = words.next();
    let result = Options::parse(words).map_err(Failure::from).and_then(|options| {
        let done = match program.as_deref() {
            Some("raw-server") => raw_server::run(&options),
            Some("server") => server::run(&options),
            Some("client") => client::run(&options),
            Some("flood") => flood::run(&options),
            Some("siege") => siege::run(&options),
            Some("idle-channels") => idle_channels::run(&options),
            Some("send-once") => send_once::run(&options),
            Some("seal") => seal::run(&options),
            Some("dedup") => dedup::run(&options),
            Some("wake") => wake::run(&options),
            Some("echo") => wake::echo(&options),
            None | Some("help" | "-h" | "--help") => {
                print!("{HELP}");
                Ok(())
            }
            Some(other) => Err(format!("unknown program `{other}`").into()),
        };
        done.and_then(|()| options.refuse_unused().map_err(Failure::from))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc-bench: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

//! Measures the cost of waking a waiting process, on the same processor and on another one.
//!
//! Two processes pass one byte back and forth through pipes. No message with an answer can be
//! faster. `run` is one of them and starts the other, `echo`, on the given processor.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::failure::Failure;
use crate::options::Options;

/// How many round trips come before the measurement.
const WARM_UP: u32 = 500;

/// Prints the time from waking the other process until it runs, in microseconds: half of a round
/// trip.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let cpu: usize = options.required("echo-cpu")?;
    let round_trips: u32 = options.get("round-trips")?.unwrap_or(10_000).max(1);
    options.refuse_unused()?;
    let mut echo = Command::new("taskset")
        .args(["-c", &cpu.to_string()])
        .arg(std::env::current_exe()?)
        .arg("echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut to), Some(mut from)) = (echo.stdin.take(), echo.stdout.take()) else {
        return Err("the other process has no pipes".into());
    };
    let mut pass = |times: u32| {
        let begun = Instant::now();
        for _ in 0..times {
            to.write_all(b"x")?;
            from.read_exact(&mut [0])?;
        }
        Ok::<_, std::io::Error>(begun.elapsed())
    };
    pass(WARM_UP)?;
    let took = pass(round_trips)?;
    drop(to);
    let status = echo.wait()?;
    if !status.success() {
        return Err(format!("the other process failed: {status}").into());
    }
    println!("{}", json!({ "wake_us": took.as_secs_f64() * 1e6 / f64::from(round_trips) / 2.0 }));
    Ok(())
}

/// Returns each byte of stdin on stdout, until stdin ends.
pub(crate) fn echo(options: &Options) -> Result<(), Failure> {
    options.refuse_unused()?;
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut byte = [0];
    while stdin.read(&mut byte)? == 1 {
        stdout.write_all(&byte)?;
        stdout.flush()?;
    }
    Ok(())
}

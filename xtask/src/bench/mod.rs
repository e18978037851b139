//! `cargo xtask bench`: the speed of web-ipc compared with the bare HTTP and TLS libraries.
//!
//! Run it for figures; the end-to-end scenarios check that it runs. Everything is real: release
//! builds, separate processes, TLS, files. It drives the programs of `crates/ipc-bench` and the
//! command, and links neither. It has three layers, each of which knows the ones before it:
//! `cases`, `samples`, `rendering`.

mod cases;
mod rendering;
mod samples;

pub(crate) use cases::Options;

use crate::driver::{Built, build_bench};
use rendering::{BACKGROUND_CPU_MAX, Environment};
use samples::{Measurements, RaisedPriority, TestBed};

/// Builds, measures, prints the tables, and writes the page on request. Returns true if everything
/// could be measured.
pub(crate) fn run_alone(options: &Options) -> bool {
    let result = build_bench(!options.quick).and_then(|built| measure(&built, options));
    match result {
        Ok(()) => true,
        Err(error) => {
            eprintln!("bench: {error}");
            false
        }
    }
}

/// Runs each kind of case for a moment, with the build of a scenario. The error says what does not
/// run.
pub(crate) fn run_quickly(built: &Built) -> Result<(), String> {
    let options = Options::quick();
    let measured = samples::run(&TestBed::new(built)?, &options, &mut |_| ())?;
    shown(&measured, &options)
}

fn measure(built: &Built, options: &Options) -> Result<(), String> {
    let bed = TestBed::new(built)?;
    // The short form measures nothing, so it need not take priority over other processes.
    let priority = if options.quick { None } else { RaisedPriority::acquire() };
    let measured = samples::run(&bed, options, &mut |line| eprintln!("bench: {line}"))?;
    let environment = Environment {
        is_pinned: bed.is_pinned(),
        has_priority: priority.is_some(),
        background_cpu: measured.disturbance(),
        disturbed: measured.disturbed(BACKGROUND_CPU_MAX),
    };
    drop(priority);
    if measured.samples.is_empty() && measured.figures.is_empty() {
        return Err("no measurement has these names, sizes and numbers in flight".to_owned());
    }
    if options.quick {
        shown(&measured, options)?;
        println!("bench: everything runs; the short form shows no figures");
        return Ok(());
    }
    let tables = rendering::tables(&measured);
    for table in &tables {
        println!("\n{}\n", table.name);
        print!("{}", table.markdown());
    }
    println!("\n{}", environment.in_words().join("\n"));
    if options.write {
        rendering::write(options, &environment, &tables, &rendering::charts(&measured))?;
    }
    Ok(())
}

/// Checks that the measurements can be shown: a table and, for a full run, a chart.
fn shown(measured: &Measurements, options: &Options) -> Result<(), String> {
    let (tables, charts) = (rendering::tables(measured), rendering::charts(measured));
    if tables.is_empty() || (!options.is_a_part() && charts.is_empty()) {
        return Err("some measurements are missing from the tables or charts".to_owned());
    }
    Ok(())
}

//! `cargo xtask bench`: how fast it is, beside the same HTTP and TLS libraries doing nothing else.
//!
//! People come here for figures, the end-to-end scenarios to see that it runs. Everything is real: release builds, processes
//! of their own, TLS, files. It drives the programs of `crates/ipc-bench` and the command, and links neither.

mod cases;
mod charts;
mod options;
mod others;
mod page;
mod processes;
mod rounds;
mod statistics;
mod tables;

pub(crate) use options::Options;

use crate::e2e::{self, Built};
use processes::World;
use rounds::Measured;

/// Builds, measures, prints the tables, and writes the page if that was asked for; true when everything could be measured.
pub(crate) fn run_alone(options: &Options) -> bool {
    let result = e2e::build_bench(!options.quick).and_then(|built| measure(&built, options));
    match result {
        Ok(()) => true,
        Err(error) => {
            eprintln!("bench: {error}");
            false
        }
    }
}

/// Runs each kind of case for a moment with what a scenario has built. The error says what does not run.
pub(crate) fn run_quickly(built: &Built) -> Result<(), String> {
    let options = Options::quick();
    let measured = rounds::run(&World::new(built), &options, &mut |_| ())?;
    shown(&measured, &options)
}

fn measure(built: &Built, options: &Options) -> Result<(), String> {
    let world = World::new(built);
    if !world.is_pinned() {
        println!("bench: no taskset, or no second processor: everything runs where the system puts it");
    }
    let measured = rounds::run(&world, options, &mut |line| eprintln!("bench: {line}"))?;
    if measured.samples.is_empty() && measured.figures.is_empty() {
        return Err(format!("nothing has `{}` in its name", options.only.as_deref().unwrap_or_default()));
    }
    if options.quick {
        shown(&measured, options)?;
        println!("bench: everything runs; a debug build for a moment has no figures to show");
        return Ok(());
    }
    let tables = tables::all(&measured);
    for table in &tables {
        println!("\n{}\n", table.name);
        print!("{}", table.markdown());
    }
    println!("\nbench: meanwhile {}", page::disturbed(measured.disturbance()));
    if options.write {
        page::write(options, world.is_pinned(), measured.disturbance(), &tables, &charts::all(&measured))?;
    }
    Ok(())
}

/// That what was measured can be shown: a table and, of everything, a chart.
fn shown(measured: &Measured, options: &Options) -> Result<(), String> {
    let (tables, charts) = (tables::all(measured), charts::all(measured));
    if tables.is_empty() || (options.only.is_none() && charts.is_empty()) {
        return Err("what was measured is in no table, or in no chart".to_owned());
    }
    Ok(())
}

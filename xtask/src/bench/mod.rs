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

fn measure(built: &Built, options: &Options) -> Result<(), String> {
    let world = World::new(built);
    if !world.is_pinned() {
        println!("bench: no taskset, or no second processor: everything runs where the system puts it");
    }
    let measured = rounds::run(&world, options, &mut |line| eprintln!("bench: {line}"))?;
    if measured.samples.is_empty() && measured.figures.is_empty() {
        return Err(format!("nothing has `{}` in its name", options.only.as_deref().unwrap_or_default()));
    }
    let tables = tables::all(&measured);
    for table in &tables {
        println!("\n{}\n", table.name);
        print!("{}", table.markdown());
    }
    if options.write {
        page::write(options, world.is_pinned(), &tables, &charts::all(&measured))?;
    }
    Ok(())
}

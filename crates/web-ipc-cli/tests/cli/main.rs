//! Runs the cases in `tests/cases`: commands with their stdout, stderr and exit status, a file
//! each; and tests that cannot be written as a case.
//!
//! A new file is a new test. The format is told in `tests/cases/README.md`; `BLESS=1` rewrites what
//! failed.
#![allow(clippy::unwrap_used)]

mod activation;
mod backup;
mod case;
mod compare;
mod doctor;
mod exec;
mod force;
mod log;
mod looking;
mod mounts;
mod owners;
mod pipeline;
mod process;
mod reload;
mod renewal;
mod run;
mod scripts;
mod server;
mod stopping;
mod streams;
mod terminal;

use std::path::{Path, PathBuf};
use std::{env, fs};

use case::{Case, Step};
use run::World;

#[test]
fn every_case_does_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no cases", folder.display());

    let fresh = World::with_fresh_home();
    let bless = env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let text = fs::read_to_string(file).unwrap();
        let outcome = Case::parse(&text).and_then(|mut case| {
            let problems = play(&mut case, &fresh);
            if bless && !problems.is_empty() {
                fs::write(file, case.to_text()).unwrap();
            }
            if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
        });
        if let Err(problem) = outcome {
            failures.push(format!("==== {name}\n{problem}"));
        }
    }
    let all = files.len();
    assert!(
        failures.is_empty(),
        "{} of {all} cases failed\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs a case's steps in a new world. Returns the differences, and puts the real output into the
/// case.
fn play(case: &mut Case, fresh: &World) -> Vec<String> {
    let world = World::new(case.fresh_home.then_some(fresh));
    let mut problems = Vec::new();
    for step in &mut case.steps {
        match step {
            Step::Shell(command) => {
                if let Some(said) = world.shell(command).err() {
                    problems.push(format!("sh: {command}\n{said}"));
                }
            }
            Step::Command(command) => {
                let real = world.command(command);
                let same = compare::lines_match(&command.out, &real.out)
                    && compare::lines_match(&command.err, &real.err)
                    && command.status == real.status;
                let panicked = ["panicked at", "stack backtrace", "internal error"]
                    .iter()
                    .any(|sign| real.err.iter().chain(&real.out).any(|line| line.contains(sign)));
                if !same || panicked {
                    let expected = command.to_text();
                    *command = real;
                    problems.push(format!(
                        "---- expected\n{expected}---- happened\n{}",
                        command.to_text()
                    ));
                }
            }
            Step::Text(_) => {}
        }
    }
    problems
}

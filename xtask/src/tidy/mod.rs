//! `cargo xtask tidy`: checks rules of the whole workspace that no compiler checks.
//!
//! People, `cargo xtask test` and a unit test come here. Each check is a function over plain data
//! (a table, a graph, a text), so that a test can show that it fails. Only this file and `read` use
//! the disk and cargo.

mod circles;
mod command_names;
mod edges;
mod lexer;
mod links;
mod lock_file;
mod manifests;
mod module_tree;
mod protocol_page;
mod published;
mod read;
mod sources;
mod width;

use crate::cargo;
use crate::counts::Counts;

/// A check, by its name, with the problems that it found.
struct Check {
    name: &'static str,
    problems: Vec<String>,
}

/// Runs all checks, prints each, and prints the count. Returns true if no check found a problem.
pub(crate) fn run_alone() -> bool {
    let counts = run();
    println!("tidy: {counts}");
    counts.failed == 0
}

/// Runs all checks and prints each.
pub(crate) fn run() -> Counts {
    let mut counts = Counts::default();
    match checks() {
        Err(error) => {
            println!("tidy cannot read the workspace: {error}");
            counts += Counts::one(false);
        }
        Ok(checks) => {
            for Check { name, problems } in checks {
                println!("tidy: {name} ... {}", if problems.is_empty() { "ok" } else { "FAILED" });
                for problem in &problems {
                    println!("    {problem}");
                }
                counts += Counts::one(problems.is_empty());
            }
        }
    }
    counts
}

/// Writes the current hash of the protocol source into its page. Returns true on success.
pub(crate) fn bless() -> bool {
    match protocol_page::bless(&cargo::workspace_root()) {
        Ok(said) => {
            println!("{said}");
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

fn checks() -> Result<Vec<Check>, String> {
    let root = cargo::workspace_root();
    let metadata = cargo::metadata()?;
    let members = read::members(&metadata);
    let graph = read::graph(&metadata)?;
    let lock = read::text(&root.join("Cargo.lock"))?;
    let manifests = read::manifests(&metadata)?;
    let rust_files = read::rust_files(&root)?;
    let texts = rust_files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let pages = read::pages(&root)?;
    let targets = read::targets(&metadata);
    Ok(vec![
        Check {
            name: "dependencies point down",
            problems: edges::problems(edges::ALLOWED, &members),
        },
        Check {
            name: "a library builds nothing it does not need",
            problems: edges::tree_problems(&graph),
        },
        Check {
            name: "the command builds nothing of PostgreSQL unless asked to",
            problems: edges::optional_problems(&cargo::tree_of("web-ipc-cli")?),
        },
        Check {
            name: "files of a crate do not name each other in circles",
            problems: targets.iter().flat_map(|target| circles::problems(&texts, target)).collect(),
        },
        Check {
            name: "no library names a command of the CLI",
            problems: targets
                .iter()
                .flat_map(|target| command_names::problems(&texts, &target.root))
                .collect(),
        },
        Check { name: "one TLS and one crypto provider", problems: lock_file::problems(&lock) },
        Check {
            name: "manifests inherit lints and versions",
            problems: manifests.iter().flat_map(manifests::problems).collect(),
        },
        Check {
            name: "what is published has what a registry shows",
            problems: published::problems(&read::listings(&metadata)),
        },
        Check {
            name: "links of pages lead somewhere",
            problems: links::problems(&pages, |path| root.join(path).exists()),
        },
        Check {
            name: "files begin with their purpose",
            problems: rust_files.iter().filter_map(sources::missing_module_docs).collect(),
        },
        Check {
            name: "no file has unfinished code",
            problems: rust_files.iter().flat_map(sources::left_undone).collect(),
        },
        Check {
            name: "comments and pages are at most 100 columns wide",
            problems: rust_files.iter().chain(&pages).flat_map(width::problems).collect(),
        },
        Check {
            name: "docs/protocol.md matches the protocol source",
            problems: protocol_page::problems(&root)?,
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let found: Vec<String> =
            checks().unwrap().into_iter().flat_map(|check| check.problems).collect();
        assert!(found.is_empty(), "cargo xtask tidy found:\n{}", found.join("\n"));
    }
}

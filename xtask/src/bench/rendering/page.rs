//! `docs/performance.md`: inserts the measurements into the text.
//!
//! The task passes tables and charts. The page is written by hand except for blocks between `<!--
//! NAME -->` and `<!-- /NAME -->`. A missing block is an error, so that no figure is lost.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use super::environment::Environment;
use super::tables::Table;
use crate::bench::cases::Options;
use crate::cargo;

/// The page, relative to the workspace.
const PAGE: &str = "docs/performance.md";

/// The folder of the charts, relative to the workspace.
const CHARTS: &str = "docs/performance";

/// A chart: its file name and its content.
pub(crate) struct Chart {
    pub(crate) name: &'static str,
    pub(crate) svg: String,
}

/// Writes the tables, the charts and the environment of the run. If a block is missing, nothing is
/// written.
pub(crate) fn write(
    options: &Options,
    environment: &Environment,
    tables: &[Table],
    charts: &[Chart],
) -> Result<(), String> {
    let root = cargo::workspace_root();
    let path = root.join(PAGE);
    let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = fs::read_to_string(&path).map_err(|error| said(&path, error))?;
    text = replaced(&text, "measured on", &measured_on(options, environment))?;
    for table in tables {
        text = replaced(&text, table.name, &table.markdown())?;
    }
    let folder = root.join(CHARTS);
    fs::create_dir_all(&folder).map_err(|error| said(&folder, error))?;
    for chart in charts {
        let path = folder.join(chart.name);
        fs::write(&path, &chart.svg).map_err(|error| said(&path, error))?;
    }
    fs::write(&path, text).map_err(|error| said(&path, error))
}

/// The page with new content in the block of this name.
fn replaced(text: &str, name: &str, content: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || format!("{PAGE} has no block `{name}`");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", content.trim_end()))
}

/// The machine, the versions and the time of the run.
fn measured_on(options: &Options, environment: &Environment) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let command =
        format!("cargo xtask bench --write --rounds {} --secs {}", options.rounds, options.secs);
    let mut lines = vec![
        format!("Machine: {}, {cores} cores, {} of memory", model(&cpu), total(&memory)),
        format!("System: {}", output("uname", &["-srm"])),
        format!("Compiler: {}", output("rustc", &["--version"])),
        format!("Command: `{command}`"),
        format!(
            "Commit: {}",
            commit(&output("git", &["rev-parse", "--short=12", "HEAD"]), &changes())
        ),
        format!("Date: {}", output("date", &["-u", "+%Y-%m-%d"])),
    ];
    lines.extend(environment.in_words());
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

fn model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':')).map_or("unknown processor", |(_, name)| name.trim())
}

fn total(meminfo: &str) -> String {
    let kibibytes =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    match kibibytes.trim().strip_suffix("kB").and_then(|number| number.trim().parse::<f64>().ok()) {
        Some(kibibytes) => format!("{:.0} GiB", kibibytes / 1024.0 / 1024.0),
        None => "an unknown amount".to_owned(),
    }
}

/// The difference from the commit, without the page and its charts, which a run changes.
fn changes() -> String {
    let besides = [format!(":!{PAGE}"), format!(":!{CHARTS}")];
    output("git", &["status", "--porcelain", "--", ".", &besides[0], &besides[1]])
}

fn commit(hash: &str, changes: &str) -> String {
    if changes.is_empty() { hash.to_owned() } else { format!("{hash} + uncommitted changes") }
}

/// The output of a command, run at the top of the workspace.
fn output(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).current_dir(cargo::workspace_root()).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_and_the_text_around_it_kept() {
        let page = "# Title\n\nText.\n\n<!-- a b -->\nold\n<!-- /a b -->\n\nMore.\n";
        let once = replaced(page, "a b", "| new |\n").unwrap();
        assert_eq!(once, "# Title\n\nText.\n\n<!-- a b -->\n\n| new |\n\n<!-- /a b -->\n\nMore.\n");
        assert_eq!(replaced(&once, "a b", "| new |").unwrap(), once);
    }

    #[test]
    fn a_block_that_is_not_there_is_an_error() {
        assert!(replaced("text", "a", "b").is_err());
        assert!(replaced("<!-- a -->\n", "a", "b").is_err());
    }

    #[test]
    fn changes_that_are_not_committed_are_told() {
        assert_eq!(commit("abc", ""), "abc");
        assert_eq!(commit("abc", " M x.rs"), "abc + uncommitted changes");
    }

    #[test]
    fn the_machine_is_read() {
        assert_eq!(model("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(model(""), "unknown processor");
        assert_eq!(total("MemTotal:       25165824 kB\n"), "24 GiB");
    }

    #[test]
    fn the_page_has_a_block_for_each_table() {
        let page = fs::read_to_string(cargo::workspace_root().join(PAGE)).unwrap();
        for name in crate::bench::rendering::tables::NAMES.iter().chain(&["measured on"]) {
            assert!(replaced(&page, name, "").is_ok(), "{name}");
        }
    }
}

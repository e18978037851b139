//! `cargo xtask fuzz`: runs each fuzz target under libFuzzer for some time.
//!
//! People come here. Each file of `crates/ipc-fuzz/src/bin` is a target, so a new one needs no
//! change here. `cargo test -p ipc-fuzz` runs the same properties without a fuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cargo;

/// The package of the targets, below the workspace.
const PACKAGE: &str = "crates/ipc-fuzz";

/// The options of the task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long each target runs.
    secs: u32,
    /// The only target to run, or `None` for all.
    target: Option<String>,
}

impl Options {
    /// Reads the words after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Options { secs: 60, target: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !["--secs", "--target"].contains(word) {
                return Err(format!("unknown option `{word}`"));
            }
            let value = *words.next().ok_or_else(|| format!("{word} needs a value"))?;
            if *word == "--target" {
                options.target = Some(value.to_owned());
            } else {
                // libFuzzer takes 0 as no limit.
                let secs = value.parse().ok().filter(|secs| *secs > 0);
                options.secs = secs.ok_or_else(|| format!("{word} cannot be `{value}`"))?;
            }
        }
        Ok(options)
    }
}

/// Runs the targets one after the other. Returns true if none failed. Without cargo-fuzz it prints
/// how to install it, and fails.
pub(crate) fn run(options: &Options) -> bool {
    let package = cargo::workspace_root().join(PACKAGE);
    let targets = match chosen(&package, options.target.as_deref()) {
        Ok(targets) => targets,
        Err(error) => {
            eprintln!("fuzz: {error}");
            return false;
        }
    };
    let mut version = cargo::command(&["fuzz", "--version"]);
    let version = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        println!("fuzz: cargo-fuzz is not installed: cargo install --locked cargo-fuzz");
        return false;
    }
    let mut failed = Vec::new();
    for target in &targets {
        println!("==> fuzz {target} for {} s", options.secs);
        if let Err(error) = run_target(&package, target, options.secs) {
            println!("fuzz: {target}: {error}");
            failed.push(target.as_str());
        }
    }
    println!("\nfuzz: {} targets, {} failed {}", targets.len(), failed.len(), failed.join(" "));
    failed.is_empty()
}

/// The names of the targets, sorted, or only the one that the user named.
fn chosen(package: &Path, target: Option<&str>) -> Result<Vec<String>, String> {
    let folder = package.join("src/bin");
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    match target {
        None => Ok(targets),
        Some(one) if targets.iter().any(|target| target == one) => Ok(vec![one.to_owned()]),
        Some(one) => Err(format!("unknown target `{one}`; the targets are {}", targets.join(", "))),
    }
}

/// Runs one target on its corpus and on the seeds in the repository.
fn run_target(package: &Path, target: &str, secs: u32) -> Result<(), String> {
    let built = cargo::workspace_root().join("target/fuzz");
    let corpus = built.join("corpus").join(target);
    fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut command = cargo::command(&["fuzz", "run"]);
    command
        .arg("--fuzz-dir")
        .arg(package)
        .arg("--target-dir")
        .arg(&built)
        .arg(target)
        .arg(&corpus)
        .arg(package.join("seeds").join(target))
        .arg("--")
        .arg(format!("-max_total_time={secs}"))
        .arg(format!("-dict={}", text(package.join("dictionaries").join(target))))
        // Sanitizers need unstable features. This enables them in the stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        // The release profile's link-time optimisation takes minutes for each target.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| "the target failed; its output names the input".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let parsed = Options::parse(&["--secs", "5", "--target", "frame"]).unwrap();
        assert_eq!(parsed, Options { secs: 5, target: Some("frame".into()) });
        assert_eq!(Options::parse(&[]).unwrap(), Options { secs: 60, target: None });
        for wrong in
            [&["--secs"][..], &["--secs", "0"], &["--secs", "x"], &["--target"], &["--x", "1"]]
        {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_target_has_seeds_and_a_dictionary() {
        let package = cargo::workspace_root().join(PACKAGE);
        let targets = chosen(&package, None).unwrap();
        assert!(targets.len() >= 11, "{targets:?}");
        for target in targets {
            assert!(fs::read_dir(package.join("seeds").join(&target)).unwrap().count() > 0);
            assert!(package.join("dictionaries").join(&target).is_file(), "{target}");
        }
        assert_eq!(chosen(&package, Some("frame")).unwrap(), ["frame"]);
        assert!(
            chosen(&package, Some("nothing")).unwrap_err().contains("base64, bundle, client_frame")
        );
    }
}

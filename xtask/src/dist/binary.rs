//! Builds the command for a target, strips it, and says which libraries it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::{FEATURES, Options};
use super::tool;
use crate::cargo;

/// A target with the reason for it, for people.
pub(super) struct Choice {
    pub(super) triple: String,
    pub(super) reason: String,
}

/// The target to build for: the given one, else a static binary where its target and its C compiler
/// are installed, else the host.
pub(super) fn target(options: &Options) -> Result<Choice, String> {
    if let Some(triple) = &options.target {
        return Ok(Choice { triple: triple.clone(), reason: "as asked".into() });
    }
    let host = cargo::host()?;
    if options.is_debug {
        let reason = "a debug build with the C library of this host".into();
        return Ok(Choice { triple: host, reason });
    }
    let Some(musl) = host.strip_suffix("-gnu").map(|start| format!("{start}-musl")) else {
        return Ok(Choice { triple: host, reason: "a build".into() });
    };
    Ok(match lacks(&musl) {
        None => Choice { triple: musl, reason: "a static binary".into() },
        Some(lacks) => Choice {
            triple: host,
            reason: format!("no static binary, since {lacks}; one with the C library of this host"),
        },
    })
}

/// Why no static binary can be built here.
fn lacks(musl: &str) -> Option<String> {
    let mut rustc = Command::new("rustc");
    let folder = tool::output(rustc.args(["--print", "target-libdir", "--target", musl]));
    if !folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Some(format!("rustc lacks the target: rustup target add {musl}"));
    }
    let compiler = tool::output(Command::new("musl-gcc").arg("--version"));
    compiler.err().map(|error| format!("{error} (Debian: musl-tools)"))
}

/// Builds the command, and returns its path.
pub(super) fn build(triple: &str, is_debug: bool) -> Result<PathBuf, String> {
    let package = ["build", "--locked", "--package", "web-ipc-cli", "--features", FEATURES];
    // A debug build for the host shares the folder with all the others, and most of its crates.
    let (arguments, folder) = match is_debug && triple == cargo::host()? {
        true => (package.to_vec(), PathBuf::from("debug")),
        false => {
            let (profile, name) = if is_debug { ("dev", "debug") } else { ("dist", "dist") };
            let target = ["--profile", profile, "--target", triple];
            ([&package[..], &target].concat(), Path::new(triple).join(name))
        }
    };
    let mut command = cargo::command(&arguments);
    if !is_debug {
        command.env("RUSTFLAGS", flags()?);
    }
    let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("cargo {} failed", arguments.join(" ")));
    }
    let target = cargo::metadata()?.target_directory;
    Ok(PathBuf::from(target).join(folder).join("web-ipc"))
}

/// The flags of the caller, and those that keep the paths of this machine out of the binary.
fn flags() -> Result<String, String> {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let home = home.map_err(|_| "neither CARGO_HOME nor HOME is set")?;
    let root = cargo::workspace_root();
    let remaps = format!(
        "--remap-path-prefix={home}=/cargo --remap-path-prefix={}=/web-ipc",
        root.display()
    );
    Ok(format!("{given} {remaps}").trim().to_owned())
}

/// A copy of the binary without symbols, in `folder`.
pub(super) fn stripped(binary: &Path, folder: &Path) -> Result<PathBuf, String> {
    let to = folder.join("web-ipc.stripped");
    tool::output(Command::new("strip").arg("-o").arg(&to).arg(binary))?;
    Ok(to)
}

/// The Debian packages with the libraries that a binary needs, as in `Depends`: none for a static
/// one.
pub(super) fn libraries(binary: &Path) -> Result<Vec<String>, String> {
    let mut readelf = Command::new("readelf");
    let told = tool::output(readelf.args(["--dynamic", "--version-info", "--wide"]).arg(binary))?;
    depends(&told)
}

/// The same of what readelf says.
fn depends(told: &str) -> Result<Vec<String>, String> {
    let mut depends = Vec::new();
    for line in told.lines().filter(|line| line.contains("(NEEDED)")) {
        let name = line.split(['[', ']']).nth(1).unwrap_or_default();
        match name {
            // Parts of one package.
            "libc.so.6" | "libm.so.6" | "libpthread.so.0" | "libdl.so.2" | "librt.so.1" => {}
            _ if name.starts_with("ld-linux") => {}
            "libgcc_s.so.1" => depends.push("libgcc-s1".to_owned()),
            other => return Err(format!("the binary needs {other}, whose package is not known")),
        }
    }
    let versions = told.split("Name: GLIBC_").skip(1).filter_map(|rest| {
        let version = rest.split_whitespace().next()?;
        let numbers = version.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>();
        numbers.ok().map(|numbers| (numbers, version))
    });
    if let Some((_, version)) = versions.max() {
        depends.insert(0, format!("libc6 (>= {version})"));
    }
    Ok(depends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_depends_on_the_packages_of_its_libraries() {
        let told = "
 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]
  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 25
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 22
  0x0030:   Name: GCC_3.0  Flags: none  Version: 10
";
        assert_eq!(depends(told).unwrap(), ["libc6 (>= 2.34)", "libgcc-s1"]);
    }

    #[test]
    fn a_static_binary_depends_on_nothing() {
        assert!(depends("There is no dynamic section in this file.\n").unwrap().is_empty());
    }

    #[test]
    fn a_library_of_an_unknown_package_is_told() {
        let told = " 0x01 (NEEDED)  Shared library: [libssl.so.3]\n";
        assert!(depends(told).unwrap_err().contains("libssl.so.3"));
    }
}

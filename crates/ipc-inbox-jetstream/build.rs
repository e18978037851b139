//! Notes whether nats-server is installed: without it the tests that need it are ignored, and
//! counted so.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(no_nats_server)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PATH");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    let found =
        directories.map(|directory| directory.join("nats-server")).find(|file| file.is_file());
    match found {
        Some(file) => println!("cargo::rerun-if-changed={}", file.display()),
        None => println!("cargo::rustc-cfg=no_nats_server"),
    }
}

//! The `web-ipc` command.
fn main() {}

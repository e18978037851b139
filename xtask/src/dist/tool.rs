//! Runs the tools that packages are made with.
//!
//! Every file of `dist` that needs one comes here. A tool's output is shown only if it fails.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command and returns its stdout.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    match found(command)? {
        Some(output) => Ok(output),
        None => Err(format!("{} is not installed", command.get_program().display())),
    }
}

/// The same, with `None` for a program that is not installed.
pub(super) fn found(command: &mut Command) -> Result<Option<String>, String> {
    let name = command.get_program().display().to_string();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{name} does not start: {error}")),
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} failed ({}): {}", output.status, told.trim()));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Writes a file, with its path in the error.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    std::fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads a text file, with its path in the error.
pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_missing_differs_from_one_that_fails() {
        assert_eq!(found(&mut Command::new("/nowhere/x")), Ok(None));
        assert!(output(&mut Command::new("/nowhere/x")).unwrap_err().contains("not installed"));
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.contains("why"), "{error}");
        assert_eq!(output(Command::new("echo").arg("x")), Ok("x\n".to_owned()));
    }
}

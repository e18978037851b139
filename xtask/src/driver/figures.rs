//! The figures that a program prints, as JSON values, one on each line.
//!
//! `bench` and `scaling` measure with programs that report so.

use std::time::Duration;

use serde_json::Value;

use super::captured::{Captured, PATIENCE};

/// Asks a program to stop, with SIGTERM, and returns the JSON values that it printed.
pub(crate) fn stop(process: Captured) -> Result<Vec<Value>, String> {
    process.terminate()?;
    finish(process, PATIENCE)
}

/// Waits for the end of a program, and returns the JSON values that it printed, one on each line. A
/// failure, or an end after the deadline, is an error.
pub(crate) fn finish(process: Captured, patience: Duration) -> Result<Vec<Value>, String> {
    let finished = process.finish_within(patience)?;
    if !finished.status.success() {
        return Err(finished.report());
    }
    let lines = finished.stdout.lines().filter(|line| line.starts_with('{'));
    lines
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no JSON: {error}\n{}", finished.report()))
}

/// A number that a program printed.
pub(crate) fn number(said: &Value, name: &str) -> Result<f64, String> {
    said[name].as_f64().ok_or_else(|| format!("there is no number `{name}` in {said}"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Captured {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Captured::start(command, "").unwrap()
    }

    #[test]
    fn the_json_among_what_was_printed_is_read() {
        let process = shell(r#"echo listening on 5; echo '{"a":1}'; echo text; echo '{"a":2}'"#);
        let values = finish(process, PATIENCE).unwrap();
        assert_eq!(
            values.iter().map(|value| value["a"].as_u64()).collect::<Vec<_>>(),
            [Some(1), Some(2)]
        );
    }

    #[test]
    fn a_program_that_fails_or_prints_half_a_value_says_why() {
        let error = finish(shell("echo reason >&2; exit 3"), PATIENCE).unwrap_err();
        assert!(error.contains("reason") && error.contains('3'), "{error}");
        let error = finish(shell("echo '{\"a\":'"), PATIENCE).unwrap_err();
        assert!(error.starts_with("no JSON"), "{error}");
    }

    #[test]
    fn a_program_stops_in_good_order() {
        let mut process = shell(
            r#"trap 'echo "{\"a\":7}"; exit 0' TERM; echo ready; while :; do sleep 0.01; done"#,
        );
        process.wait_for_line("ready").unwrap();
        assert_eq!(stop(process).unwrap()[0]["a"], 7);
    }
}

//! The log: one line each on stderr, `[2025-03-19 19:38:50,608][INFO][module,line]: text`, in UTC.
//!
//! `main` comes here once. What is logged is decided elsewhere; what of it is shown is decided here.

use std::io::Write as _;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Record};
use time::OffsetDateTime;

use crate::args::LogLevel;
use crate::error;
use crate::out::printable;

/// The crates of this workspace; for all others only warnings are shown unless more is asked for.
const OWN_CRATES: [&str; 2] = ["ipc_", "web_ipc"];

/// Starts the log. `$RUST_LOG` wins over `level`; the line that ends a command is always shown.
pub(crate) fn start(level: LogLevel) {
    let mut builder = Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.is_empty() => {
            builder.parse_filters(&filters);
        }
        _ => {
            let (own, others) = filters(level);
            builder.filter_level(others);
            for own_crate in OWN_CRATES {
                builder.filter_module(own_crate, own);
            }
        }
    }
    // Why a command failed is shown whatever the filters: it must never end with 1 in silence.
    builder.filter_module(error::TARGET, LevelFilter::Error);
    builder
        .target(Target::Stderr)
        .format(|out, record| writeln!(out, "{}", line(record, OffsetDateTime::now_utc())))
        .init();
}

fn filters(level: LogLevel) -> (LevelFilter, LevelFilter) {
    match level {
        LogLevel::Debug => (LevelFilter::Debug, LevelFilter::Warn),
        LogLevel::Info => (LevelFilter::Info, LevelFilter::Warn),
        LogLevel::Warning => (LevelFilter::Warn, LevelFilter::Warn),
        LogLevel::Error => (LevelFilter::Error, LevelFilter::Error),
        LogLevel::Critical => (LevelFilter::Off, LevelFilter::Off),
    }
}

fn line(record: &Record<'_>, now: OffsetDateTime) -> String {
    let level = match record.level() {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    };
    let path = record.module_path().unwrap_or(record.target());
    let module = path.rsplit("::").next().unwrap_or(path);
    format!(
        "[{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03}][{level}][{module},{}]: {}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond(),
        record.line().unwrap_or(0),
        // One record is one line, whatever is in it: what a peer sends must not look like a line of ours.
        printable(&record.args().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(level: Level, module: Option<&str>, text: &str) -> String {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_742_413_130_608_999_999).unwrap();
        line(
            &Record::builder()
                .level(level)
                .target("the_target")
                .module_path(module)
                .line(Some(12))
                .args(format_args!("{text}"))
                .build(),
            now,
        )
    }

    #[test]
    fn a_line_has_time_level_module_and_line_number() {
        assert_eq!(
            shown(Level::Info, Some("ipc_server::server"), "Starting"),
            "[2025-03-19 19:38:50,608][INFO][server,12]: Starting"
        );
    }

    #[test]
    fn a_warning_is_called_warning_and_a_missing_module_is_the_target() {
        assert_eq!(shown(Level::Warn, None, "x"), "[2025-03-19 19:38:50,608][WARNING][the_target,12]: x");
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let shown = shown(Level::Error, Some("a"), "one\n[fake]\r\u{1b}[31m é");
        assert!(shown.ends_with("]: one\\n[fake]\\r\\u{1b}[31m é"), "{shown}");
    }

    #[test]
    fn the_lowest_level_shows_nothing_of_ours() {
        assert_eq!(filters(LogLevel::Critical), (LevelFilter::Off, LevelFilter::Off));
        assert_eq!(filters(LogLevel::Info), (LevelFilter::Info, LevelFilter::Warn));
    }
}

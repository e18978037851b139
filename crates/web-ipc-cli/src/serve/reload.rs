//! Reads the configuration again while a server runs, and says what of it needs a restart.
//!
//! `ending.rs` comes here for SIGHUP. The command line counts as at the start. A configuration with
//! a fault changes nothing.

use std::path::{Path, PathBuf};

use crate::args::{self, Action, Invocation, LogLevel, Serve, Settings, Surroundings, UsageError};
use crate::log::{LastLine, Shape};

/// Options that take effect at once.
const LIVE: [&str; 6] = ["logLevel", "logFormat", "quiet", "drain", "exec", "jobs"];

/// What a server runs with.
pub(super) struct Running {
    settings: Settings,
    home: Option<PathBuf>,
}

/// What a new configuration says.
#[derive(Debug)]
pub(super) struct Reloaded {
    pub(super) serve: Serve,
    pub(super) log: Shape,
    /// Options with another value that took effect, and those that wait for a restart.
    pub(super) live: Vec<String>,
    pub(super) waiting: Vec<String>,
}

impl Running {
    pub(super) fn new(settings: Settings, home: Option<&Path>) -> Self {
        Running { settings, home: home.map(Path::to_owned) }
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// A fault of it.
    pub(super) fn reload(&mut self) -> Result<Reloaded, UsageError> {
        args::parse(std::env::args_os(), &Surroundings::of_process()).map(|new| self.compare(new))
    }

    /// What is new. What takes effect at once is what the server runs with from now on.
    fn compare(&mut self, new: Invocation) -> Reloaded {
        let Action::Serve(serve) = new.action else {
            unreachable!("the same arguments pick the same command");
        };
        let mut changed = self.settings.changed(&new.settings);
        if new.home != self.home {
            changed.push("home".to_owned());
        }
        // A command instead of lines, or the other way round, is another kind of server.
        let has_command = |settings: &Settings| settings.has("exec");
        let is_same_kind = has_command(&self.settings) == has_command(&new.settings);
        // What stands in another home is none of this one's.
        let is_same_home = new.home == self.home;
        let (live, waiting): (Vec<_>, Vec<_>) = changed.into_iter().partition(|name| {
            is_same_home
                && LIVE.contains(&name.as_str())
                && (is_same_kind || !["exec", "jobs"].contains(&&**name))
        });
        for name in &live {
            self.settings.take(name, &new.settings);
        }
        let level = serve.log_level.or(new.quiet.then_some(LogLevel::Warning));
        let log = Shape { level, format: new.log_format, last: LastLine::InTheLog };
        Reloaded { serve, log, live, waiting }
    }
}

impl Reloaded {
    /// Whether an option of this name took effect.
    pub(super) fn has(&self, name: &str) -> bool {
        self.live.iter().any(|one| one == name)
    }

    /// What is logged of it.
    pub(super) fn told(&self) -> String {
        let mut told = match self.live.is_empty() {
            true => "the configuration was reloaded".to_owned(),
            false => format!("the configuration was reloaded: {}", self.live.join(", ")),
        };
        match self.waiting.is_empty() {
            true if self.live.is_empty() => told.push_str("; nothing has changed"),
            true => {}
            false => told.push_str(&format!("; needs a restart: {}", self.waiting.join(", "))),
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn invocation(line: &str) -> Invocation {
        let words = line.split_whitespace().map(OsString::from);
        args::parse(words, &Surroundings::without_files()).unwrap()
    }

    fn running(line: &str) -> Running {
        Running::new(invocation(line).settings, None)
    }

    fn told(before: &str, after: &str) -> String {
        running(before).compare(invocation(after)).told()
    }

    #[test]
    fn nothing_of_another_home_takes_effect() {
        let mut running = running("web-ipc --serve --exec a");
        let mut new = invocation("web-ipc --serve --exec b --logLevel error");
        new.home = Some(PathBuf::from("/another"));
        let told = running.compare(new).told();
        assert!(told.contains("reloaded; needs a restart: "), "{told}");
        assert!(["exec", "logLevel", "home"].iter().all(|name| told.contains(name)), "{told}");
    }

    #[test]
    fn what_takes_effect_and_what_needs_a_restart_is_told_by_option() {
        let serve = "web-ipc --serve";
        for (before, after, expected) in [
            (serve, serve, "; nothing has changed"),
            ("web-ipc --serve --port 3000", serve, "; nothing has changed"),
            (serve, "web-ipc --serve --logLevel error --drain 5", ": drain, logLevel"),
            (serve, "web-ipc --serve --port 1 --inbox durable", "; needs a restart: inbox, port"),
            (
                "web-ipc --serve --exec a",
                "web-ipc --serve --exec b --jobs 3 --stopWithin 5",
                ": exec, jobs; needs a restart: stopWithin",
            ),
            (serve, "web-ipc --serve --exec b --jobs 3", "; needs a restart: exec, jobs"),
            (serve, "web-ipc --home /x --serve", "; needs a restart: home"),
        ] {
            assert_eq!(told(before, after), format!("the configuration was reloaded{expected}"));
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_told_each_time_and_what_took_effect_once() {
        let mut running = running("web-ipc --serve");
        let new = || invocation("web-ipc --serve --logFormat json --port 1");
        let first = running.compare(new());
        assert_eq!(
            (first.live, first.waiting),
            (vec!["logFormat".to_owned()], vec!["port".to_owned()])
        );
        let second = running.compare(new());
        assert_eq!((second.live.len(), second.waiting), (0, vec!["port".to_owned()]));
    }
}

//! What other processes did during the measurement, and how far they were kept away.
//!
//! The task prints it, and the page contains it: figures from a busy machine must be recognisable.

use crate::statistics::Spread;

/// The limit above which other processes are too busy, in parts of a core.
pub(crate) const BACKGROUND_CPU_MAX: f64 = 0.1;

/// The conditions of the run.
pub(crate) struct Environment {
    /// Servers and clients each had a core of their own.
    pub(crate) is_pinned: bool,
    /// They had priority over other processes.
    pub(crate) has_priority: bool,
    /// How much of a core other processes used in each run, if known.
    pub(crate) background_cpu: Option<Spread>,
    /// The cases in most of whose runs other processes were too busy.
    pub(crate) disturbed: Vec<String>,
}

impl Environment {
    /// One sentence for each condition, with important ones in bold.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let pinned = if self.is_pinned {
            "Servers on core 0, clients on core 1"
        } else {
            "**Not pinned to cores: servers and clients take each other's time**"
        };
        let first = if self.has_priority {
            "before other processes (nice -20)"
        } else {
            "at the usual priority"
        };
        let mut sentences = vec![format!("{pinned}, {first}")];
        if let Some(Spread { median, max, .. }) = self.background_cpu {
            let percent = |share: f64| format!("{:.0} %", share * 100.0);
            sentences.push(format!(
                "Other processes used {} of a core meanwhile (median of all runs; {} at most)",
                percent(median),
                percent(max)
            ));
        }
        if !self.disturbed.is_empty() {
            sentences.push(format!(
                "**Others were busy during most runs of these cases, so their rates are less reliable than their CPU ratios:** {}",
                self.disturbed.join("; ")
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(is_pinned: bool, has_priority: bool, median: f64) -> String {
        let background_cpu = Some(Spread { median, min: 0.0, max: 0.5 });
        let disturbed =
            if median > BACKGROUND_CPU_MAX { vec!["a".into(), "b".into()] } else { Vec::new() };
        Environment { is_pinned, has_priority, background_cpu, disturbed }.in_words().join(". ")
    }

    #[test]
    fn a_quiet_machine_has_no_warning() {
        assert_eq!(
            said(true, true, 0.012),
            "Servers on core 0, clients on core 1, before other processes (nice -20). \
             Other processes used 1 % of a core meanwhile (median of all runs; 50 % at most)"
        );
    }

    #[test]
    fn whatever_makes_figures_doubtful_is_told_in_bold() {
        assert!(said(false, false, 0.0).starts_with("**Not pinned"));
        assert!(
            said(true, true, 0.3).contains("**Others were busy")
                && said(true, true, 0.3).ends_with("a; b")
        );
    }
}

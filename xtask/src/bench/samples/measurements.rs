//! The measured figures, one per round.
//!
//! The rounds add them; tables and charts read them. Nothing is run here.

use std::collections::BTreeMap;

use crate::bench::cases::Case;
use crate::statistics::Spread;

/// The result of one run of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Messages a second.
    pub(crate) rate: f64,
    /// Latencies, in microseconds; of a batch for `send_all`. Of several clients, the worst.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Processor time for a message, in microseconds.
    pub(crate) client_cpu_us: f64,
    pub(crate) server_cpu_us: f64,
    /// How much of a processor's time other processes used meanwhile; 0 for several clients, which
    /// would count each other.
    pub(crate) background_cpu: f64,
    /// Refused logins of the flood per second, whose passwords were compared.
    pub(crate) logins_rate: f64,
    /// Logins of a siege per second that were refused without a look at the password.
    pub(crate) turned_away_rate: f64,
    /// Connections that a siege made per second, after the first of each.
    pub(crate) connections_rate: f64,
    /// The peak resident memory, in bytes. Of several clients, the largest.
    pub(crate) client_peak: f64,
    pub(crate) server_peak: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    /// Exchanges between processes, one sample per round.
    pub(crate) samples: BTreeMap<Case, Vec<Sample>>,
    /// Other measurements by name, one figure each time.
    pub(crate) figures: BTreeMap<String, Vec<f64>>,
}

impl Measurements {
    /// One figure of each sample of a case.
    pub(crate) fn each(&self, case: &Case, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples
            .get(case)
            .map(|samples| samples.iter().map(figure).collect())
            .unwrap_or_default()
    }

    /// How much of a processor's time other processes used meanwhile, of all samples.
    pub(crate) fn disturbance(&self) -> Option<Spread> {
        Spread::of(self.samples.values().flatten().map(|sample| sample.background_cpu))
    }

    /// The cases in most of whose runs other processes used more than this part of a core.
    pub(crate) fn disturbed(&self, background_cpu_max: f64) -> Vec<String> {
        let others = |case: &Case| Spread::of(self.each(case, |sample| sample.background_cpu));
        let is_disturbed =
            |case: &&Case| others(case).is_some_and(|others| others.median > background_cpu_max);
        self.samples.keys().filter(is_disturbed).map(Case::to_string).collect()
    }

    /// Adds a figure.
    pub(crate) fn note(&mut self, name: String, figure: f64) {
        self.figures.entry(name).or_default().push(figure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_disturbed_when_most_of_its_runs_are() {
        let mut measured = Measurements::default();
        let runs = |figures: [f64; 3]| {
            figures.map(|background_cpu| Sample { background_cpu, ..Sample::default() }).to_vec()
        };
        measured.samples.insert(Case::raw(64, 1), runs([0.9, 0.0, 0.0]));
        measured.samples.insert(Case::raw(64, 16), runs([0.9, 0.0, 0.2]));
        assert_eq!(measured.disturbed(0.1), ["raw, 64 B, 16 in flight"]);
    }
}

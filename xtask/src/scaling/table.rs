//! The table of `docs/scaling.md`.

use super::rounds::{Case, Sample, Samples};
use crate::statistics::Spread;

/// The samples in Markdown, a row for each case.
pub(super) fn markdown(samples: &Samples) -> String {
    let mut text = String::from(
        "| load | NATS servers | web-ipc servers | messages /s | web-ipc µs | compared with one | min–max | \
         nats-server µs | PostgreSQL µs |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for (case, of_case) in samples {
        let of_one = samples.get(&Case { servers: 1, ..*case }).map_or(&[][..], Vec::as_slice);
        let each = |of: &[Sample], figure: fn(&Sample) -> f64| -> Vec<f64> {
            of.iter().map(figure).collect()
        };
        let middle = |figure| Spread::of(each(of_case, figure)).map_or(f64::NAN, |of| of.median);
        let servers_us = |sample: &Sample| sample.servers_us;
        let compared = Spread::of_ratios(&each(of_case, servers_us), &each(of_one, servers_us));
        let (compared, range) = compared.map_or_else(Default::default, |of| {
            (format!("{:.2}", of.median), format!("{:.2}–{:.2}", of.min, of.max))
        });
        text += &format!(
            "| {} | {} | {} | {:.0} | {:.1} | {compared} | {range} | {:.1} | {:.2} |\n",
            case.load,
            case.nats_servers,
            case.servers,
            middle(|sample| sample.rate),
            middle(servers_us),
            middle(|sample| sample.nats_us),
            middle(|sample| sample.postgres_us),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::rounds::Load;
    use super::*;

    fn sample(rate: f64, servers_us: f64) -> Sample {
        Sample { rate, servers_us, nats_us: 7.0, postgres_us: 0.25 }
    }

    #[test]
    fn each_case_is_compared_with_one_server_on_the_same_engine_round_by_round() {
        let load = Load::InFlight(64);
        let case = |nats_servers, servers| Case { load, nats_servers, servers };
        let samples = Samples::from([
            (case(1, 1), vec![sample(100.0, 10.0), sample(300.0, 20.0)]),
            (case(1, 2), vec![sample(400.0, 11.0), sample(400.0, 24.0)]),
            (case(3, 1), vec![sample(50.0, 30.0)]),
        ]);
        let rows: Vec<String> = markdown(&samples).lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "| 64 in flight for each | 1 | 1 | 200 | 15.0 | 1.00 | 1.00–1.00 | 7.0 | 0.25 |",
                "| 64 in flight for each | 1 | 2 | 400 | 17.5 | 1.15 | 1.10–1.20 | 7.0 | 0.25 |",
                "| 64 in flight for each | 3 | 1 | 50 | 30.0 | 1.00 | 1.00–1.00 | 7.0 | 0.25 |",
            ]
        );
    }
}

//! Bar charts in SVG.
//!
//! The task passes the measurements. A chart consists of rectangles and text, readable on light and
//! dark backgrounds, and shows only values that a table has too.

use std::fmt::Write as _;

use super::page::Chart;
use super::tables::{figure, median, ratio};
use crate::bench::cases::{Case, IN_FLIGHT, Inbox, SIZES, sealing, size};
use crate::bench::samples::Measurements;
use crate::statistics::Spread;

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 230.0;
/// The space that the longest bar leaves for its figure.
const FIGURE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 18.0;
const GAP: f64 = 6.0;
const GROUP_GAP: f64 = 14.0;
const TOP: f64 = 44.0;

/// Colours of bars that differ on light and dark backgrounds, and for people with red-green colour
/// blindness (Okabe and Ito).
const COLOURS: [&str; 3] = ["#0072b2", "#e69f00", "#009e73"];

/// A group of bars.
struct Group {
    bars: Vec<Bar>,
}

struct Bar {
    label: String,
    value: f64,
    colour: usize,
}

/// The charts that have data.
pub(crate) fn all(measured: &Measurements) -> Vec<Chart> {
    let charts = [
        ("ratio.svg", "Messages a second, as a ratio to raw", ratios(measured)),
        ("latency.svg", "Median latency with one message in flight, in µs", latencies(measured)),
        ("seal.svg", "Sealing and opening, in GB/s", seals(measured)),
    ];
    charts
        .into_iter()
        .filter(|(_, _, groups)| groups.iter().any(|group| !group.bars.is_empty()))
        .map(|(name, title, groups)| Chart { name, svg: draw(title, &groups) })
        .collect()
}

fn ratios(measured: &Measurements) -> Vec<Group> {
    let of = |label: String, case: Case, colour| {
        ratio(measured, &case).map(|ratio| Bar { label, value: ratio.median, colour })
    };
    let mut groups: Vec<Group> = SIZES
        .into_iter()
        .map(|bytes| {
            let bars = IN_FLIGHT.into_iter().filter_map(|in_flight| {
                let label = format!("send, {}, {in_flight} in flight", size(bytes));
                of(label, Case::send(Inbox::Memory, bytes, in_flight), 0)
            });
            Group { bars: bars.collect() }
        })
        .collect();
    for (inbox, colour) in [(Inbox::Memory, 1), (Inbox::Durable, 2)] {
        let bars = SIZES.into_iter().filter_map(|bytes| {
            let label = format!("batches of 100, {}, {}", inbox.word(), size(bytes));
            of(label, Case::send_all(inbox, bytes), colour)
        });
        groups.push(Group { bars: bars.collect() });
    }
    groups
}

fn latencies(measured: &Measurements) -> Vec<Group> {
    let group = |bytes| {
        let bars =
            [("raw", Case::raw(bytes, 1), 1), ("send", Case::send(Inbox::Memory, bytes, 1), 0)];
        let bars = bars.into_iter().filter_map(|(what, case, colour)| {
            let value = median(measured, &case, |sample| sample.p50_us)?;
            Some(Bar { label: format!("{what}, {}", size(bytes)), value, colour })
        });
        Group { bars: bars.collect() }
    };
    SIZES.into_iter().map(group).collect()
}

fn seals(measured: &Measurements) -> Vec<Group> {
    let group = |bytes: usize| {
        let bars = [("seal", 0), ("fernet seal", 1), ("open", 0), ("fernet open", 1)];
        let bars = bars.into_iter().filter_map(|(what, colour)| {
            let nanos =
                Spread::of(measured.figures.get(&sealing(what, bytes))?.iter().copied())?.median;
            Some(Bar {
                label: format!("{what}, {}", size(bytes)),
                value: bytes as f64 / nanos,
                colour,
            })
        });
        Group { bars: bars.collect() }
    };
    SIZES.into_iter().map(group).collect()
}

/// Draws bars from left to right; the longest takes the available width.
fn draw(title: &str, groups: &[Group]) -> String {
    let bars = groups.iter().flat_map(|group| &group.bars);
    let largest = bars.map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - LABEL_WIDTH - FIGURE_WIDTH;
    let mut body = String::new();
    let mut y = TOP;
    for group in groups.iter().filter(|group| !group.bars.is_empty()) {
        for Bar { label, value, colour } in &group.bars {
            let width = (value / largest * room).max(1.0);
            let (text_y, colour) = (y + BAR_HEIGHT - 5.0, COLOURS[colour % COLOURS.len()]);
            let (label_x, figure_x) = (LABEL_WIDTH - 8.0, LABEL_WIDTH + width + 6.0);
            let (label, figure) = (escaped(label), figure(*value));
            // Writing into a string cannot fail.
            let _ = writeln!(
                body,
                "  <text x=\"{label_x:.0}\" y=\"{text_y:.0}\" text-anchor=\"end\">{label}</text>\n  \
                 <rect x=\"{LABEL_WIDTH:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT:.0}\" \
                 fill=\"{colour}\"/>\n  <text x=\"{figure_x:.1}\" y=\"{text_y:.0}\">{figure}</text>"
            );
            y += BAR_HEIGHT + GAP;
        }
        y += GROUP_GAP;
    }
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {y:.0}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"sans-serif\" font-size=\"13\">\n  \
         <style>text {{ fill: #222 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} }}</style>\n  \
         <text x=\"8\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n{body}</svg>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::Sample;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |label: &str, value| Bar { label: label.into(), value, colour: 0 };
        let svg = draw("a < b", &[Group { bars: vec![bar("one", 1.0), bar("two & more", 2.0)] }]);
        let widths: Vec<f64> = svg
            .split("width=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [230.0, 460.0]);
        assert!(
            svg.contains("a &lt; b") && svg.contains("two &amp; more") && svg.contains(">2.00<")
        );
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }

    #[test]
    fn a_chart_without_figures_is_not_drawn() {
        let mut measured = Measurements::default();
        assert!(all(&measured).is_empty());
        measured
            .samples
            .insert(Case::raw(64, 1), vec![Sample { p50_us: 38.0, ..Sample::default() }]);
        let names: Vec<_> = all(&measured).iter().map(|chart| chart.name).collect();
        assert_eq!(names, ["latency.svg"]);
    }
}

//! The measurements as Markdown tables that are also readable as text.
//!
//! The task prints them, and the page contains them. Rows whose cases were not measured are
//! omitted, and tables without rows too.

use crate::bench::cases::{
    self, Attack, BESIEGED, CHANNELS, COMMANDS, Case, Connection, IDLE, IN_FLIGHT,
    IN_FLIGHT_OF_EACH, Inbox, ONCE, ONE_CORE_SIZES, REMEMBERED, SEALING, SIZES, WAKE, Workload,
    sealing, size,
};
use crate::bench::samples::{Measurements, Sample};
use crate::statistics::Spread;

/// The tables of a full run.
#[cfg(test)]
pub(crate) const NAMES: [&str; 13] = [
    "throughput",
    "more ways",
    "one core",
    "wake",
    "latency",
    "cost",
    "cold",
    "clients",
    "flood",
    "siege",
    "commands",
    "seal",
    "remembered",
];

/// A table.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    /// The name of the table's block in the page.
    pub(crate) name: &'static str,
    head: Vec<&'static str>,
    /// How many columns from the left contain text; the others contain numbers.
    words: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(name: &'static str, words: usize, head: &[&'static str]) -> Self {
        Table { name, head: head.to_vec(), words, rows: Vec::new() }
    }

    /// Adds a row, unless a cell has no value because its case was not measured.
    fn push_if_complete(&mut self, cells: impl IntoIterator<Item = Option<String>>) {
        self.rows.extend(cells.into_iter().collect::<Option<Vec<_>>>());
    }

    /// The table in Markdown, with aligned columns.
    pub(crate) fn markdown(&self) -> String {
        let chars = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| chars(&row[column]));
                cells.chain([chars(self.head[column]), 4]).max().unwrap_or_default()
            })
            .collect();
        let line = |cells: Vec<String>| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                let gap = " ".repeat(width - chars(cell));
                if column < self.words { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
            });
            format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
        };
        let rule = widths.iter().enumerate().map(|(column, width)| {
            if column < self.words {
                "-".repeat(*width)
            } else {
                format!("{}:", "-".repeat(width - 1))
            }
        });
        let mut text = line(self.head.iter().map(|cell| (*cell).to_owned()).collect());
        text += &line(rule.collect());
        text.extend(self.rows.iter().map(|row| line(row.clone())));
        text
    }
}

/// All tables with at least one row.
pub(crate) fn all(measured: &Measurements) -> Vec<Table> {
    let tables = [
        throughput(measured),
        more_ways(measured),
        one_core(measured),
        wake(measured),
        latency(measured),
        cost(measured),
        cold(measured),
        clients(measured),
        flood(measured),
        siege(measured),
        commands(measured),
        seal(measured),
        remembered(measured),
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// The median of one figure of a case.
pub(crate) fn median(
    measured: &Measurements,
    case: &Case,
    figure: fn(&Sample) -> f64,
) -> Option<f64> {
    Spread::of(measured.each(case, figure)).map(|spread| spread.median)
}

/// The ratio of a case's rate to the rate of another case, round by round.
fn ratio_to(measured: &Measurements, case: &Case, other: &Case) -> Option<Spread> {
    Spread::of_ratios(
        &measured.each(case, |sample| sample.rate),
        &measured.each(other, |sample| sample.rate),
    )
}

/// The ratio of a case's rate to the rate of its raw case.
pub(crate) fn ratio(measured: &Measurements, case: &Case) -> Option<Spread> {
    ratio_to(measured, case, &case.raw_baseline())
}

/// The ratio of the raw case's processor time, of both ends, to the case's, round by round.
fn cpu_ratio(measured: &Measurements, case: &Case) -> Option<Spread> {
    let both =
        |case: &Case| measured.each(case, |sample| sample.client_cpu_us + sample.server_cpu_us);
    Spread::of_ratios(&both(&case.raw_baseline()), &both(case))
}

fn throughput(measured: &Measurements) -> Table {
    let head = ["message", "in flight", "raw /s", "`send` /s", "ratio", "min–max", "CPU ratio"];
    let mut table = Table::new("throughput", 1, &head);
    for (bytes, in_flight) in sizes_and_depths() {
        let (raw, send) =
            (Case::raw(bytes, in_flight), Case::send(Inbox::Memory, bytes, in_flight));
        let (Some(raw), Some(rate)) = (rate(measured, &raw), rate(measured, &send)) else {
            continue;
        };
        let (Some(ratio), Some(cpu)) = (ratio(measured, &send), cpu_ratio(measured, &send)) else {
            continue;
        };
        table.rows.push(vec![
            size(bytes),
            in_flight.to_string(),
            count(raw),
            count(rate),
            figure(ratio.median),
            range(&ratio),
            figure(cpu.median),
        ]);
    }
    table
}

fn more_ways(measured: &Measurements) -> Table {
    let head = [
        "",
        "message",
        "in flight",
        "messages /s",
        "raw /s",
        "ratio",
        "min–max",
        "CPU ratio",
        "p50 µs",
        "p99 µs",
    ];
    let mut table = Table::new("more ways", 2, &head);
    let mut rows = Vec::new();
    for (bytes, in_flight) in sizes_and_depths() {
        rows.push(("`send` of a `LocalClient`", Case::local(bytes, in_flight)));
    }
    for (bytes, in_flight) in sizes_and_depths() {
        rows.push(("`send`, durable", Case::send(Inbox::Durable, bytes, in_flight)));
    }
    for (bytes, in_flight) in sizes_and_depths() {
        rows.push((
            "`send`, durable, its file in memory",
            Case::send(Inbox::Diskless, bytes, in_flight),
        ));
    }
    for (inbox, what) in [
        (Inbox::Memory, "`send_all`, batches of 100"),
        (Inbox::Durable, "`send_all`, batches of 100, durable"),
    ] {
        rows.extend(SIZES.map(|bytes| (what, Case::send_all(inbox, bytes))));
    }
    for (bytes, in_flight) in sizes_and_depths() {
        rows.push(("`request`, with its reply", Case::request(bytes, in_flight)));
    }
    for (what, case) in rows {
        let (Some(ratio), Some(cpu)) = (ratio(measured, &case), cpu_ratio(measured, &case)) else {
            continue;
        };
        // One batch is in flight, and one raw message.
        let cells = [
            Some(what.to_owned()),
            Some(size(case.bytes)),
            Some(case.in_flight.to_string()),
            rate(measured, &case).map(count),
            rate(measured, &case.raw_baseline()).map(count),
            Some(figure(ratio.median)),
            Some(range(&ratio)),
            Some(figure(cpu.median)),
            median(measured, &case, |sample| sample.p50_us).map(count),
            median(measured, &case, |sample| sample.p99_us).map(count),
        ];
        table.push_if_complete(cells);
    }
    table
}

fn one_core(measured: &Measurements) -> Table {
    let head = [
        "",
        "message",
        "in flight",
        "messages /s",
        "raw /s",
        "ratio",
        "min–max",
        "client CPU µs",
        "server CPU µs",
        "p50 µs",
        "p99 µs",
    ];
    let mut table = Table::new("one core", 2, &head);
    type CaseOf = fn(usize, usize) -> Case;
    let ways: [(&str, CaseOf); 3] = [
        ("`send`", |bytes, in_flight| Case::send(Inbox::Memory, bytes, in_flight)),
        ("`send` of a `LocalClient`", Case::local),
        ("`request`, with its reply", Case::request),
    ];
    for (what, case_of) in ways {
        let depths = |bytes| IN_FLIGHT.map(|in_flight| (bytes, in_flight));
        for (bytes, in_flight) in ONE_CORE_SIZES.into_iter().flat_map(depths) {
            let case = case_of(bytes, in_flight).on_one_core();
            let Some(ratio) = ratio(measured, &case) else { continue };
            let cells = [
                Some(what.to_owned()),
                Some(size(case.bytes)),
                Some(case.in_flight.to_string()),
                rate(measured, &case).map(count),
                rate(measured, &case.raw_baseline()).map(count),
                Some(figure(ratio.median)),
                Some(range(&ratio)),
                median(measured, &case, |sample| sample.client_cpu_us).map(figure),
                median(measured, &case, |sample| sample.server_cpu_us).map(figure),
                median(measured, &case, |sample| sample.p50_us).map(count),
                median(measured, &case, |sample| sample.p99_us).map(count),
            ];
            table.push_if_complete(cells);
        }
    }
    table
}

fn wake(measured: &Measurements) -> Table {
    let mut table = Table::new("wake", 1, &["a process that waits is woken", "µs", "min–max"]);
    for ((name, _), what) in WAKE.into_iter().zip(["on the same core", "on the other core"]) {
        let figures = measured.figures.get(name).map(|figures| figures.iter().copied());
        let Some(spread) = figures.and_then(Spread::of) else { continue };
        table.rows.push(vec![what.to_owned(), figure(spread.median), range(&spread)]);
    }
    table
}

fn latency(measured: &Measurements) -> Table {
    let head = [
        "message",
        "in flight",
        "raw p50 µs",
        "raw p99",
        "`send` p50 µs",
        "`send` p99",
        "p99 / p50",
        "`send` longest",
    ];
    let mut table = Table::new("latency", 1, &head);
    for (bytes, in_flight) in sizes_and_depths() {
        let (raw, send) =
            (Case::raw(bytes, in_flight), Case::send(Inbox::Memory, bytes, in_flight));
        let of =
            |case: &Case, figure: fn(&Sample) -> f64| median(measured, case, figure).map(count);
        // The longest of all rounds, not the median of each round's longest.
        let longest = Spread::of(measured.each(&send, |sample| sample.max_us))
            .map(|spread| count(spread.max));
        let cells = [
            Some(size(bytes)),
            Some(in_flight.to_string()),
            of(&raw, |sample| sample.p50_us),
            of(&raw, |sample| sample.p99_us),
            of(&send, |sample| sample.p50_us),
            of(&send, |sample| sample.p99_us),
            median(measured, &send, |sample| sample.p99_us / sample.p50_us).map(figure),
            longest,
        ];
        table.push_if_complete(cells);
    }
    table
}

fn cost(measured: &Measurements) -> Table {
    let head = [
        "",
        "client CPU µs",
        "server CPU µs",
        "raw client",
        "raw server",
        "client peak MiB",
        "server peak MiB",
        "raw server MiB",
    ];
    let mut table = Table::new("cost", 1, &head);
    for case in cases::exchanges() {
        let is_shown = case.workload != Workload::Raw
            && case.clients == 1
            && case.connection == Connection::Kept;
        if !is_shown || case.attack != Attack::None || case.on_one_core {
            continue;
        }
        let raw = case.raw_baseline();
        let of = |case: &Case, figure: fn(&Sample) -> f64| median(measured, case, figure);
        let cells = [
            Some(case.to_string()),
            of(&case, |sample| sample.client_cpu_us).map(figure),
            of(&case, |sample| sample.server_cpu_us).map(figure),
            of(&raw, |sample| sample.client_cpu_us).map(figure),
            of(&raw, |sample| sample.server_cpu_us).map(figure),
            of(&case, |sample| sample.client_peak).map(mebibytes),
            of(&case, |sample| sample.server_peak).map(mebibytes),
            of(&raw, |sample| sample.server_peak).map(mebibytes),
        ];
        table.push_if_complete(cells);
    }
    table
}

fn cold(measured: &Measurements) -> Table {
    let mut table =
        Table::new("cold", 1, &["for each message", "messages /s", "p50 µs", "p99 µs", "ratio"]);
    for (what, case) in [
        ("raw: a new connection, full handshake", Case::cold(Workload::Raw, Connection::Full)),
        ("raw: a new connection, session resumed", Case::cold(Workload::Raw, Connection::Resumed)),
        ("`send`: a new `Client`, full handshake", Case::cold(Workload::Send, Connection::Full)),
    ] {
        let of = |figure: fn(&Sample) -> f64| median(measured, &case, figure).map(count);
        let full = Case::cold(Workload::Raw, Connection::Full);
        let cells = [
            Some(what.to_owned()),
            of(|sample| sample.rate),
            of(|sample| sample.p50_us),
            of(|sample| sample.p99_us),
            ratio_to(measured, &case, &full).map(|ratio| figure(ratio.median)),
        ];
        table.push_if_complete(cells);
    }
    table
}

fn clients(measured: &Measurements) -> Table {
    let mut table = Table::new(
        "clients",
        0,
        &["clients", "in flight each", "raw /s", "`send` /s", "ratio", "min–max", "to one"],
    );
    for clients in cases::CLIENTS {
        let case = Case::of_clients(Workload::Send, clients);
        let (Some(own), Some(raw)) = (rate(measured, &case), rate(measured, &case.raw_baseline()))
        else {
            continue;
        };
        let one = Case::of_clients(Workload::Send, 1);
        let (Some(ratio), Some(to_one)) = (ratio(measured, &case), ratio_to(measured, &case, &one))
        else {
            continue;
        };
        table.rows.push(vec![
            clients.to_string(),
            IN_FLIGHT_OF_EACH.to_string(),
            count(raw),
            count(own),
            figure(ratio.median),
            range(&ratio),
            figure(to_one.median),
        ]);
    }
    table
}

fn flood(measured: &Measurements) -> Table {
    let head = [
        "in flight",
        "`send` /s",
        "during the flood /s",
        "ratio",
        "min–max",
        "p99 µs",
        "p99 during",
        "logins refused /s",
    ];
    let mut table = Table::new("flood", 0, &head);
    for in_flight in IN_FLIGHT {
        let (calm, flooded) = (Case::send(Inbox::Memory, 64, in_flight), Case::flooded(in_flight));
        let Some(ratio) = ratio_to(measured, &flooded, &calm) else { continue };
        let p99 = |case: &Case| median(measured, case, |sample| sample.p99_us).map(count);
        let cells = [
            Some(in_flight.to_string()),
            rate(measured, &calm).map(count),
            rate(measured, &flooded).map(count),
            Some(figure(ratio.median)),
            Some(range(&ratio)),
            p99(&calm),
            p99(&flooded),
            median(measured, &flooded, |sample| sample.logins_rate).map(figure),
        ];
        table.push_if_complete(cells);
    }
    table
}

fn siege(measured: &Measurements) -> Table {
    let head = [
        "messages",
        "p99 µs",
        "p99 during",
        "ratio",
        "min–max",
        "p50 µs",
        "p50 during",
        "passwords tried /s",
        "turned away /s",
        "connections made /s",
    ];
    let mut table = Table::new("siege", 1, &head);
    for (workload, name) in BESIEGED {
        let (calm, besieged) = (Case::unbesieged(workload), Case::besieged(workload));
        let p99 = |case: &Case| measured.each(case, |sample| sample.p99_us);
        let Some(ratio) = Spread::of_ratios(&p99(&besieged), &p99(&calm)) else { continue };
        let of = |case: &Case, figure: fn(&Sample) -> f64| median(measured, case, figure);
        let cells = [
            Some(name.to_owned()),
            of(&calm, |sample| sample.p99_us).map(count),
            of(&besieged, |sample| sample.p99_us).map(count),
            Some(figure(ratio.median)),
            Some(range(&ratio)),
            of(&calm, |sample| sample.p50_us).map(count),
            of(&besieged, |sample| sample.p50_us).map(count),
            of(&besieged, |sample| sample.logins_rate).map(figure),
            of(&besieged, |sample| sample.turned_away_rate).map(figure),
            of(&besieged, |sample| sample.connections_rate).map(figure),
        ];
        table.push_if_complete(cells);
    }
    table
}

fn commands(measured: &Measurements) -> Table {
    let mut table = Table::new("commands", 1, &["", "median", "min–max"]);
    let mut row = |name: &str, what: String, unit: &str, shown: fn(f64) -> String| {
        let figures = measured.figures.get(name).map(|figures| figures.iter().copied());
        if let Some(spread) = figures.and_then(Spread::of) {
            let min_max = format!("{}–{}", shown(spread.min), shown(spread.max));
            table.rows.push(vec![what, format!("{} {unit}", shown(spread.median)), min_max]);
        }
    };
    for command in COMMANDS {
        row(command, format!("`{command}`"), "ms", figure);
    }
    for (name, _) in ONCE {
        row(name, format!("a process with {name}"), "ms", figure);
    }
    row(IDLE, "`web-ipc --serve`, resident, idle".to_owned(), "MiB", mebibytes);
    let ends = ["an open channel, idle: resident in the server", "the same in a `LocalClient`"];
    for (name, what) in CHANNELS.into_iter().zip(ends) {
        row(name, what.to_owned(), "KiB", |bytes| figure(bytes / 1024.0));
    }
    table
}

fn seal(measured: &Measurements) -> Table {
    let head = [
        "GB/s (ns)",
        "seal",
        "open",
        "`fernet` seal",
        "`fernet` open",
        "AES-CBC encrypt",
        "AES-CBC decrypt",
        "SHA-256",
    ];
    let mut table = Table::new("seal", 1, &head);
    for bytes in SIZES {
        let cells = SEALING.map(|what| {
            let nanos =
                Spread::of(measured.figures.get(&sealing(what, bytes))?.iter().copied())?.median;
            Some(format!("{} ({})", figure(bytes as f64 / nanos), count(nanos)))
        });
        table.push_if_complete([Some(size(bytes))].into_iter().chain(cells));
    }
    table
}

fn remembered(measured: &Measurements) -> Table {
    let head =
        ["ids", "bytes for an id", "put with none remembered, ns", "put with all remembered, ns"];
    let mut table = Table::new("remembered", 1, &head);
    let kinds = ["version 7, made when they are sent", "version 4"];
    for ((_, names), kind) in REMEMBERED.into_iter().zip(kinds) {
        let cells = names.map(|name| {
            let figures = measured.figures.get(name)?.iter().copied();
            Spread::of(figures).map(|spread| count(spread.median))
        });
        table.push_if_complete([Some(kind.to_owned())].into_iter().chain(cells));
    }
    table
}

fn sizes_and_depths() -> impl Iterator<Item = (usize, usize)> {
    SIZES.into_iter().flat_map(|bytes| IN_FLIGHT.map(|in_flight| (bytes, in_flight)))
}

/// The median rate of a case.
fn rate(measured: &Measurements, case: &Case) -> Option<f64> {
    median(measured, case, |sample| sample.rate)
}

/// A figure with three significant digits, the precision of the measurement.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => count(value),
    }
}

/// A whole number with three significant digits, and separators between thousands.
pub(crate) fn count(value: f64) -> String {
    let unit = 10_f64.powi((value.abs().max(1.0).log10().floor() as i32 - 2).max(0));
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: f64) -> String {
    figure(bytes / 1024.0 / 1024.0)
}

fn range(spread: &Spread) -> String {
    format!("{}–{}", figure(spread.min), figure(spread.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64) -> Sample {
        Sample {
            rate,
            p50_us: 10.0,
            p99_us: 20.0,
            max_us: 30.0,
            client_cpu_us: 1e6 / rate,
            ..Sample::default()
        }
    }

    fn measured() -> Measurements {
        let mut measured = Measurements::default();
        measured
            .samples
            .insert(Case::raw(64, 1), vec![sample(20_000.0), sample(10_000.0), sample(21_000.0)]);
        let send = Case::send(Inbox::Memory, 64, 1);
        measured.samples.insert(send, vec![sample(10_000.0), sample(6_000.0), sample(10_500.0)]);
        measured
    }

    #[test]
    fn a_row_holds_medians_and_the_ratio_of_each_round() {
        let table = throughput(&measured());
        assert_eq!(table.rows, [["64 B", "1", "20,000", "10,000", "0.50", "0.50–0.60", "0.50"]]);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let names: Vec<_> = all(&measured()).iter().map(|table| table.name).collect();
        assert_eq!(names, ["throughput", "latency", "cost"]);
        assert!(all(&Measurements::default()).is_empty());
    }

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new("x", 1, &["what", "µs"]);
        table.rows = vec![vec!["a".into(), "1".into()], vec!["`b`".into(), "1,000".into()]];
        let expected = "| what |    µs |\n| ---- | ----: |\n| a    |     1 |\n| `b`  | 1,000 |\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.456, "0.46"),
            (5.678, "5.68"),
            (12.34, "12.3"),
            (123.4, "123"),
            (56_789.0, "56,800"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!((count(7.0), count(999.6)), ("7".to_owned(), "1,000".to_owned()));
    }

    #[test]
    fn every_table_of_a_full_run_has_rows() {
        let mut measured = Measurements::default();
        for case in cases::exchanges() {
            measured.samples.insert(case, vec![sample(1000.0)]);
        }
        let names = COMMANDS
            .into_iter()
            .chain([IDLE])
            .chain(CHANNELS)
            .chain(ONCE.map(|(name, _)| name))
            .chain(WAKE.map(|(name, _)| name))
            .chain(REMEMBERED.into_iter().flat_map(|(_, names)| names))
            .map(str::to_owned);
        let of_sealing =
            SIZES.into_iter().flat_map(|bytes| SEALING.map(|what| sealing(what, bytes)));
        for name in names.chain(of_sealing) {
            measured.note(name, 1.0);
        }
        let tables = all(&measured);
        assert_eq!(tables.iter().map(|table| table.name).collect::<Vec<_>>(), NAMES);
        assert!(
            tables.iter().all(|table| table.rows.iter().all(|row| row.len() == table.head.len()))
        );
    }
}

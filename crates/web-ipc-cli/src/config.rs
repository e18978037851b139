//! `web-ipc --config`: shows what is configured and where each value comes from, or what is wrong
//! with it.
//!
//! `args.rs` has read the configuration. This file prints it.

use serde_json::{Value, json};

use crate::args::{ConfigView, Row, Shown, Source};
use crate::error::{self, Failure, Verdict};
use crate::out::{self, printable};

/// Prints the keys with their values, or the faults.
pub(crate) fn run(view: ConfigView, json: bool) -> Result<Verdict, Failure> {
    let ConfigView { rows, faults, files } = view;
    let is_sound = faults.is_empty();
    match (rows, json) {
        (rows, true) => {
            let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
            let mut object = json!({ "files": files, "faults": faults });
            if let Some(rows) = rows {
                object["options"] = rows.iter().map(as_json).collect();
            }
            out::print_json_line(&object.to_string())?;
        }
        (Some(rows), false) => {
            out::print(&table(&rows))?;
            for fault in &faults {
                log::error!(target: error::TARGET, "{fault}");
            }
        }
        (None, false) => {
            for fault in &faults {
                out::print_line(format_args!("{fault}"))?;
            }
            if is_sound {
                let read: Vec<String> =
                    files.iter().map(|file| printable(&file.to_string_lossy())).collect();
                match read.is_empty() {
                    true => out::report_line(format_args!("There is no configuration file"))?,
                    false => out::report_line(format_args!("No fault in {}", read.join(", ")))?,
                }
            }
        }
    }
    Ok(if is_sound { Verdict::Done } else { Verdict::Refused })
}

/// The rows in columns.
fn table(rows: &[Row]) -> String {
    let shown: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [row.key.clone(), text(&row.value), row.source.to_string()])
        .collect();
    // A long value, such as a command, does not push the sources of all others away.
    const VALUE_WIDTH_MAX: usize = 32;
    let width = |column: usize| {
        let widths = shown.iter().map(|row| row[column].chars().count());
        widths.filter(|width| column == 0 || *width <= VALUE_WIDTH_MAX).max().unwrap_or_default()
    };
    let (keys, values) = (width(0), width(1));
    shown
        .iter()
        .map(|[key, value, source]| format!("{key:keys$}  {value:values$}  {source}\n"))
        .collect()
}

fn text(value: &Shown) -> String {
    match value {
        Shown::NotSet => "-".to_owned(),
        Shown::Flag(is_on) => is_on.to_string(),
        Shown::Number(number) => number.to_string(),
        Shown::Text(text) => printable(text),
        Shown::Texts(texts) => printable(&texts.join(", ")),
        Shown::Secret(place) => printable(&format!("*** ({place})")),
    }
}

fn as_json(row: &Row) -> Value {
    let value = match &row.value {
        Shown::NotSet => Value::Null,
        Shown::Flag(is_on) => json!(is_on),
        Shown::Number(number) => json!(number),
        Shown::Text(text) => json!(text),
        Shown::Texts(texts) => json!(texts),
        Shown::Secret(place) => json!(format!("*** ({place})")),
    };
    let mut object = json!({ "key": row.key, "value": value });
    match &row.source {
        Source::Default => object["source"] = json!("default"),
        Source::CommandLine => object["source"] = json!("command line"),
        Source::File { path, line } => {
            object["source"] = json!("file");
            object["file"] = json!(path.to_string_lossy());
            object["line"] = json!(line);
        }
        Source::Variable(name) => {
            object["source"] = json!("environment");
            object["variable"] = json!(name);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stand_below_each_other_and_a_long_value_moves_its_own_line_alone() {
        let row = |key: &str, value, source| Row { key: key.to_owned(), value, source };
        let variable = || Source::Variable("WEB_IPC_SERVE_EXEC".to_owned());
        let file = || Source::File { path: "/x\n/a.toml".into(), line: 3 };
        let rows = [
            row("serve.port", Shown::Number(3001), file()),
            row("serve.exec", Shown::Text("x".repeat(40)), variable()),
            row("serve.ip", Shown::NotSet, Source::Default),
        ];
        let long = "x".repeat(40);
        assert_eq!(
            table(&rows),
            format!(
                "serve.port  3001  /x\\n/a.toml:3\nserve.exec  {long}  environment WEB_IPC_SERVE_EXEC\n\
                 serve.ip    -     default\n"
            )
        );
    }

    #[test]
    fn a_row_as_json_has_its_source_in_members() {
        let source = Source::File { path: "/a.toml".into(), line: 3 };
        let row = Row { key: "send.ip".into(), value: Shown::Texts(vec!["a".into()]), source };
        assert_eq!(
            as_json(&row),
            json!({"key": "send.ip", "value": ["a"], "source": "file", "file": "/a.toml", "line": 3})
        );
        let row = Row { key: "send.user".into(), value: Shown::NotSet, source: Source::Default };
        assert_eq!(as_json(&row), json!({"key": "send.user", "value": null, "source": "default"}));
    }
}

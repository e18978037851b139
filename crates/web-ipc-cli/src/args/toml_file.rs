//! One configuration file: TOML text to its entries, with their lines.
//!
//! `configuration.rs` comes here. This file knows no table and no key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One line of a file: a key and its value.
pub(super) struct Entry {
    /// The table that it stands in, if it stands in one.
    pub(super) table: Option<String>,
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value as it is written.
pub(super) enum Value {
    Flag(bool),
    /// In digits, or with a sign.
    Number(String),
    Text(String),
    Texts(Vec<String>),
    /// `{ file = "…" }`
    File(String),
    /// `{ credential = "…" }`
    Credential(String),
    /// Something that no key takes.
    Other,
}

/// What is in a file.
#[derive(Default)]
pub(super) struct Parsed {
    /// In the order of the lines.
    pub(super) entries: Vec<Entry>,
    /// The tables, empty ones too, and the lines of their heads.
    pub(super) tables: Vec<(String, usize)>,
    /// What is no TOML, and in which line.
    pub(super) faults: Vec<(usize, String)>,
}

/// Parses a file. Of one that is no TOML there is nothing but the faults.
pub(super) fn parse(text: &str) -> Parsed {
    let line = |at: usize| {
        1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    let faults = errors.iter().map(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (line(at), format!("this is no TOML: {}", error.message().replace('\n', ", ")))
    });
    let mut parsed = Parsed { faults: faults.collect(), ..Parsed::default() };
    if !parsed.faults.is_empty() {
        return parsed;
    }
    for (name, value) in root.get_ref() {
        let at = line(name.span().start);
        match value.get_ref() {
            DeValue::Table(table) => {
                parsed.tables.push((name.get_ref().to_string(), at));
                for (key, value) in table {
                    parsed.entries.push(Entry {
                        table: Some(name.get_ref().to_string()),
                        key: key.get_ref().to_string(),
                        line: line(key.span().start),
                        value: value_of(value),
                    });
                }
            }
            _ => parsed.entries.push(Entry {
                table: None,
                key: name.get_ref().to_string(),
                line: at,
                value: value_of(value),
            }),
        }
    }
    parsed.entries.sort_by_key(|entry| entry.line);
    parsed.tables.sort_by_key(|(_, line)| *line);
    parsed
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::Boolean(value) => Value::Flag(*value),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Number(number.to_string()),
            Err(_) => Value::Number(number.as_str().to_owned()),
        },
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Array(values) => {
            let texts = values.iter().map(|value| value.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().map_or(Value::Other, Value::Texts)
        }
        DeValue::Table(table) => {
            let only = |name: &str| {
                let mut all = table.iter();
                let (key, value) = all.next().filter(|_| table.len() == 1)?;
                value.get_ref().as_str().filter(|_| key.get_ref() == name).map(str::to_owned)
            };
            match (only("file"), only("credential")) {
                (Some(file), _) => Value::File(file),
                (None, Some(name)) => Value::Credential(name),
                (None, None) => Value::Other,
            }
        }
        DeValue::Float(_) | DeValue::Datetime(_) => Value::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_their_tables_values_and_lines() {
        let text = "# Text.\nhome = \"/h\"\n\n[serve]\nport = 3_001\nbody = true\nhex = 0x10\n\
                    ip = [\"a\",\n \"b\"]\nusersDb = { file = \"/f\" }\npassword = { credential = \"c\" }\n\
                    bad = 1.5\n[empty]\n";
        let parsed = parse(text);
        let told: Vec<String> = parsed
            .entries
            .iter()
            .map(|entry| {
                let value = match &entry.value {
                    Value::Flag(value) => value.to_string(),
                    Value::Number(number) => number.clone(),
                    Value::Text(text) => format!("{text:?}"),
                    Value::Texts(texts) => format!("{texts:?}"),
                    Value::File(path) => format!("file {path}"),
                    Value::Credential(name) => format!("credential {name}"),
                    Value::Other => "other".to_owned(),
                };
                let table = entry.table.as_deref().unwrap_or("-");
                format!("{}: {table}.{} = {value}", entry.line, entry.key)
            })
            .collect();
        assert_eq!(
            told,
            [
                "2: -.home = \"/h\"",
                "5: serve.port = 3001",
                "6: serve.body = true",
                "7: serve.hex = 16",
                "8: serve.ip = [\"a\", \"b\"]",
                "10: serve.usersDb = file /f",
                "11: serve.password = credential c",
                "12: serve.bad = other",
            ]
        );
        assert_eq!(parsed.tables, [("serve".to_owned(), 4), ("empty".to_owned(), 13)]);
        assert!(parsed.faults.is_empty());
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line_and_nothing_of_it_is_taken() {
        for (text, line) in [
            ("[serve]\nport = 1\nport = 2\n", 3),
            ("[serve]\nport 1\n", 2),
            ("[serve\nport = 1\n", 1),
            ("\n\nexec = \"a\n", 3),
        ] {
            let parsed = parse(text);
            assert!(parsed.entries.is_empty(), "{text}");
            assert_eq!(parsed.faults.first().map(|(line, _)| *line), Some(line), "{text}");
            assert!(parsed.faults.iter().all(|(_, what)| !what.contains('\n')));
        }
    }
}

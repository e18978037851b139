//! The configuration to be shown: each key with its value and its source, without secrets.
//!
//! `args.rs` comes here for `--config`, and the command prints it.

use clap::Command;

use super::applied::{faults, winning};
use super::configurable::{Kind, is_password, keys, may_be_secret, tables};
use super::configuration::{Configuration, Configured};
use super::source::{ConfigView, Row, Shown, Source};
use super::urls::masked;

/// The rows of one table, or of all, and every fault.
pub(super) fn view(
    whole: &Command,
    configuration: &Configuration,
    only: Option<&str>,
    has_rows: bool,
) -> ConfigView {
    ConfigView {
        rows: has_rows.then(|| rows(whole, configuration, only)),
        faults: faults(whole, configuration).iter().map(ToString::to_string).collect(),
        files: configuration.files.clone(),
    }
}

fn rows(whole: &Command, configuration: &Configuration, only: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    let (home, source) = &configuration.home_found;
    if only.is_none() {
        let value = home.as_ref().map(|home| home.to_string_lossy().into_owned());
        let value = value.map_or(Shown::NotSet, Shown::Text);
        rows.push(Row { key: "home".to_owned(), value, source: source.clone() });
    }
    for table in tables(whole).filter(|table| only.is_none_or(|only| table.get_name() == only)) {
        let (settings, _) = winning(whole, table.get_name(), None, configuration);
        for option in keys(whole, table) {
            let name = option.get_long().unwrap_or_default();
            let kind = Kind::of(option);
            let setting = settings.iter().find(|one| one.option == name);
            let value = match setting.map(|one| &one.configured) {
                None => {
                    let defaults = option.get_default_values().iter();
                    of_texts(
                        kind,
                        defaults.map(|text| text.to_string_lossy().into_owned()).collect(),
                    )
                }
                Some(Configured::File(path)) => {
                    Shown::Secret(format!("in file {}", path.display()))
                }
                Some(Configured::Credential(name)) => {
                    Shown::Secret(format!("in credential {name}"))
                }
                Some(Configured::Values(_)) if is_password(option) => {
                    Shown::Secret("not shown".to_owned())
                }
                Some(Configured::Values(values)) => {
                    let texts = values.iter().map(|value| match may_be_secret(option) {
                        true => masked(value),
                        false => value.as_str().to_owned(),
                    });
                    of_texts(kind, texts.collect())
                }
                Some(Configured::Off) => Shown::Flag(false),
            };
            rows.push(Row {
                key: format!("{}.{name}", table.get_name()),
                value,
                source: setting.map_or(Source::Default, |one| one.source.clone()),
            });
        }
    }
    rows
}

fn of_texts(kind: Kind, mut texts: Vec<String>) -> Shown {
    match (kind, texts.len()) {
        (Kind::Flag, _) => Shown::Flag(texts.iter().any(|text| text == "true")),
        (_, 0) => Shown::NotSet,
        (Kind::Texts, 2..) => Shown::Texts(texts),
        (Kind::Number, _) => match texts[0].parse() {
            Ok(number) => Shown::Number(number),
            Err(_) => Shown::Text(texts.remove(0)),
        },
        _ => Shown::Text(texts.remove(0)),
    }
}

//! Shows what `--doctor` found: a line for each finding, or one JSON object.
//!
//! The stable names of the object are in docs/commands.md.

use std::path::Path;

use ipc_setup::{Diagnosis, Finding, HomeKind, Severity};
use serde::Serialize;

use crate::out::{counted, printable};
use crate::remedy::{Reader, sentence};

/// The widest names of a severity and of a check.
const SEVERITY_WIDTH: usize = 7;
const CHECK_WIDTH: usize = 12;

/// What was found, as it is shown.
#[derive(Serialize)]
pub(super) struct View {
    home: String,
    kind: Option<&'static str>,
    errors: usize,
    warnings: usize,
    findings: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    check: &'static str,
    code: &'static str,
    severity: String,
    sentence: String,
    remedy: Option<String>,
}

impl View {
    /// `reader` is whoever uses the home at `path`.
    pub(super) fn new(
        path: &Path,
        reader: &Reader<'_>,
        diagnosis: &Diagnosis,
        findings: &[Finding],
    ) -> Self {
        let kind = diagnosis.home.as_ref().map(|(_, kind)| *kind);
        let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
        Self {
            home: printable(&path.display().to_string()),
            kind: match kind {
                Some(HomeKind::Server) => Some("server"),
                Some(HomeKind::Client) => Some("client"),
                None => None,
            },
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            findings: findings
                .iter()
                .map(|finding| Shown {
                    check: finding.check,
                    code: finding.code,
                    severity: finding.severity.to_string(),
                    sentence: printable(&finding.sentence),
                    remedy: finding
                        .remedy
                        .as_ref()
                        .map(|remedy| printable(&sentence(remedy, reader))),
                })
                .collect(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for one in &self.findings {
            text += &format!(
                "{:<SEVERITY_WIDTH$}  {:<CHECK_WIDTH$}  {}\n",
                one.severity, one.check, one.sentence
            );
            if let Some(remedy) = &one.remedy {
                text += &format!("{:SEVERITY_WIDTH$}  {remedy}\n", "");
            }
        }
        let checked = counted(self.findings.len(), "finding");
        text += &match (self.errors, self.warnings) {
            (0, 0) => format!("{checked}: nothing is wrong\n"),
            (0, warnings) => {
                format!("{checked}: nothing is wrong, {}\n", counted(warnings, "warning"))
            }
            (errors, 0) => format!("{checked}: {}\n", counted(errors, "error")),
            (errors, warnings) => format!(
                "{checked}: {}, {}\n",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use ipc_base::Remedy;

    use super::*;

    fn view(findings: &[Finding]) -> View {
        let diagnosis = ipc_setup::diagnose(Path::new("/nonexistent"), 0);
        View::new(Path::new("/nonexistent"), &Reader::unknown(), &diagnosis, findings)
    }

    #[test]
    fn a_finding_is_an_aligned_line_with_its_remedy_below_and_the_end_counts() {
        let findings = [
            Finding::ok("keys", "envelope.keys has 1 key"),
            Finding::error("permissions", "open_to_others", "a\u{1b}b").mended_by(Remedy::MakeHome),
        ];
        let said = "ok       keys          envelope.keys has 1 key\n\
                    error    permissions   a\\u{1b}b\n\
                    \x20        run web-ipc --init --run\n\
                    2 findings: 1 error\n";
        assert_eq!(view(&findings).to_text(), said);
        let fine = view(&findings[..1]).to_text();
        assert!(fine.ends_with("1 finding: nothing is wrong\n"), "{fine}");
    }

    #[test]
    fn the_object_has_the_names_that_the_manual_shows() {
        let finding = Finding::warning("disk", "disk_nearly_full", "x").mended_by(Remedy::MakeRoom);
        assert_eq!(
            view(&[finding]).to_json(),
            r#"{"home":"/nonexistent","kind":null,"errors":0,"warnings":1,"findings":[{"check":"disk","code":"disk_nearly_full","severity":"warning","sentence":"x","remedy":"make room on the disk and run it again"}]}"#
        );
    }
}

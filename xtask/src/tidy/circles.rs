//! Refuses circles between the files of one crate, since files in a circle cannot be read, tested
//! or changed without each other.
//!
//! `tidy` comes here with the uses that `module_tree` found. This file reads no source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::module_tree::{self, Files, Use};

/// A target of cargo: a library, a binary, a test or another.
pub(super) struct Target {
    /// The path of its root file below the workspace root.
    pub(super) root: String,
    /// Whether it is built only for tests. Then its test code counts too.
    pub(super) is_test: bool,
}

/// The circles of one target, each as a paragraph. A target whose root file is not among `files` is
/// a problem too.
pub(super) fn problems(files: &Files<'_>, target: &Target) -> Vec<String> {
    if !files.contains_key(target.root.as_str()) {
        return vec![format!("{} was not read, so its uses are unknown", target.root)];
    }
    let uses = module_tree::uses(files, &target.root, target.is_test);
    circles(&uses).iter().map(|circle| paragraph(&uses, circle)).collect()
}

/// Describes a circle, and says what to do about it.
fn paragraph(uses: &[Use], circle: &[&str]) -> String {
    let mut said = format!(
        "circle of {} files: move the shared items into a file below them, or reverse one of these uses",
        circle.len()
    );
    let nexts = circle.iter().cycle().skip(1);
    for (from, to) in circle.iter().zip(nexts) {
        let named = uses.iter().filter(|one| one.from == *from && one.to == *to);
        let named: Vec<String> =
            named.map(|one| format!("{} (line {})", one.name, one.line)).collect();
        said += &format!("\n        {from} uses {to}: {}", named.join(", "));
    }
    said
}

/// Circles without a common use, the shortest first. Each must be cut by itself, and when all are
/// cut, no circle is left. Each begins with the first of its files by name.
fn circles(uses: &[Use]) -> Vec<Vec<&str>> {
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Use { from, to, .. } in uses {
        arrows.entry(from).or_default().insert(to);
    }
    let mut found = Vec::new();
    while let Some(circle) =
        arrows.keys().filter_map(|start| shortest_circle(&arrows, start)).min_by_key(Vec::len)
    {
        for (from, to) in circle.iter().zip(circle.iter().cycle().skip(1)) {
            if let Some(of) = arrows.get_mut(from) {
                of.remove(to);
            }
        }
        found.push(circle);
    }
    found
}

/// The shortest path of uses from `start` back to `start`, which is listed only at the beginning.
fn shortest_circle<'a>(
    arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        for &next in arrows.get(at).into_iter().flatten() {
            if next == start {
                let mut circle = vec![at];
                while let Some(&before) = came_from.get(circle[circle.len() - 1]) {
                    circle.push(before);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(files: &[(&str, &str)]) -> Vec<String> {
        let target = Target { root: "src/lib.rs".into(), is_test: false };
        problems(&files.iter().copied().collect(), &target)
    }

    fn first_lines(problems: &[String]) -> Vec<&str> {
        problems.iter().map(|problem| problem.split(':').next().unwrap_or_default()).collect()
    }

    #[test]
    fn files_whose_arrows_only_go_down_are_good() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; pub use a::A;"),
            ("src/a.rs", "use crate::{b::B, c::C}; pub struct A;"),
            ("src/b.rs", "use crate::c::C; pub struct B;"),
            ("src/c.rs", "pub struct C;"),
        ];
        assert!(problems_of(&files).is_empty());
    }

    #[test]
    fn a_circle_of_two_is_told_with_its_lines() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B;\npub struct A;\nfn f(b: crate::b::B) {}"),
            ("src/b.rs", "\nuse super::a::A; pub struct B;"),
        ];
        let [problem] = problems_of(&files).try_into().unwrap();
        let lines: Vec<&str> = problem.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "src/a.rs uses src/b.rs: crate::b::B (line 1), crate::b::B (line 3)",
                "src/b.rs uses src/a.rs: super::a::A (line 2)",
            ]
        );
    }

    #[test]
    fn a_circle_of_three_is_found() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use crate::b::B; pub struct A;"),
            ("src/b.rs", "use crate::c::C; pub struct B;"),
            ("src/c.rs", "use crate::a::A; pub struct C;"),
        ];
        assert_eq!(first_lines(&problems_of(&files)), ["circle of 3 files"]);
    }

    #[test]
    fn a_circle_through_a_re_export_is_found() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("src/a.rs", "use crate::B; pub struct A;"),
            ("src/b.rs", "use crate::A; pub struct B;"),
        ];
        assert_eq!(first_lines(&problems_of(&files)), ["circle of 2 files"]);
    }

    #[test]
    fn a_child_that_uses_its_parent_is_a_circle_where_the_parent_uses_the_child() {
        let child = ("src/a.rs", "use super::Here; pub fn f() {}");
        assert!(problems_of(&[("src/lib.rs", "mod a; struct Here;"), child]).is_empty());
        assert_eq!(
            problems_of(&[("src/lib.rs", "mod a; struct Here; fn g() { a::f() }"), child]).len(),
            1
        );
    }

    #[test]
    fn a_target_that_was_not_read_is_not_taken_for_good() {
        assert_eq!(problems_of(&[("elsewhere/lib.rs", "")]).len(), 1);
    }

    #[test]
    fn circles_that_need_a_cut_each_are_all_told_short_ones_first() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            ("src/a.rs", "use crate::b; use crate::c;"),
            ("src/b.rs", "use crate::c;"),
            ("src/c.rs", "use crate::a; use crate::d;"),
            ("src/d.rs", "use crate::e; use crate::c;"),
            ("src/e.rs", "use crate::d;"),
        ];
        let problems = problems_of(&files);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            first_lines(&problems).iter().all(|line| *line == "circle of 2 files"),
            "{problems:?}"
        );
    }
}

//! Checks which crates depend on each other, and which packages the tree of a library must not
//! have.
//!
//! `tidy` comes here. The table lists the layers of the design. The functions take table and graph
//! as data and do not use cargo.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A member of the workspace and the members it uses outside its tests.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) uses: Vec<String>,
}

/// A package and the ids of the packages that it is linked with.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) links: Vec<String>,
}

/// All packages, by their ids.
pub(super) type Graph = BTreeMap<String, Node>;

/// Each member with the members it may use, lowest layer first. A line may only name members of
/// lines above it.
pub(super) const ALLOWED: &[(&str, &[&str])] = &[
    ("ipc-base", &[]),
    ("ipc-envelope", &[]),
    ("ipc-protocol", &[]),
    ("ipc-pickle", &["ipc-protocol"]),
    ("ipc-sqlite", &["ipc-base"]),
    ("ipc-store", &["ipc-base", "ipc-protocol", "ipc-sqlite"]),
    ("ipc-store-postgres", &["ipc-base", "ipc-protocol", "ipc-store"]),
    ("ipc-pki", &["ipc-base"]),
    ("ipc-home", &["ipc-base", "ipc-envelope"]),
    ("ipc-inbox", &["ipc-base", "ipc-protocol", "ipc-sqlite"]),
    ("ipc-inbox-jetstream", &["ipc-base", "ipc-protocol", "ipc-inbox"]),
    (
        "ipc-server",
        &[
            "ipc-base",
            "ipc-envelope",
            "ipc-protocol",
            "ipc-pickle",
            "ipc-home",
            "ipc-store",
            "ipc-inbox",
        ],
    ),
    ("ipc-client", &["ipc-base", "ipc-envelope", "ipc-protocol", "ipc-pickle", "ipc-home"]),
    (
        "ipc-setup",
        &[
            "ipc-base",
            "ipc-envelope",
            "ipc-home",
            "ipc-store",
            "ipc-store-postgres",
            "ipc-pickle",
            "ipc-pki",
            "ipc-inbox",
        ],
    ),
    ("ipc-renewal", &["ipc-base", "ipc-home", "ipc-client", "ipc-setup"]),
    ("ipc-monitor", &["ipc-base", "ipc-server"]),
    (
        "web-ipc",
        &[
            "ipc-home",
            "ipc-inbox-jetstream",
            "ipc-server",
            "ipc-client",
            "ipc-setup",
            "ipc-renewal",
            "ipc-monitor",
            "ipc-store-postgres",
        ],
    ),
    (
        "web-ipc-cli",
        &[
            "ipc-base",
            "ipc-home",
            "ipc-protocol",
            "ipc-inbox",
            "ipc-inbox-jetstream",
            "ipc-store",
            "ipc-server",
            "ipc-client",
            "ipc-setup",
            "ipc-renewal",
            "ipc-monitor",
        ],
    ),
    (
        "ipc-bench",
        &[
            "ipc-base",
            "ipc-envelope",
            "ipc-protocol",
            "ipc-home",
            "ipc-inbox",
            "ipc-inbox-jetstream",
            "ipc-server",
            "ipc-store-postgres",
            "ipc-client",
        ],
    ),
    (
        "ipc-fuzz",
        &["ipc-base", "ipc-envelope", "ipc-protocol", "ipc-pickle", "ipc-pki", "ipc-setup"],
    ),
    ("ipc-fixtures", &["ipc-base", "ipc-home", "ipc-server", "ipc-client"]),
    ("xtask", &[]),
];

/// Prefixes of package names that must not be in a library's tree, with the reason. `openssl` does
/// not go without `openssl-sys`; `openssl-probe` only finds the system's certificates.
const KEPT_OUT: &[(&str, &[&str], &str)] = &[
    (
        "ipc-client",
        &["sqlx", "libsqlite3-sys", "openssl-sys"],
        "a program that only sends builds neither a database nor OpenSSL",
    ),
    ("ipc-server", &["openssl-sys"], "a program that only receives must not build OpenSSL"),
    ("web-ipc", &["openssl-sys"], "only its feature `setup` makes certificates"),
    ("web-ipc", &["async-nats"], "only its feature `jetstream` uses NATS"),
    ("web-ipc", &["ipc-store-postgres"], "only its feature `postgres` uses PostgreSQL"),
    ("web-ipc-cli", &["async-nats"], "only its feature `jetstream` uses NATS"),
];

/// Packages that the command has only with a feature that is not on by default. Features of all
/// members are one set in the graph of the workspace, so this looks at the tree of one package.
const OPTIONAL: &[&str] =
    &["ipc-store-postgres", "sqlx-postgres", "ipc-inbox-jetstream", "async-nats"];

/// Looks for optional packages among those that the command is built of, and returns the problems.
pub(super) fn optional_problems(tree: &[String]) -> Vec<String> {
    if !tree.iter().any(|name| name == "ipc-store") {
        return vec!["the tree of the command has no ipc-store: it was not read".to_owned()];
    }
    let found = tree.iter().filter(|name| OPTIONAL.contains(&name.as_str()));
    found.map(|name| format!("{name} is built into the command by default")).collect()
}

/// Compares the dependencies between members with `allowed`, and returns the problems.
///
/// A name in the table that is not a member is a problem too. Otherwise a misspelt line would
/// silently have no effect.
pub(super) fn problems(allowed: &[(&str, &[&str])], members: &[Member]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut above = BTreeSet::new();
    for (name, uses) in allowed {
        if !members.iter().any(|member| member.name == *name) {
            problems
                .push(format!("the table of allowed edges names {name}, which is not a member"));
        }
        for used in uses.iter().filter(|used| !above.contains(*used)) {
            problems
                .push(format!("the table lets {name} use {used}, which is not in a line above"));
        }
        above.insert(*name);
    }
    for member in members {
        let Some((_, uses)) = allowed.iter().find(|(name, _)| *name == member.name) else {
            problems.push(format!("{} is missing from the table of allowed edges", member.name));
            continue;
        };
        for used in member.uses.iter().filter(|used| !uses.contains(&used.as_str())) {
            problems.push(format!("{} must not depend on {used}", member.name));
        }
    }
    problems
}

/// Checks all packages that the libraries are linked with, directly or not, and returns the
/// problems.
pub(super) fn tree_problems(graph: &Graph) -> Vec<String> {
    KEPT_OUT
        .iter()
        .flat_map(|(root, kept_out, reason)| kept_out_problems(graph, root, kept_out, reason))
        .collect()
}

fn kept_out_problems(graph: &Graph, root: &str, kept_out: &[&str], reason: &str) -> Vec<String> {
    let Some((start, _)) = graph.iter().find(|(_, node)| node.name == root) else {
        return vec![format!("{root} is not in the dependency graph")];
    };
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start.as_str()]);
    let mut problems = Vec::new();
    while let Some(id) = queue.pop_front() {
        let Some(node) = graph.get(id) else { continue };
        if kept_out.iter().any(|prefix| node.name.starts_with(prefix)) {
            problems.push(format!("{}: {reason}", way(graph, &came_from, id)));
            continue;
        }
        for next in &node.links {
            if next != start && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, id);
                queue.push_back(next);
            }
        }
    }
    problems
}

/// The path on which the search reached `id`, as `a → b → c`.
fn way(graph: &Graph, came_from: &BTreeMap<&str, &str>, id: &str) -> String {
    let mut names = Vec::new();
    let mut at = Some(id);
    while let Some(id) = at {
        names.push(graph.get(id).map_or(id, |node| node.name.as_str()));
        at = came_from.get(id).copied();
    }
    names.reverse();
    names.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];

    fn member(name: &str, uses: &[&str]) -> Member {
        Member { name: name.into(), uses: uses.iter().map(|used| (*used).to_owned()).collect() }
    }

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        edges
            .iter()
            .map(|(name, links)| {
                let links = links.iter().map(|link| (*link).to_owned()).collect();
                ((*name).to_owned(), Node { name: (*name).into(), links })
            })
            .collect()
    }

    #[test]
    fn an_edge_of_the_table_is_allowed() {
        assert!(problems(TABLE, &[member("low", &[]), member("high", &["low"])]).is_empty());
    }

    #[test]
    fn an_edge_that_points_up_is_found() {
        let found = problems(TABLE, &[member("low", &["high"]), member("high", &[])]);
        assert_eq!(found, ["low must not depend on high"]);
    }

    #[test]
    fn a_misspelt_name_in_the_table_is_found() {
        let found = problems(&[("low", &[]), ("hihg", &["low"])], &[member("low", &[])]);
        assert_eq!(found, ["the table of allowed edges names hihg, which is not a member"]);
    }

    #[test]
    fn a_table_that_points_up_is_found() {
        let found = problems(
            &[("low", &["high"]), ("high", &[])],
            &[member("low", &[]), member("high", &[])],
        );
        assert_eq!(found, ["the table lets low use high, which is not in a line above"]);
    }

    #[test]
    fn a_member_that_the_table_forgot_is_found() {
        let found = problems(TABLE, &[member("low", &[]), member("high", &[]), member("new", &[])]);
        assert_eq!(found, ["new is missing from the table of allowed edges"]);
    }

    #[test]
    fn a_kept_out_package_deep_in_a_tree_is_found_with_the_way_to_it() {
        let graph = graph(&[
            ("root", &["a"]),
            ("a", &["b"]),
            ("b", &["openssl-sys"]),
            ("openssl-sys", &[]),
        ]);
        let found = kept_out_problems(&graph, "root", &["openssl"], "why");
        assert_eq!(found, ["root → a → b → openssl-sys: why"]);
    }

    #[test]
    fn a_kept_out_package_elsewhere_is_nobodys_business() {
        let graph =
            graph(&[("root", &["a"]), ("a", &["root"]), ("other", &["sqlx"]), ("sqlx", &[])]);
        assert!(kept_out_problems(&graph, "root", &["sqlx"], "why").is_empty());
    }

    #[test]
    fn an_optional_package_in_the_tree_of_the_command_is_found_and_so_is_a_tree_that_is_none() {
        let tree = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(optional_problems(&tree(&["ipc-store", "sqlx-sqlite"])).is_empty());
        let found = optional_problems(&tree(&["ipc-store", "sqlx-postgres"]));
        assert_eq!(found, ["sqlx-postgres is built into the command by default"]);
        assert_eq!(optional_problems(&[]).len(), 1);
    }

    #[test]
    fn a_library_that_is_not_there_is_found() {
        assert_eq!(
            kept_out_problems(&graph(&[]), "root", &[], "why"),
            ["root is not in the dependency graph"]
        );
    }
}

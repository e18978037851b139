//! Checks that each member that is published has what a registry shows, and both licences.
//!
//! `tidy` comes here with facts of the members. Whether cargo can pack them is the stage
//! `cargo package` of `cargo xtask test`.

/// What the registry shows of a member.
pub(super) struct Listing {
    pub(super) name: String,
    pub(super) is_published: bool,
    pub(super) has_description: bool,
    pub(super) keywords: usize,
    pub(super) categories: usize,
    /// Files in its folder, and its README wherever that is, that exist.
    pub(super) files: Vec<String>,
    /// The members that it depends on outside its tests.
    pub(super) uses: Vec<String>,
}

/// Files that a published crate must have.
const FILES: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// The most keywords, and the most categories, that crates.io takes.
const WORDS_MAX: usize = 5;

/// The problems of all members.
pub(super) fn problems(members: &[Listing]) -> Vec<String> {
    let mut problems = Vec::new();
    for member in members.iter().filter(|member| member.is_published) {
        let mut lacks = |what: &str| problems.push(format!("{} lacks {what}", member.name));
        if !member.has_description {
            lacks("a description");
        }
        if !(1..=WORDS_MAX).contains(&member.keywords) {
            lacks("one to five keywords");
        }
        if !(1..=WORDS_MAX).contains(&member.categories) {
            lacks("one to five categories");
        }
        for file in FILES.iter().filter(|file| !member.files.iter().any(|one| one == *file)) {
            lacks(file);
        }
        for used in &member.uses {
            if members.iter().any(|other| other.name == *used && !other.is_published) {
                problems.push(format!("{} uses {used}, which is not published", member.name));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, is_published: bool, uses: &[&str]) -> Listing {
        Listing {
            name: name.into(),
            is_published,
            has_description: true,
            keywords: 1,
            categories: 1,
            files: FILES.map(str::to_owned).into(),
            uses: uses.iter().map(|used| (*used).to_owned()).collect(),
        }
    }

    #[test]
    fn a_member_with_everything_is_good_and_an_internal_one_needs_nothing() {
        let internal = Listing { has_description: false, ..member("b", false, &["a"]) };
        assert!(problems(&[member("a", true, &[]), internal]).is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let poor = Listing {
            has_description: false,
            keywords: 6,
            categories: 0,
            files: vec!["README.md".into()],
            ..member("a", true, &["b"])
        };
        assert_eq!(
            problems(&[poor, member("b", false, &[])]),
            [
                "a lacks a description",
                "a lacks one to five keywords",
                "a lacks one to five categories",
                "a lacks LICENSE-MIT",
                "a lacks LICENSE-APACHE",
                "a uses b, which is not published",
            ]
        );
    }
}

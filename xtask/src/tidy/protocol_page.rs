//! Ties `docs/protocol.md` to the source that it describes, so that neither changes without the
//! other.
//!
//! The page has the line `<!-- protocol-source: HASH -->`. HASH is the SHA-256, in hex, over all
//! `.rs` files of `crates/ipc-protocol/src` in the order of their paths, each as its path, a line
//! feed, and its text up to the line `#[cfg(test)]`: tests may change without the page. This file
//! does not know what the page or the source say.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::read::{self, TextFile};

const PAGE: &str = "docs/protocol.md";
const SOURCE: &str = "crates/ipc-protocol/src";
const BEFORE: &str = "<!-- protocol-source: ";
const AFTER: &str = " -->";

/// The problems with the page and the source in the workspace at `root`.
pub(super) fn problems(root: &Path) -> Result<Vec<String>, String> {
    let page = root.join(PAGE);
    if !page.is_file() {
        return Ok(vec![format!(
            "{PAGE} is missing: authors of clients in other languages need it"
        )]);
    }
    Ok(compare(&read::text(&page)?, &source_hash(&source_files(root)?)).err().into_iter().collect())
}

/// Writes the current hash into the page, and returns a message.
pub(super) fn bless(root: &Path) -> Result<String, String> {
    let page = root.join(PAGE);
    let text = read::text(&page)?;
    let hash = source_hash(&source_files(root)?);
    let (written, line) = match recorded(&text) {
        Some(old) if old == hash => {
            return Ok(format!("{PAGE} already has the hash of the protocol source"));
        }
        Some(old) => (text.replacen(&line(old), &line(&hash), 1), line(&hash)),
        None => {
            return Err(format!("{PAGE}: add this line: {}", line(&hash)));
        }
    };
    fs::write(&page, written).map_err(|error| format!("{}: {error}", page.display()))?;
    Ok(format!("{PAGE}: {line}"))
}

fn source_files(root: &Path) -> Result<Vec<TextFile>, String> {
    let mut files = Vec::new();
    read::collect_files(root, &root.join(SOURCE), "rs", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn compare(page: &str, hash: &str) -> Result<(), String> {
    match recorded(page) {
        Some(old) if old == hash => Ok(()),
        Some(_) => Err(format!(
            "{PAGE} describes another state of {SOURCE} (now {hash}): read the page, change what must be changed, then \
             run: cargo xtask tidy --bless"
        )),
        None => Err(format!("{PAGE} has no hash of its source: add the line {}", line(hash))),
    }
}

fn line(hash: &str) -> String {
    format!("{BEFORE}{hash}{AFTER}")
}

fn recorded(page: &str) -> Option<&str> {
    page.lines().find_map(|line| line.trim().strip_prefix(BEFORE)?.strip_suffix(AFTER))
}

fn source_hash(files: &[TextFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.path.as_bytes());
        hasher.update(b"\n");
        for line in file.text.lines().take_while(|line| *line != "#[cfg(test)]") {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
    }
    hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> String {
        source_hash(&[TextFile { path: "src/lib.rs".into(), text: text.into() }])
    }

    #[test]
    fn a_page_with_the_hash_of_the_source_is_good() {
        let hash = hash("a");
        assert_eq!(compare(&format!("# Protocol\n\n{}\n", line(&hash)), &hash), Ok(()));
    }

    #[test]
    fn a_change_of_the_source_is_found_and_the_way_out_is_said() {
        let said = compare(&line(&hash("a")), &hash("b")).unwrap_err();
        assert!(said.contains(&hash("b")) && said.contains("cargo xtask tidy --bless"), "{said}");
    }

    #[test]
    fn a_page_without_a_hash_is_found() {
        assert!(compare("# Protocol\n", &hash("a")).unwrap_err().contains(&line(&hash("a"))));
    }

    #[test]
    fn tests_may_change_without_the_page_and_code_may_not() {
        assert_eq!(hash("a\n#[cfg(test)]\nmod tests {}"), hash("a\n#[cfg(test)]\nmod tests { 1 }"));
        assert_ne!(hash("a\n#[cfg(test)]\n"), hash("b\n#[cfg(test)]\n"));
    }

    #[test]
    fn a_renamed_file_is_another_source() {
        let other = source_hash(&[TextFile { path: "src/frame.rs".into(), text: "a".into() }]);
        assert_ne!(hash("a"), other);
    }

    #[test]
    fn blessing_changes_the_hash_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(SOURCE)).unwrap();
        fs::create_dir_all(root.path().join("docs")).unwrap();
        fs::write(root.path().join(SOURCE).join("lib.rs"), "//! A.\n").unwrap();
        assert_eq!(problems(root.path()).unwrap().len(), 1, "a missing page is a finding");
        fs::write(root.path().join(PAGE), format!("before\n{}\nafter\n", line("0"))).unwrap();
        assert_eq!(problems(root.path()).unwrap().len(), 1);
        bless(root.path()).unwrap();
        assert!(problems(root.path()).unwrap().is_empty());
        let text = fs::read_to_string(root.path().join(PAGE)).unwrap();
        assert!(
            text.starts_with("before\n<!-- protocol-source: ") && text.ends_with(" -->\nafter\n"),
            "{text}"
        );
    }
}

//! What the binary says of itself: pages of the manual, completions, and the names it answers to.
//!
//! `tree` comes here. The binary must run on this host.

use std::path::Path;
use std::process::Command;

use super::tool;

/// The manual, the completions and the links.
pub(super) struct Pages {
    /// Names such as `web-ipc-send.1`, with the pages.
    pub(super) manual: Vec<(String, String)>,
    pub(super) bash: String,
    pub(super) zsh: String,
    pub(super) fish: String,
    /// The names of links that run one command each.
    pub(super) links: Vec<String>,
}

impl Pages {
    /// Asks the binary.
    pub(super) fn of(binary: &Path) -> Result<Self, String> {
        let run = |arguments: &[&str]| {
            tool::output(Command::new(binary).args(arguments).env_clear())
                .map_err(|error| format!("the binary must run here to write its manual: {error}"))
        };
        let whole = run(&["--manual"])?;
        let names = others(&whole);
        if names.is_empty() {
            return Err("the page of web-ipc names no page of a command".into());
        }
        let mut manual = vec![("web-ipc.1".to_owned(), whole)];
        for name in names {
            let page = run(&["--manual", name.trim_start_matches("web-ipc-")])?;
            manual.push((format!("{name}.1"), page));
        }
        let zsh = run(&["--completions", "zsh"])?;
        let links = links(&zsh);
        if links.is_empty() {
            return Err("the completions for zsh name no link".into());
        }
        Ok(Self {
            manual,
            bash: run(&["--completions", "bash"])?,
            fish: run(&["--completions", "fish"])?,
            zsh,
            links,
        })
    }
}

/// The pages that a page refers to.
fn others(page: &str) -> Vec<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(".BR "));
    lines.filter_map(|line| Some(line.split(' ').next()?.replace("\\-", "-"))).collect()
}

/// The names that the completions are for, besides `web-ipc` itself.
fn links(zsh: &str) -> Vec<String> {
    let first = zsh.lines().next().unwrap_or_default();
    let names = first.strip_prefix("#compdef web-ipc").unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_links_are_read_from_what_the_binary_says() {
        let page = ".SH SEE ALSO\n.BR web\\-ipc\\-init (1) ,\n.BR web\\-ipc\\-send (1)\n";
        assert_eq!(others(page), ["web-ipc-init", "web-ipc-send"]);
        assert_eq!(links("#compdef web-ipc web-ipc-init web-ipc-send\n# …\n").len(), 2);
        assert!(links("# nothing\n").is_empty());
    }
}

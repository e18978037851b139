//! Finds the commands that a Markdown page shows, each with its output.
//!
//! `pages` comes here with a page's text. A block of commands begins with ```` ```console ````.
//! Other words that mean commands are errors, so that no page shows a command that is not run.

/// A command of a page.
#[derive(Debug, PartialEq)]
pub(super) struct ShownCommand {
    /// The line of the page, counted from 1.
    pub(super) line: usize,
    /// The text after `$ `.
    pub(super) command: String,
    /// The lines that follow, up to the next command or the end of the block.
    pub(super) output: String,
}

/// Words after a fence that would show commands which are not run.
const WAYS_ROUND: &[&str] =
    &["sh", "bash", "shell", "zsh", "shell-session", "shellsession", "sh-session", "terminal"];

/// The commands of a page, in order. The error names the line.
pub(super) fn commands(page: &str) -> Result<Vec<ShownCommand>, String> {
    let mut found: Vec<ShownCommand> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let (indent, info) = (line.len() - line.trim_start().len(), info.trim());
        let is_console = info == "console";
        let word = info.split([',', ' ', '{']).next().unwrap_or_default();
        if !is_console && (word == "console" || WAYS_ROUND.contains(&word)) {
            return Err(format!(
                "line {}: write ```console, so that the commands are run; not ```{info}",
                number + 1
            ));
        }
        let mut block = Vec::new();
        loop {
            let Some((number, line)) = lines.next() else {
                return Err(format!("line {}: the block is never closed", number + 1));
            };
            if line.trim() == "```" {
                break;
            }
            let blank = line.len() - line.trim_start().len();
            block.push((number + 1, &line[indent.min(blank)..]));
        }
        if is_console {
            found.extend(commands_of_block(&block)?);
        }
    }
    Ok(found)
}

fn commands_of_block(block: &[(usize, &str)]) -> Result<Vec<ShownCommand>, String> {
    let mut found: Vec<ShownCommand> = Vec::new();
    let mut continues = false;
    for &(number, line) in block {
        if continues {
            if let Some(shown) = found.last_mut() {
                continues =
                    push_command_line(&mut shown.command, line.strip_prefix("> ").unwrap_or(line));
            }
        } else if let Some(command) = line.strip_prefix("$ ") {
            let mut shown =
                ShownCommand { line: number, command: String::new(), output: String::new() };
            continues = push_command_line(&mut shown.command, command);
            found.push(shown);
        } else if let Some(shown) = found.last_mut() {
            shown.output.push_str(line);
            shown.output.push('\n');
        } else {
            return Err(format!("line {number}: a console block begins with a command, `$ …`"));
        }
    }
    if continues {
        return Err("a command ends with a backslash and nothing follows".to_owned());
    }
    Ok(found)
}

/// Adds a line to a command. Returns true if the command continues on the next line.
fn push_command_line(command: &mut String, line: &str) -> bool {
    let line = line.trim();
    let (line, continues) =
        line.strip_suffix('\\').map_or((line, false), |line| (line.trim_end(), true));
    if !command.is_empty() {
        command.push(' ');
    }
    command.push_str(line);
    continues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: usize, command: &str, output: &str) -> ShownCommand {
        ShownCommand { line, command: command.into(), output: output.into() }
    }

    #[test]
    fn commands_are_found_with_their_output() {
        let page = "# Page\n\n```console\n$ one --a\nout 1\n\nout 2\n$ two\n```\n\ntext\n\n```console\n$ three\n...\n```\n";
        let expected = [
            shown(4, "one --a", "out 1\n\nout 2\n"),
            shown(8, "two", ""),
            shown(14, "three", "...\n"),
        ];
        assert_eq!(commands(page).unwrap(), expected);
    }

    #[test]
    fn other_blocks_show_no_commands() {
        let page = "```rust\n$ no\n```\n```text\n$ no\n```\n```\n$ no\n```\n```toml\n```\n";
        assert_eq!(commands(page).unwrap(), []);
    }

    #[test]
    fn a_command_goes_on_behind_a_backslash() {
        let page = "```console\n$ one \\\n    --a \\\n> --b\nout\n```\n";
        assert_eq!(commands(page).unwrap(), [shown(2, "one --a --b", "out\n")]);
    }

    #[test]
    fn a_block_in_a_list_loses_its_indentation() {
        let page = "1. Do\n   ```console\n   $ one\n     indented\n   ```\n";
        assert_eq!(commands(page).unwrap(), [shown(3, "one", "  indented\n")]);
    }

    #[test]
    fn ways_round_are_refused() {
        for info in
            ["console,ignore", "console ignore", "sh", "bash", "shell-session", "console {.x}"]
        {
            let said = commands(&format!("text\n```{info}\n$ one\n```\n")).unwrap_err();
            assert!(said.starts_with("line 2: write ```console"), "{said}");
        }
    }

    #[test]
    fn output_before_any_command_is_refused() {
        assert!(commands("```console\nout\n```\n").unwrap_err().starts_with("line 2:"));
    }

    #[test]
    fn a_block_without_an_end_is_refused() {
        assert!(commands("```console\n$ one\n").is_err());
        assert!(commands("```console\n$ one \\\n```\n").is_err());
    }
}

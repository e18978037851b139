//! The form of a case file: reading it and writing it again. It runs nothing.

use std::fmt::Write as _;

/// A case: its steps in order, with all lines between them, so that it can be written unchanged.
pub(crate) struct Case {
    pub(crate) fresh_home: bool,
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    /// A line that does nothing: title, comment, empty, `home:`.
    Text(String),
    /// A shell command that must end with 0.
    Shell(String),
    Command(Command),
}

/// A command with what it reads and what is expected of it.
#[derive(Clone)]
pub(crate) struct Command {
    /// The text after `$ `.
    pub(crate) line: String,
    pub(crate) stdin: Vec<String>,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    /// `None` if a signal ended it.
    pub(crate) status: Option<i32>,
}

impl Case {
    /// Reads a case file's text; the error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut case = Self { fresh_home: false, steps: Vec::new() };
        if !text.starts_with("# ") {
            return Err("line 1: the first line says what the case shows: `# …`".into());
        }
        let mut home_is_said = false;
        let mut stdin = Vec::new();
        let mut open: Option<Command> = None;
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: &str| Err(format!("line {}: {what}: {line}", number + 1));
            if let Some(command) = &mut open {
                if let Some(out) = line.strip_prefix("out|") {
                    command.out.push(out.strip_prefix(' ').unwrap_or(out).to_owned());
                } else if let Some(err) = line.strip_prefix("err|") {
                    command.err.push(err.strip_prefix(' ').unwrap_or(err).to_owned());
                } else if let Some(status) = line.strip_prefix("status: ") {
                    command.status = status.parse().ok();
                    if command.status.is_none() {
                        return wrong("not an exit status");
                    }
                    case.steps.extend(open.take().map(Step::Command));
                } else {
                    return wrong(
                        "between a command and its `status:` only `out|` and `err|` lines stand",
                    );
                }
            } else if let Some(command) = line.strip_prefix("$ ") {
                let line = command.to_owned();
                let stdin = std::mem::take(&mut stdin);
                open =
                    Some(Command { line, stdin, out: Vec::new(), err: Vec::new(), status: None });
            } else if let Some(input) = line.strip_prefix("in|") {
                stdin.push(input.strip_prefix(' ').unwrap_or(input).to_owned());
            } else if let Some(command) = line.strip_prefix("sh: ") {
                case.steps.push(Step::Shell(command.to_owned()));
            } else if line.is_empty() || line.starts_with('#') || line.starts_with("home: ") {
                if let Some(home) = line.strip_prefix("home: ") {
                    case.fresh_home = home == "fresh";
                    home_is_said = true;
                    if !matches!(home, "fresh" | "none") {
                        return wrong("a home is `fresh` or `none`");
                    }
                }
                case.steps.push(Step::Text(line.to_owned()));
            } else {
                return wrong("not a line of a case");
            }
        }
        if open.is_some() || !stdin.is_empty() {
            return Err("the last command has no `status:`".into());
        }
        if !home_is_said {
            return Err("`home: fresh` or `home: none` is missing".into());
        }
        if !case.steps.iter().any(|step| matches!(step, Step::Command(_))) {
            return Err("there is no command: `$ web-ipc …`".into());
        }
        Ok(case)
    }

    /// The text that [`Case::parse`] reads.
    pub(crate) fn to_text(&self) -> String {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Text(line) => format!("{line}\n"),
                Step::Shell(command) => format!("sh: {command}\n"),
                Step::Command(command) => command.to_text(),
            })
            .collect()
    }
}

impl Command {
    /// The lines of a case file that stand for this command.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut push = |mark: &str, line: &str| {
            writeln!(text, "{}", format!("{mark} {line}").trim_end()).unwrap()
        };
        self.stdin.iter().for_each(|line| push("in|", line));
        push("$", &self.line);
        self.out.iter().for_each(|line| push("out|", line));
        self.err.iter().for_each(|line| push("err|", line));
        push(
            "status:",
            &self.status.map_or("ended by a signal".to_owned(), |status| status.to_string()),
        );
        text
    }

    /// The words of the command line, without the quotes that keep them together.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for letter in self.line.chars() {
            match (quote, letter) {
                (Some(open), _) if letter == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }
}

#[test]
fn a_case_is_written_as_it_was_read() {
    let text = "# Title.\nhome: fresh\n\n# Why.\nin| a\nin|\n$ web-ipc -u 'a b' ''\nout| one\nout|\nout|   two\nerr| three\n\
                status: 1\nsh: test -f x\n";
    let case = Case::parse(text).unwrap();
    assert!(case.fresh_home);
    assert_eq!(case.to_text(), text);
}

#[test]
fn quotes_keep_words_together() {
    let case =
        Case::parse("# T.\nhome: none\n$ web-ipc  'a b' \"c'd\" '' -p=' x'\nstatus: 0\n").unwrap();
    let Some(Step::Command(command)) = case.steps.last() else {
        panic!("the last step is the command")
    };
    assert_eq!(command.words(), ["web-ipc", "a b", "c'd", "", "-p= x"]);
}

#[test]
fn a_case_that_tests_nothing_or_says_it_wrongly_is_refused() {
    for text in [
        "",
        "home: none\n$ web-ipc\nstatus: 0\n",
        "# T.\n$ web-ipc\nstatus: 0\n",
        "# T.\nhome: none\n",
        "# T.\nhome: old\n$ web-ipc\nstatus: 0\n",
        "# T.\nhome: none\n$ web-ipc\n",
        "# T.\nhome: none\n$ web-ipc\nout| a\n$ web-ipc\nstatus: 0\n",
        "# T.\nhome: none\n$ web-ipc\nstatus: good\n",
        "# T.\nhome: none\nUsername: a\n$ web-ipc\nstatus: 0\n",
        "# T.\nhome: none\n$ web-ipc\nstatus: 0\nin| a\n",
    ] {
        assert!(Case::parse(text).is_err(), "{text}");
    }
}

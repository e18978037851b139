//! Where a password comes from: the flag, a line of stdin, or the user's keyboard.
//!
//! `--users` comes here. Nothing of what is read is ever shown, logged, or kept.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use crate::error::Failure;
use crate::out::printable;

/// More than any password that is taken; who sends more on stdin sends something else.
const LINE_BYTES_MAX: u64 = 4096;

/// How to ask where somebody can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// For a password that is there already.
    Once,
    /// For a new one, which nobody sees while it is typed.
    Twice,
}

/// The password for `user`: as given, or the first line of stdin for `-`, or asked for if stdin is a terminal.
///
/// `None` if there is none: not given, nobody to ask, or empty.
pub(crate) fn find(
    given: Option<Zeroizing<String>>,
    user: &str,
    prompt: Prompt,
) -> Result<Option<Zeroizing<String>>, Failure> {
    let password = match given {
        Some(given) if given.as_str() == "-" => Some(first_line(io::stdin().lock())?),
        Some(given) => Some(given),
        None if io::stdin().is_terminal() => Some(ask(user, prompt)?),
        None => None,
    };
    Ok(password.filter(|password| !password.is_empty()))
}

/// The first line, without its end.
fn first_line(input: impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(LINE_BYTES_MAX as usize + 1));
    input
        .take(LINE_BYTES_MAX + 1)
        .read_line(&mut line)
        .map_err(|error| Failure::of(&error, None).while_doing("cannot read the password from stdin"))?;
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Failure::new(
            format!("the first line of stdin is longer than {LINE_BYTES_MAX} bytes"),
            Some("give the password alone".to_owned()),
        ));
    }
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
    Ok(line)
}

fn ask(user: &str, prompt: Prompt) -> Result<Zeroizing<String>, Failure> {
    let user = printable(user);
    let password = ask_once(&format!("Password for {user}: "))?;
    if prompt == Prompt::Twice && *ask_once("The same again: ")? != *password {
        return Err(Failure::new("the two passwords differ", Some("run it again".to_owned())));
    }
    Ok(password)
}

fn ask_once(question: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(|error| {
        let remedy = "give it with --password, or with --password - on stdin".to_owned();
        Failure::of(&error, Some(remedy)).while_doing("cannot ask for the password")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(input: &str) -> Zeroizing<String> {
        first_line(input.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_line_counts_without_its_end() {
        for input in ["pass 321", "pass 321\n", "pass 321\r\n", "pass 321\nother\n"] {
            assert_eq!(line_of(input).as_str(), "pass 321", "{input:?}");
        }
        assert_eq!(line_of(" \t\n").as_str(), " \t");
        assert_eq!(line_of("").as_str(), "");
    }

    #[test]
    fn a_line_without_an_end_and_bytes_that_are_no_text_are_refused() {
        assert!(first_line(io::BufReader::new(io::repeat(b'x'))).is_err());
        assert!(first_line(&b"\xff\xfe\n"[..]).is_err());
    }

    #[test]
    fn an_empty_password_is_none() {
        assert_eq!(find(Some(Zeroizing::new(String::new())), "a", Prompt::Once).unwrap(), None);
        let given = Some(Zeroizing::new("x".to_owned()));
        assert_eq!(find(given.clone(), "a", Prompt::Twice).unwrap(), given);
    }
}

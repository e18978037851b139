//! Gets a password: from the option, from a line of stdin, or by asking on the terminal.
//!
//! `--users` comes here, and so do the commands that log in. A password is never shown, logged, or
//! stored here.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use crate::error::Failure;
use crate::out::printable;
use crate::status::Status;

/// The most bytes of a line of stdin that is read as a password. It is more than any password may
/// have.
const LINE_BYTES_MAX: u64 = 4096;

/// How to ask on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Once, for an existing password.
    Once,
    /// Twice, for a new password, since it is not shown while it is typed.
    Twice,
}

/// The user to log in as.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
}

/// The user to log in as, if one was named. A named user needs a password.
pub(crate) fn login(
    user: Option<String>,
    password: Option<Zeroizing<String>>,
) -> Result<Option<Login>, Failure> {
    let Some(user) = user else { return Ok(None) };
    match find(password, &user, Prompt::Once)? {
        Some(password) => Ok(Some(Login { user, password })),
        None => Err(Failure::new(
            format!("a password for {} is required", printable(&user)),
            Some("give --password, or `--password -` for the first line of stdin".to_owned()),
        )
        .with_status(Status::NotPermitted)),
    }
}

/// The password for `user`: as given, or the first line of stdin for `-`, or asked for if stdin is
/// a terminal.
///
/// `None` if it is empty, or not given while stdin is no terminal.
pub(crate) fn find(
    given: Option<Zeroizing<String>>,
    user: &str,
    prompt: Prompt,
) -> Result<Option<Zeroizing<String>>, Failure> {
    let password = match given {
        Some(given) if given.as_str() == "-" => Some(first_line(io::stdin().lock(), "password")?),
        Some(given) => Some(given),
        None if io::stdin().is_terminal() => Some(ask(user, prompt)?),
        None => None,
    };
    // Windows' tools put a byte order mark before a text. It is no part of the password.
    let password = password.map(|password| match password.strip_prefix('\u{feff}') {
        Some(unmarked) => Zeroizing::new(unmarked.to_owned()),
        None => password,
    });
    Ok(password.filter(|password| !password.is_empty()))
}

/// The first line, without its end; `what` it is: a password, a code.
pub(crate) fn first_line(input: impl BufRead, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX as usize + 1));
    input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(|error| {
        Failure::of(&error, None).while_doing(&format!("cannot read the {what} from stdin"))
    })?;
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Failure::new(
            format!("the first line of stdin is longer than {LINE_BYTES_MAX} bytes"),
            Some(format!("give the {what} alone")),
        ));
    }
    let is_utf_16 = line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff");
    let line = line
        .strip_suffix(b"\n")
        .map_or(line.as_slice(), |line| line.strip_suffix(b"\r").unwrap_or(line));
    match std::str::from_utf8(line) {
        Ok(line) => Ok(Zeroizing::new(line.to_owned())),
        Err(_) => Err(Failure::new(
            format!(
                "the first line of stdin is {}",
                if is_utf_16 { "UTF-16" } else { "not UTF-8" }
            ),
            Some(format!("give the {what} in UTF-8")),
        )),
    }
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
        let remedy = "give it with --password, or with --password - on stdin";
        Failure::of(&error, Some(remedy.into())).while_doing("cannot ask for the password")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(input: &str) -> Zeroizing<String> {
        first_line(input.as_bytes(), "password").unwrap()
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
        assert!(first_line(io::BufReader::new(io::repeat(b'x')), "password").is_err());
        let told = first_line(&b"\xff\xfep\0\n\0"[..], "password").unwrap_err().to_string();
        assert_eq!(told, "the first line of stdin is UTF-16; give the password in UTF-8");
        let told = first_line(&b"p\xff\n"[..], "password").unwrap_err().to_string();
        assert_eq!(told, "the first line of stdin is not UTF-8; give the password in UTF-8");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_password() {
        let given =
            |text: &str| find(Some(Zeroizing::new(text.to_owned())), "a", Prompt::Once).unwrap();
        assert_eq!(given("\u{feff}pass321").unwrap().as_str(), "pass321");
        assert_eq!(given("pass\u{feff}321").unwrap().as_str(), "pass\u{feff}321");
        assert_eq!(given("\u{feff}"), None);
    }

    #[test]
    fn an_empty_password_is_none() {
        assert_eq!(find(Some(Zeroizing::new(String::new())), "a", Prompt::Once).unwrap(), None);
        let given = Some(Zeroizing::new("x".to_owned()));
        assert_eq!(find(given.clone(), "a", Prompt::Twice).unwrap(), given);
    }
}

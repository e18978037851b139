//! The meaning of a refusal: its error, and how to recover.
//!
//! `exchange` calls it for a response, `engine` for the codes of a channel.

use std::time::Duration;

use ipc_protocol::{Problem, ProblemCode, Retry};

use crate::clock;
use crate::error::{PythonFault, SendError};
use crate::transport::http::Response;

/// The longest text from a server that is passed on, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// Why an attempt failed, and how to recover.
#[derive(Clone, Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: SendError,
    pub(crate) recovery: Recovery,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    GiveUp,
    LogIn,
    /// Try again after a pause, at least as long as the server asks for.
    Wait(Option<Duration>),
}

impl AttemptError {
    /// The server gave no response, or none in HTTP.
    pub(crate) fn without_answer(error: SendError) -> Self {
        let recovery = match error {
            SendError::Unreachable { .. } | SendError::NoAnswer { .. } => Recovery::Wait(None),
            _ => Recovery::GiveUp,
        };
        AttemptError { error, recovery }
    }
}

pub(crate) fn give_up(error: SendError) -> AttemptError {
    AttemptError { error, recovery: Recovery::GiveUp }
}

/// The meaning of a status other than 200, or of a 200 with an unexpected body.
pub(crate) fn of_response(response: &Response, now_secs: u64) -> AttemptError {
    let status = response.status;
    if status < 300 {
        let detail = match status {
            ..200 => "an upgrade that was not requested",
            _ => "not a web-ipc reply",
        };
        return give_up(SendError::Unexpected { status, detail: detail.to_owned() });
    }
    let problem: Option<Problem> = serde_json::from_slice(&response.body).ok();
    let code = problem
        .as_ref()
        .and_then(|problem| ProblemCode::from_code(&problem.code))
        .filter(|code| code.status() == status);
    let recovery = recovery(
        code.map_or_else(|| retry_of_status(status), ProblemCode::retry),
        response.retry_after,
    );
    let mut detail = problem.map(|problem| printable(&problem.detail)).unwrap_or_default();
    if code == Some(ProblemCode::TooManyAttempts)
        && let Some(wait) = response.retry_after
    {
        detail = format!("{detail} (the next is allowed in {} s)", wait.as_secs());
    }
    if code == Some(ProblemCode::StaleEnvelope)
        && let Some(server_secs) = response.server_time_secs
        && let Some(clocks) = clock::of_refusal(server_secs, now_secs, &detail)
    {
        let recovery = if clocks.explain { Recovery::GiveUp } else { recovery };
        return AttemptError {
            error: SendError::Refused { status, code, detail: clocks.detail },
            recovery,
        };
    }
    AttemptError { error: SendError::Refused { status, code, detail }, recovery }
}

/// The meaning of a problem code for a single message or for a channel.
pub(crate) fn of_code(code: &str, retry_after: Option<Duration>) -> AttemptError {
    match ProblemCode::from_code(code) {
        Some(code) => AttemptError {
            error: SendError::Refused {
                status: code.status(),
                code: Some(code),
                detail: String::new(),
            },
            recovery: recovery(code.retry(), retry_after),
        },
        None => {
            let detail = format!("unknown code `{}` for the message", printable(code));
            give_up(SendError::Unexpected { status: 200, detail })
        }
    }
}

/// Whether a refusal is about the content of the request. Then a smaller one, or another message,
/// may be accepted.
pub(crate) fn is_for_the_content(error: &SendError) -> bool {
    match error {
        SendError::TooLarge { .. }
        | SendError::PythonTool { fault: PythonFault::NotPickled { .. } } => true,
        SendError::Refused { status, code, .. } => match code {
            Some(code) => matches!(
                code,
                ProblemCode::TooLarge
                    | ProblemCode::MalformedFrame
                    | ProblemCode::NotAnObject
                    | ProblemCode::IdReused
            ),
            None => *status == ProblemCode::TooLarge.status(),
        },
        _ => false,
    }
}

fn recovery(retry: Retry, retry_after: Option<Duration>) -> Recovery {
    match retry {
        Retry::AfterLogin => Recovery::LogIn,
        Retry::AfterPause => Recovery::Wait(retry_after),
        Retry::Never => Recovery::GiveUp,
    }
}

/// What to do after a status without a known code. 502 and 504 are usually from a proxy.
fn retry_of_status(status: u16) -> Retry {
    match status {
        419 => Retry::AfterLogin,
        408 | 429 | 500 | 502 | 503 | 504 => Retry::AfterPause,
        _ => Retry::Never,
    }
}

/// Makes a server's text fit for a terminal and a log: bounded, without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_known_code_is_judged_by_itself() {
        assert_eq!(retry_of_status(419), Retry::AfterLogin);
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(retry_of_status(status), Retry::AfterPause, "{status}");
        }
        for status in [301, 302, 400, 401, 403, 404, 405, 413, 422, 501] {
            assert_eq!(retry_of_status(status), Retry::Never, "{status}");
        }
    }

    #[test]
    fn status_and_code_agree_on_what_may_be_done() {
        for code in ProblemCode::ALL {
            // A stale envelope shares its status with permanent refusals. A missing reply shares
            // its statuses with a proxy that lost the server.
            let shared =
                [ProblemCode::StaleEnvelope, ProblemCode::NotAnswered, ProblemCode::NoReplyInTime];
            if !shared.contains(&code) {
                assert_eq!(retry_of_status(code.status()), code.retry(), "{code}");
            }
        }
    }

    #[test]
    fn a_code_of_a_channel_is_judged_as_that_of_a_response() {
        for code in ProblemCode::ALL {
            let AttemptError { error, recovery: recovered } = of_code(code.as_str(), None);
            assert_eq!((error.code(), error.status()), (Some(code), Some(code.status())));
            assert_eq!(recovered, recovery(code.retry(), None));
        }
        assert!(
            matches!(of_code("later\u{1b}", None).error, SendError::Unexpected { detail, .. } if detail == "unknown code `later` for the message")
        );
    }

    #[test]
    fn a_servers_sentence_is_bounded_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a[31mbc");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), DETAIL_CHARS_MAX);
    }
}

//! Removes interim responses, those with a status of 1xx (RFC 9110, section 15.2), before awc reads
//! them: awc would take the first head for the final response.
//!
//! `stream` passes in what it has read. This file knows only the status line of HTTP and the end of
//! a head.

use std::io;

/// The most bytes of interim responses before a response. A server has no reason to send more than
/// a few lines.
pub(crate) const INTERIM_BYTES_MAX: usize = 64 * 1024;

/// The length of `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// The bytes of a response up to its final head.
#[derive(Default)]
pub(crate) struct Heads {
    /// Whether a response is expected, and has not begun.
    is_awaited: bool,
    /// Bytes that are neither removed nor handed on completely.
    held: Vec<u8>,
    /// How many bytes of `held` were handed on.
    handed_on: usize,
    left_out: usize,
    /// Whether the response was 101. Another protocol without heads follows.
    has_switched: bool,
}

/// What to do with bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand them on unchanged.
    Through,
    /// They are held. Hand on what [`Heads::hand_on`] returns, or read more if that is empty.
    Held,
}

impl Heads {
    /// Notes that a request is written, so a response comes next.
    pub(crate) fn begin(&mut self) {
        if !self.is_awaited && !self.has_switched {
            self.is_awaited = true;
            self.left_out = 0;
        }
    }

    /// Whether a response is expected, and no byte of it has arrived.
    pub(crate) fn is_at_beginning(&self) -> bool {
        self.is_awaited && self.held.is_empty()
    }

    /// Processes bytes that were read.
    ///
    /// # Errors
    /// If the interim responses are longer than [`INTERIM_BYTES_MAX`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<Step> {
        if !self.is_awaited {
            return Ok(Step::Through);
        }
        // The usual case: the final response, with at least its status.
        if self.held.is_empty() && bytes.len() >= STATUS_END && !begins_otherwise(bytes) {
            self.is_awaited = false;
            self.has_switched = is_switch(bytes);
            return Ok(Step::Through);
        }
        self.held.extend_from_slice(bytes);
        loop {
            // A client ignores empty lines before a status line. So does awc.
            let empty = self.held.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.leave_out(empty)?;
            let known = self.held.len().min(b"HTTP/1.".len());
            if self.held.len() < STATUS_END && b"HTTP/1.".starts_with(&self.held[..known]) {
                return Ok(Step::Held);
            }
            if !is_interim(&self.held) {
                self.is_awaited = false;
                self.has_switched = is_switch(&self.held);
                return Ok(Step::Held);
            }
            match head_end(&self.held) {
                Some(end) => self.leave_out(end)?,
                None if self.left_out + self.held.len() > INTERIM_BYTES_MAX => {
                    return Err(too_many());
                }
                None => return Ok(Step::Held),
            }
        }
    }

    /// Notes the end of the connection: no more bytes will arrive.
    pub(crate) fn end(&mut self) {
        self.is_awaited = false;
    }

    /// Returns up to `bytes_max` of the held bytes that are not an interim response.
    pub(crate) fn hand_on(&mut self, bytes_max: usize) -> &[u8] {
        if self.is_awaited || self.held.is_empty() {
            return &[];
        }
        if self.handed_on == self.held.len() {
            // Few connections ever hold bytes, so the memory is freed.
            (self.held, self.handed_on) = (Vec::new(), 0);
            return &[];
        }
        let begin = self.handed_on;
        self.handed_on = self.held.len().min(begin.saturating_add(bytes_max));
        &self.held[begin..self.handed_on]
    }

    fn leave_out(&mut self, bytes: usize) -> io::Result<()> {
        self.held.drain(..bytes);
        self.left_out += bytes;
        if self.left_out > INTERIM_BYTES_MAX { Err(too_many()) } else { Ok(()) }
    }
}

/// Whether these bytes may be something else than the final head.
fn begins_otherwise(bytes: &[u8]) -> bool {
    matches!(bytes[0], b'\r' | b'\n') || is_interim(bytes)
}

/// Whether the response switches protocols (RFC 9110, section 15.2.2).
fn is_switch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.") && bytes.get(8..STATUS_END) == Some(b" 101")
}

/// `101` is not interim: it is the last HTTP response of its connection.
fn is_interim(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.")
        && bytes.get(8) == Some(&b' ')
        && bytes.get(9) == Some(&b'1')
        && bytes.get(9..STATUS_END) != Some(b"101")
}

/// The end of a head, after its empty line. A line may end without CR (RFC 9112, section 2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut lines =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index);
    let mut before = lines.next()?;
    for end in lines {
        if matches!(&bytes[before + 1..end], b"" | b"\r") {
            return Some(end + 1);
        }
        before = end;
    }
    None
}

fn too_many() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "too many interim responses (1xx) from the server")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINAL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuccess";

    #[test]
    fn behind_an_answer_101_nothing_is_taken_for_a_head() {
        for piece in [1, 5, 1000] {
            let mut heads = Heads::default();
            heads.begin();
            let answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
            for bytes in answer.chunks(piece) {
                heads.take(bytes).unwrap();
                while !heads.hand_on(usize::MAX).is_empty() {}
            }
            heads.begin();
            assert_eq!(
                heads.take(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(),
                Step::Through,
                "{piece}"
            );
        }
    }

    /// The bytes that remain of a response that arrives in pieces of `piece` bytes.
    fn left_of(answer: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut heads = Heads::default();
        heads.begin();
        let mut left = Vec::new();
        for bytes in answer.chunks(piece) {
            if heads.take(bytes)? == Step::Through {
                left.extend_from_slice(bytes);
            }
            loop {
                match heads.hand_on(5) {
                    [] => break,
                    bytes => left.extend_from_slice(bytes),
                }
            }
        }
        Ok(left)
    }

    #[test]
    fn interim_answers_are_left_out_however_they_arrive() {
        let interim = [
            &b""[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n",
            b"HTTP/1.1 100 Continue\n\n",
            b"HTTP/1.0 199\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\r\n",
        ];
        for interim in interim {
            let answer = [interim, FINAL].concat();
            for piece in 1..=answer.len() {
                assert_eq!(left_of(&answer, piece).unwrap(), FINAL, "{piece} of {interim:?}");
            }
        }
    }

    #[test]
    fn everything_else_is_left_as_it_is() {
        for answer in [
            FINAL,
            b"HTTP/1.1 101 Switching Protocols\r\n\r\nrest",
            b"HTTP/1.1 404 X\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\x15\x03\x03\0\x02\x02\x32",
        ] {
            for piece in 1..=answer.len() {
                assert_eq!(left_of(answer, piece).unwrap(), answer, "{piece} of {answer:?}");
            }
        }
    }

    #[test]
    fn only_what_comes_before_an_answer_is_looked_at() {
        let mut heads = Heads::default();
        heads.begin();
        assert_eq!(heads.take(FINAL).unwrap(), Step::Through);
        assert_eq!(heads.take(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(), Step::Through);
        heads.begin();
        assert_eq!(heads.take(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(), Step::Held);
        assert!(heads.hand_on(100).is_empty());
    }

    #[test]
    fn an_answer_that_is_cut_in_its_status_is_handed_on_at_its_end() {
        let mut heads = Heads::default();
        heads.begin();
        assert_eq!(heads.take(b"HTTP/1.1 1").unwrap(), Step::Held);
        assert!(heads.hand_on(100).is_empty());
        heads.end();
        assert_eq!(heads.hand_on(100), b"HTTP/1.1 1");
        assert!(heads.hand_on(100).is_empty());
    }

    #[test]
    fn interim_answers_without_end_are_refused() {
        let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_BYTES_MAX / 25 + 1);
        let long = [&b"HTTP/1.1 103 X\r\nlink: "[..], &vec![b'x'; INTERIM_BYTES_MAX]].concat();
        let empty = b"\r\n".repeat(INTERIM_BYTES_MAX / 2 + 1);
        for endless in [many, long, empty] {
            for piece in [1000, endless.len()] {
                assert!(left_of(&endless, piece).is_err());
            }
        }
    }
}

//! Finds where the parts of an HTTP/1.1 request end (RFC 9112, sections 2.2 and 6), for `gate`,
//! which hands on one request at a time.
//!
//! This file does not validate: actix-http parses and judges whatever is let through. It only has
//! to find the end of a request that actix-http accepts, because a request that actix-http refuses
//! ends its connection.

use memchr::memchr;

/// The maximum length of a head, including the empty lines before it. actix-http accepts four times
/// as much, and panics at a field name of 64 KiB.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The length of a request's body, as its head gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is none.
    None,
    /// `Content-Length`.
    Bytes(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The part of a request to which the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A head, or empty lines before one.
    Head {
        /// How many bytes of it have arrived.
        bytes: usize,
        /// The request line has arrived.
        has_begun: bool,
        /// The current line has bytes other than carriage returns.
        line_has_text: bool,
        /// The request line has a `#`, so the target has a fragment. actix-http cuts it off
        /// silently, so it has to be noticed here.
        has_fragment: bool,
    },
    /// None: the head is longer than [`HEAD_BYTES_MAX`].
    HeadTooLong,
    /// Unknown yet: the head is complete, and the length of the body is known once the request
    /// begins.
    HeadComplete {
        /// As in [`Framing::Head`].
        has_fragment: bool,
    },
    /// A body, of which this many bytes are missing.
    Body(u64),
    /// A chunked body.
    Chunked(Chunked),
    /// The data after a request that turned the connection into a channel. They have no end.
    Endless,
    /// The next request.
    Complete,
}

/// The part of a chunked body (RFC 9112, section 7.1) to which the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// The line with the size of a chunk.
    Size {
        /// The size according to the digits so far.
        bytes: u64,
        /// A chunk extension has begun. Digits in it do not count.
        has_extension: bool,
    },
    /// The data of a chunk, of which this many bytes are missing.
    Data(u64),
    /// The line end after the data.
    DataEnd,
    /// The trailer, or the empty line that ends the body. Here actix-http ends a line only at a
    /// carriage return with a line feed.
    Trailer {
        /// The current line has bytes other than the carriage return that may end it.
        line_has_text: bool,
        /// The last byte was a carriage return.
        after_return: bool,
    },
}

impl Framing {
    /// The state before the head of a request.
    pub(crate) const NEXT_REQUEST: Framing =
        Framing::Head { bytes: 0, has_begun: false, line_has_text: false, has_fragment: false };

    /// The state after a head that gives this length.
    pub(crate) fn of_body(length: BodyLength) -> Self {
        match length {
            BodyLength::None | BodyLength::Bytes(0) => Framing::Complete,
            BodyLength::Bytes(bytes) => Framing::Body(bytes),
            BodyLength::Chunked => Framing::Chunked(Chunked::SIZE),
        }
    }

    /// Whether more bytes of this request may follow, as far as is known.
    pub(crate) fn is_open(self) -> bool {
        !matches!(self, Framing::HeadComplete { .. } | Framing::HeadTooLong | Framing::Complete)
    }

    /// How many of the next bytes certainly belong to this request.
    pub(crate) fn certain_bytes(self) -> u64 {
        match self {
            Framing::Body(bytes) | Framing::Chunked(Chunked::Data(bytes)) => bytes,
            Framing::Endless => u64::MAX,
            _ => 0,
        }
    }

    /// Advances over those of `bytes` that belong to this request, and returns their number.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.is_open() {
            taken += self.advance_within_part(&bytes[taken..]);
        }
        taken
    }

    /// Like [`advance`](Self::advance), but stops at the end of a line or of a chunk's data.
    fn advance_within_part(&mut self, bytes: &[u8]) -> usize {
        match self {
            Framing::Head { bytes: come, has_begun, line_has_text, has_fragment } => {
                let (taken, line_end) = line(bytes, line_has_text);
                *come += taken;
                if !*has_begun {
                    *has_fragment |= memchr(b'#', &bytes[..taken]).is_some();
                }
                match line_end {
                    _ if *come > HEAD_BYTES_MAX => *self = Framing::HeadTooLong,
                    LineEnd::None => (),
                    LineEnd::OfText => *has_begun = true,
                    // Empty lines before the request line are skipped (RFC 9112, section 2.2).
                    LineEnd::OfEmptyLine if !*has_begun => (),
                    LineEnd::OfEmptyLine => {
                        *self = Framing::HeadComplete { has_fragment: *has_fragment }
                    }
                }
                taken
            }
            Framing::Body(missing) => {
                let taken = take_up_to(missing, bytes.len());
                if *missing == 0 {
                    *self = Framing::Complete;
                }
                taken
            }
            Framing::Chunked(part) => {
                let (taken, is_complete) = part.advance(bytes);
                if is_complete {
                    *self = Framing::Complete;
                }
                taken
            }
            Framing::Endless => bytes.len(),
            Framing::HeadComplete { .. } | Framing::HeadTooLong | Framing::Complete => 0,
        }
    }
}

impl Chunked {
    /// The state before the size of a chunk.
    const SIZE: Chunked = Chunked::Size { bytes: 0, has_extension: false };

    /// The state after the last chunk.
    const TRAILER: Chunked = Chunked::Trailer { line_has_text: false, after_return: false };

    /// Advances within one part. `bytes` must not be empty. Returns how many of them it took, and
    /// whether the body ends with them.
    fn advance(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self {
            Chunked::Data(missing) => {
                let taken = take_up_to(missing, bytes.len());
                if *missing == 0 {
                    *self = Chunked::DataEnd;
                }
                (taken, false)
            }
            Chunked::Size { bytes: size, has_extension } => {
                match bytes[0] {
                    b'\n' if *size == 0 => *self = Chunked::TRAILER,
                    b'\n' => *self = Chunked::Data(*size),
                    byte => match char::from(byte).to_digit(16) {
                        // actix-http refuses a size beyond 64 bits.
                        Some(digit) if !*has_extension => {
                            *size = size.saturating_mul(16).saturating_add(digit.into());
                        }
                        _ => *has_extension = true,
                    },
                }
                (1, false)
            }
            Chunked::DataEnd => {
                if bytes[0] == b'\n' {
                    *self = Chunked::SIZE;
                }
                (1, false)
            }
            Chunked::Trailer { line_has_text, after_return } => {
                let is_complete = match bytes[0] {
                    b'\n' if *after_return => {
                        *after_return = false;
                        !std::mem::take(line_has_text)
                    }
                    b'\r' => {
                        *line_has_text |= *after_return;
                        *after_return = true;
                        false
                    }
                    _ => {
                        (*line_has_text, *after_return) = (true, false);
                        false
                    }
                };
                (1, is_complete)
            }
        }
    }
}

/// What kind of line a line feed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// There was no line feed.
    None,
    OfText,
    OfEmptyLine,
}

/// Returns how many of `bytes` belong to the current line, and whether they end it. A line feed
/// alone also ends a line, as it does for actix-http.
fn line(bytes: &[u8], has_text: &mut bool) -> (usize, LineEnd) {
    let end = memchr(b'\n', bytes);
    *has_text |= bytes[..end.unwrap_or(bytes.len())].iter().any(|byte| *byte != b'\r');
    match end {
        None => (bytes.len(), LineEnd::None),
        Some(at) if std::mem::take(has_text) => (at + 1, LineEnd::OfText),
        Some(at) => (at + 1, LineEnd::OfEmptyLine),
    }
}

fn take_up_to(missing: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*missing).unwrap_or(usize::MAX).min(available);
    *missing -= taken as u64;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of `bytes` belong to a request with a body of this length. Checks that the
    /// result is the same wherever the bytes are cut into two pieces.
    #[track_caller]
    fn end(bytes: &str, length: BodyLength) -> usize {
        let ends: Vec<usize> = (0..=bytes.len())
            .map(|cut| {
                let (first, second) = bytes.as_bytes().split_at(cut);
                let mut framing = Framing::NEXT_REQUEST;
                let mut taken = 0;
                for piece in [first, second] {
                    let mut piece = piece;
                    loop {
                        let more = framing.advance(piece);
                        taken += more;
                        piece = &piece[more..];
                        if !matches!(framing, Framing::HeadComplete { .. }) {
                            break;
                        }
                        framing = Framing::of_body(length);
                    }
                    if !piece.is_empty() {
                        break;
                    }
                }
                assert_eq!(framing, Framing::Complete, "cut at {cut}");
                taken
            })
            .collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
        ends[0]
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        let head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for next in ["", "GET / HTTP/1.1\r\n", "\r\n\r\n", "x"] {
            assert_eq!(end(&format!("{head}{next}"), BodyLength::None), head.len());
        }
        assert_eq!(
            end("GET / HTTP/1.1\nhost: a\n\nGET", BodyLength::None),
            24,
            "single line feeds"
        );
        assert_eq!(
            end("\r\n\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\n\r\n", BodyLength::None),
            29,
            "empty lines before"
        );
    }

    #[test]
    fn a_fragment_is_one_in_the_request_line_however_that_comes() {
        for (head, has_fragment) in [
            ("GET /#f HTTP/1.1\r\na: b\r\n\r\n", true),
            ("\r\nGET /?x# HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\na: #\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n\r\n", false),
        ] {
            for cut in 0..head.len() {
                let (first, second) = head.as_bytes().split_at(cut);
                let mut framing = Framing::NEXT_REQUEST;
                framing.advance(first);
                framing.advance(second);
                assert_eq!(
                    framing,
                    Framing::HeadComplete { has_fragment },
                    "{head:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_body_ends_with_its_length() {
        let head = "POST / HTTP/1.1\r\n\r\n";
        for length in [0_u64, 1, 5] {
            let text = format!("{head}\n\n\n\n\n\n\n");
            assert_eq!(end(&text, BodyLength::Bytes(length)) as u64, head.len() as u64 + length);
        }
    }

    #[test]
    fn a_chunked_body_ends_with_its_last_chunk_or_its_trailer() {
        let head = "POST / HTTP/1.1\r\n\r\n";
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "5\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "a;5=6\r\n0123456789\r\n0;x\r\n\r\n",
            "1  \r\nx\r\n1F\r\n0123456789abcdef0123456789abcde\r\n0\r\nname: value\r\nother: 0\r\n\r\n",
            // actix-http reads a line feed alone as part of the trailer.
            "0\r\na\n\r\n\r\n",
            "0\r\n\nx: y\r\n\r\n",
        ] {
            for next in ["", "0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
                let text = format!("{head}{body}{next}");
                assert_eq!(end(&text, BodyLength::Chunked), head.len() + body.len(), "{text:?}");
            }
        }
    }

    #[test]
    fn what_has_no_end_takes_everything() {
        let mut framing = Framing::Endless;
        assert_eq!(framing.advance(b"GET / HTTP/1.1\r\n\r\n"), 18);
        assert_eq!((framing, framing.certain_bytes()), (Framing::Endless, u64::MAX));
    }

    #[test]
    fn a_head_has_a_longest_with_the_empty_lines_before_it() {
        let line = format!("a: {}\r\n", "b".repeat(995));
        for (before, lines, is_too_long) in
            [("", 32, false), ("", 33, true), (&"\r\n".repeat(400), 32, true)]
        {
            let mut framing = Framing::NEXT_REQUEST;
            let head = format!("{before}GET / HTTP/1.1\r\n{}\r\n", line.repeat(lines));
            framing.advance(head.as_bytes());
            assert_eq!(framing == Framing::HeadTooLong, is_too_long, "{}", head.len());
            assert!(!framing.is_open());
        }
        let mut framing = Framing::NEXT_REQUEST;
        framing.advance(&[b'x'; HEAD_BYTES_MAX]);
        assert!(framing.is_open());
        framing.advance(b"x");
        assert_eq!(framing, Framing::HeadTooLong);
    }

    #[test]
    fn only_what_is_certain_is_asked_for_without_a_look() {
        let mut framing = Framing::NEXT_REQUEST;
        assert_eq!((framing.is_open(), framing.certain_bytes()), (true, 0));
        framing.advance(b"POST / HTTP/1.1\r\n\r\n");
        assert_eq!(
            (framing, framing.certain_bytes()),
            (Framing::HeadComplete { has_fragment: false }, 0)
        );
        assert!(!framing.is_open());
        framing = Framing::of_body(BodyLength::Bytes(100));
        framing.advance(&[0; 40]);
        assert_eq!(framing.certain_bytes(), 60);
        framing = Framing::of_body(BodyLength::Chunked);
        assert_eq!(framing.certain_bytes(), 0);
        framing.advance(b"64\r\n0");
        assert_eq!(framing.certain_bytes(), 99);
        // A size that nothing reaches must not overflow.
        framing = Framing::of_body(BodyLength::Chunked);
        framing.advance(format!("{}\r\n", "f".repeat(40)).as_bytes());
        assert_eq!(framing.certain_bytes(), u64::MAX);
    }
}

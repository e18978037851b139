//! The standard streams: checks that they are open, and writes lines to them.
//!
//! `main` calls the check once. Results (`out.rs`) and the log (`log.rs`) are written here instead
//! of by the standard library, which reports success for a write to a closed stream.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, tell};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};

use crate::error::Failure;

/// The streams that were closed when the process began: bit 0 is stdin, 1 stdout, 2 stderr.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Notes which streams are closed. It runs before the standard library starts, which opens
/// /dev/null in place of each closed stream: in `main` the two cannot be told apart any more. It
/// uses system calls alone.
#[ctor::ctor]
fn note_closed_streams() {
    for (number, stream) in [stdin(), stdout(), stderr()].into_iter().enumerate() {
        if fcntl_getfl(stream).is_err() {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
}

/// Checks that all three streams are open, since output to a closed stream would be lost.
///
/// # Errors
/// The first stream that cannot be used, and what to do.
pub(crate) fn check() -> Result<(), Failure> {
    let closed = CLOSED.load(Ordering::Relaxed);
    for (number, name, stream, useless) in [
        (1, "stdout", stdout(), OFlags::RDONLY),
        (2, "stderr", stderr(), OFlags::RDONLY),
        (0, "stdin", stdin(), OFlags::WRONLY),
    ] {
        let (verb, remedy) = match number {
            0 => ("read from", "give it a file, a pipe or /dev/null"),
            _ => ("written to", "send it to a file, a pipe or /dev/null"),
        };
        let mode = fcntl_getfl(stream).map(|flags| flags & OFlags::RWMODE);
        if closed & (1 << number) != 0 || mode.is_err() {
            return Err(Failure::new(format!("{name} is closed"), Some(remedy.to_owned())));
        }
        if mode == Ok(useless) {
            return Err(Failure::new(format!("{name} cannot be {verb}"), Some(remedy.to_owned())));
        }
    }
    Ok(())
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteError {
    /// The bytes that were written before the error.
    pub(crate) written: usize,
    /// The error of the system.
    pub(crate) error: io::Error,
}

/// Writes lines to a stream. Each begins on a new line, even in a file that ends in half a line,
/// which a full disk may have cut off.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Whether the last write ended in half a line, or `None` before the first write.
    is_torn: Option<bool>,
}

impl Lines {
    pub(crate) const fn new() -> Self {
        Lines { is_torn: None }
    }

    /// Writes a text that has its line feeds, and waits for room.
    ///
    /// # Errors
    /// [`WriteError`]. The next write then begins on a new line.
    pub(crate) fn write(&mut self, stream: BorrowedFd<'_>, text: &[u8]) -> Result<(), WriteError> {
        // What cannot be looked at counts as half a line: one that is empty does less harm than two
        // that are one.
        let is_torn = *self.is_torn.get_or_insert_with(|| !begins_a_line(stream).unwrap_or(false));
        if is_torn {
            write_all(stream, b"\n").map_err(|error| WriteError { written: 0, ..error })?;
        }
        let result = write_all(stream, text);
        let written = result.as_ref().map_or_else(|error| error.written, |()| text.len());
        self.is_torn = Some(result.is_err() && written > 0 && text[written - 1] != b'\n');
        result
    }
}

/// Writes all bytes, and waits while the stream takes none. It also waits if the stream does not
/// block (`O_NONBLOCK`), which another process that shares it may have set.
pub(crate) fn write_all(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), WriteError> {
    let mut written = 0;
    while written < bytes.len() {
        let error = match rustix::io::write(stream, &bytes[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                written += count;
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => match wait_for_room(stream) {
                Ok(()) => continue,
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        return Err(WriteError { written, error });
    }
    Ok(())
}

fn wait_for_room(stream: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match poll(&mut [PollFd::new(&stream, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the next write is at the beginning of a line. It is not after half a line in a file.
fn begins_a_line(stream: BorrowedFd<'_>) -> io::Result<bool> {
    let status = File::from(stream.try_clone_to_owned()?).metadata()?;
    if !status.is_file() {
        return Ok(true);
    }
    let is_appended = fcntl_getfl(stream)?.contains(OFlags::APPEND);
    let end = if is_appended { status.len() } else { tell(stream)? };
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    // Opened again for reading, since the stream is open for writing only.
    let file = opened_again(stream)?;
    let same = file.metadata()?;
    if (same.dev(), same.ino()) != (status.dev(), status.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// The file of a stream, for reading.
#[cfg(target_os = "macos")]
fn opened_again(stream: BorrowedFd<'_>) -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt as _;
    File::open(std::ffi::OsStr::from_bytes(rustix::fs::getpath(stream)?.as_bytes()))
}

/// The file of a stream, for reading.
#[cfg(not(target_os = "macos"))]
fn opened_again(stream: BorrowedFd<'_>) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    File::open(format!("/proc/self/fd/{}", stream.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    use rustix::fs::fcntl_setfl;

    use super::*;

    fn append(path: &std::path::Path) -> File {
        File::options().append(true).create(true).open(path).unwrap()
    }

    #[test]
    fn a_line_begins_on_a_new_line_whatever_the_file_ends_in() {
        let directory = tempfile::tempdir().unwrap();
        for (before, after) in [
            ("", "{}\n"),
            ("half", "half\n{}\n"),
            ("whole\n", "whole\n{}\n"),
            ("whole\nhalf", "whole\nhalf\n{}\n"),
            ("\n", "\n{}\n"),
        ] {
            let path = directory.path().join("journal");
            fs::write(&path, before).unwrap();
            Lines::new().write(append(&path).as_fd(), b"{}\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            // Where a file is not appended to, what counts is the place, which
            // `{ printf half; web-ipc …; } > journal` moves.
            let mut file = File::create(&path).unwrap();
            file.write_all(before.as_bytes()).unwrap();
            Lines::new().write(file.as_fd(), b"{}\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            file.rewind().unwrap();
            Lines::new().write(file.as_fd(), b"{}").unwrap();
            assert!(fs::read_to_string(&path).unwrap().starts_with("{}"));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_gets_an_empty_line_rather_than_a_long_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        fs::write(&path, "half").unwrap();
        let file = append(&path);
        // No file of that name is there any more, as if it were another's.
        fs::remove_file(&path).unwrap();
        let mut lines = Lines::new();
        lines.write(file.as_fd(), b"{}\n").unwrap();
        lines.write(file.as_fd(), b"{}\n").unwrap();
        let length = file.metadata().unwrap().len();
        assert!(length == "half\n{}\n{}\n".len() as u64, "{length}");
    }

    #[test]
    fn what_follows_a_torn_line_begins_on_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = append(&directory.path().join("journal"));
        let mut lines = Lines { is_torn: Some(true) };
        lines.write(file.as_fd(), b"a\n").unwrap();
        lines.write(file.as_fd(), b"b\n").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("journal")).unwrap(), "\na\nb\n");
        // A pipe whose reader has gone takes nothing, and tears nothing.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut lines = Lines::new();
        let error = lines.write(writer.as_fd(), b"a\n").unwrap_err();
        assert_eq!((error.written, error.error.kind()), (0, io::ErrorKind::BrokenPipe));
        assert_eq!(lines.is_torn, Some(false));
    }

    #[test]
    fn a_stream_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let text: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        write_all(writer.as_fd(), &text).unwrap();
        drop(writer);
        assert!(reading.join().unwrap().unwrap() == text);
    }
}

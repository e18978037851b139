//! A queue of log lines with a limit, and the loop of the thread that writes them.
//!
//! A thread that logs puts its line into the queue and never waits. If nobody reads the log, lines
//! are dropped and counted, and the count is written when somebody reads again. `log.rs` formats
//! the lines.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of lines that wait. As many may be in the hands of the writer.
const BYTES_MAX: usize = 1024 * 1024;

/// The capacity to which a buffer is shrunk after it was written, in bytes.
const BYTES_KEPT: usize = 64 * 1024;

/// Lines that wait to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    is_filled: Condvar,
    is_written: Condvar,
}

struct State {
    lines: Vec<u8>,
    /// The number of lines that were dropped after those in `lines`.
    dropped: u64,
    /// The bytes that were put in so far, and how many of them the writer has processed.
    put: u64,
    written: u64,
    is_writing: bool,
    has_writer: bool,
    /// Whether a flush has timed out since the last write.
    is_stalled: bool,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = State {
            lines: Vec::new(),
            dropped: 0,
            put: 0,
            written: 0,
            is_writing: false,
            has_writer: false,
            is_stalled: false,
        };
        Queue { state: Mutex::new(state), is_filled: Condvar::new(), is_written: Condvar::new() }
    }

    /// Puts lines in. Returns `false` if no thread writes them yet; then the caller must.
    pub(super) fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.state();
        if !state.has_writer {
            return false;
        }
        if state.lines.len() + lines.len() <= BYTES_MAX {
            state.lines.extend_from_slice(lines);
            state.put += lines.len() as u64;
        } else {
            state.dropped += 1;
        }
        // While it writes, the writer looks for more lines afterwards by itself.
        if !state.is_writing {
            self.is_filled.notify_one();
        }
        true
    }

    /// Notes that a thread is about to call [`write`](Queue::write).
    pub(super) fn has_writer(&self) {
        self.state().has_writer = true;
    }

    /// Writes lines, for ever. `write` returns how many lines it could not write; `told` makes a
    /// line from the number of missing lines.
    pub(super) fn write(
        &self,
        mut write: impl FnMut(&[u8]) -> u64,
        told: impl Fn(u64) -> String,
    ) -> ! {
        let (mut lines, mut missing) = (Vec::new(), 0);
        loop {
            let mut state = self.state();
            while state.lines.is_empty() && state.dropped == 0 {
                state = self.is_filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.lines, &mut lines);
            missing += std::mem::take(&mut state.dropped);
            let put = state.put;
            state.is_writing = true;
            drop(state);

            missing += write(&lines);
            if missing > 0 && write(told(missing).as_bytes()) == 0 {
                missing = 0;
            }
            lines.clear();
            lines.shrink_to(BYTES_KEPT);

            let mut state = self.state();
            (state.is_writing, state.is_stalled, state.written) = (false, false, put);
            self.is_written.notify_all();
        }
    }

    /// Waits until the lines that are here now are written, for `wait` at most. Does not wait if an
    /// earlier flush has timed out and nothing was written since.
    pub(super) fn flush(&self, wait: Duration) {
        let begun = Instant::now();
        let mut state = self.state();
        let put = state.put;
        while state.has_writer && state.written < put && !state.is_stalled {
            let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())
            else {
                state.is_stalled = true;
                return;
            };
            let waited = self.is_written.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// [`flush`](Queue::flush) at the end of the process. It waits even if an earlier one has timed
    /// out.
    pub(super) fn flush_at_last(&self, wait: Duration) {
        self.state().is_stalled = false;
        self.flush(wait);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::thread;

    use super::*;

    /// A queue whose stream takes a text whenever the test takes it.
    fn queue() -> (&'static Queue, Receiver<String>) {
        let (sender, receiver): (SyncSender<String>, _) = sync_channel(0);
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        queue.has_writer();
        thread::spawn(move || {
            let write =
                |lines: &[u8]| match sender.send(String::from_utf8_lossy(lines).into_owned()) {
                    Ok(()) => 0,
                    Err(_) => lines.split(|byte| *byte == b'\n').count() as u64 - 1,
                };
            queue.write(write, |missing| format!("{missing} missing\n"))
        });
        (queue, receiver)
    }

    #[test]
    fn nobody_waits_for_a_stream_that_takes_nothing_and_what_was_dropped_is_counted() {
        let (queue, stream) = queue();
        let line = format!("{}\n", "x".repeat(1023));
        let count: u64 = 10_000;
        for _ in 0..count {
            assert!(queue.push(line.as_bytes()));
        }
        queue.flush(Duration::ZERO);
        assert!(queue.state().is_stalled, "and nobody will wait again");
        queue.flush(Duration::from_secs(3600));
        let (mut written, mut missing) = (0, 0);
        while written + missing < count {
            let text = stream.recv().unwrap();
            match text.strip_suffix(" missing\n") {
                Some(number) => missing += number.parse::<u64>().unwrap(),
                None => written += text.lines().count() as u64,
            }
        }
        assert!(
            missing > 0 && written >= (BYTES_MAX / line.len()) as u64,
            "{written} and {missing}"
        );
        queue.push(b"again\n");
        assert_eq!(stream.recv().unwrap(), "again\n");
    }

    #[test]
    fn lines_come_in_order_and_a_flush_waits_for_those_that_are_there() {
        let (queue, stream) = queue();
        let reading = thread::spawn(move || {
            let mut read = String::new();
            while read.lines().count() < 100 {
                read += &stream.recv().unwrap();
            }
            read
        });
        let mut all = String::new();
        for number in 0..100 {
            let line = format!("{number}\n");
            queue.push(line.as_bytes());
            all += &line;
        }
        queue.flush(Duration::from_secs(60));
        let state = queue.state();
        assert_eq!(
            (state.written, state.put, state.is_stalled),
            (all.len() as u64, all.len() as u64, false)
        );
        drop(state);
        assert_eq!(reading.join().unwrap(), all);
    }

    #[test]
    fn lines_that_a_stream_refused_are_counted_too() {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        assert!(!queue.push(b"too early\n"));
        queue.has_writer();
        let (sender, told) = sync_channel(8);
        let mut is_broken = true;
        queue.push(b"one\ntwo\n");
        thread::spawn(move || {
            let write = move |lines: &[u8]| {
                if std::mem::take(&mut is_broken) {
                    return lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                sender.send(String::from_utf8_lossy(lines).into_owned()).map_or(1, |()| 0)
            };
            queue.write(write, |missing| format!("{missing} missing\n"))
        });
        assert_eq!(told.recv().unwrap(), "2 missing\n");
    }
}

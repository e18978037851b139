//! What a process has used so far, from Linux's `/proc`.
//!
//! Every program reads it at its end. A client reads it at both ends of the measured span, for
//! itself and for the server.

use std::fs;
use std::time::Duration;

/// The unit of `/proc/PID/stat`, `USER_HZ`: 10 ms on every platform that is measured here.
const TICK: Duration = Duration::from_millis(10);

/// The processor time of a process, in user and kernel mode, of all threads. `self` is this
/// process.
pub(crate) fn cpu_time(pid: &str) -> Result<Duration, String> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    ticks(&text).map(|ticks| TICK * ticks).ok_or_else(|| format!("{path} has an unexpected form"))
}

/// Fields 14 and 15, `utime` and `stime` of proc(5). Field 2, the program's name, may contain any
/// characters.
fn ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u32 = fields.nth(11)?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    user.checked_add(kernel)
}

/// The processor time of all processes of the machine, and what its host took away, on all
/// processors. Interrupts do not count: they belong to no process.
pub(crate) fn cpu_time_of_all() -> Result<Duration, String> {
    let path = "/proc/stat";
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    ticks_of_all(&text)
        .map(|ticks| TICK * ticks)
        .ok_or_else(|| format!("{path} has an unexpected form"))
}

/// `user`, `nice`, `system` and `steal` of the first line of `/proc/stat`, proc(5).
fn ticks_of_all(stat: &str) -> Option<u32> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let fields: Vec<u32> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    [0, 1, 2, 7].into_iter().map(|index| fields.get(index).copied()).sum()
}

/// The memory of this process, in bytes.
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that was ever resident.
    pub(crate) peak: u64,
}

impl Memory {
    /// Reads it.
    pub(crate) fn now() -> Result<Self, String> {
        let path = "/proc/self/status";
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        match (kibibytes(&text, "VmRSS:"), kibibytes(&text, "VmHWM:")) {
            (Some(resident), Some(peak)) => {
                Ok(Memory { resident: resident * 1024, peak: peak * 1024 })
            }
            _ => Err(format!("{path} has an unexpected form")),
        }
    }
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 31 14 15 20 0 1";
        assert_eq!(ticks(stat), Some(281));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn processor_time_of_all_is_that_of_processes_and_what_was_taken_away() {
        assert_eq!(ticks_of_all("cpu  100 20 3 4000 500 60 70 8 9 10\ncpu0 1 2 3\n"), Some(131));
        assert_eq!(ticks_of_all("cpu  100 20\n"), None);
        assert_eq!(ticks_of_all(""), None);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!(
            (kibibytes(status, "VmHWM:"), kibibytes(status, "VmRSS:")),
            (Some(2048), Some(1024))
        );
        assert_eq!(kibibytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(cpu_time("self").is_ok());
        let memory = Memory::now().unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
    }
}

//! The processor time of processes, from Linux's `/proc/PID/stat` (proc(5)).

use std::fs;
use std::time::Duration;

/// The unit of the times, `USER_HZ`: 10 ms on every platform that is measured here.
const TICK: Duration = Duration::from_millis(10);

/// What is read of a process.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// Ticks of this process, in user and kernel mode, of all threads.
    own: u32,
    /// Ticks of its children that have ended, and of theirs.
    ended: u32,
}

impl Stat {
    fn read(id: u32) -> Result<Self, String> {
        let path = format!("/proc/{id}/stat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Self::parse(&text).ok_or_else(|| format!("{path} has an unexpected form"))
    }

    /// Fields 4 and 14 to 17. Field 2, the program's name, may contain any characters.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        Some(Self {
            parent: number(4)?,
            own: number(14)?.checked_add(number(15)?)?,
            ended: number(16)?.checked_add(number(17)?)?,
        })
    }
}

/// The processor time of one process.
pub(super) fn of_process(id: u32) -> Result<Duration, String> {
    Ok(TICK * Stat::read(id)?.own)
}

/// The parent of a process.
pub(super) fn parent(id: u32) -> Result<u32, String> {
    Ok(Stat::read(id)?.parent)
}

/// The processor time of a process and of its children, also of those that have ended.
pub(super) fn of_family(id: u32) -> Result<Duration, String> {
    let stat = Stat::read(id)?;
    let mut ticks = stat.own + stat.ended;
    for entry in fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?.flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A process may end in between.
        if let Some(Ok(stat)) = child.map(Stat::read)
            && stat.parent == id
        {
            ticks += stat.own;
        }
    }
    Ok(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let text = "7 (a b) c) S 42 2 3 4 5 6 7 8 9 10 250 31 14 15 20 0 1";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 42, own: 281, ended: 29 }));
        assert_eq!(Stat::parse("7 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn this_process_and_its_family_can_be_read() {
        let id = std::process::id();
        assert!(parent(id).unwrap() > 0);
        assert!(of_family(id).unwrap() >= of_process(id).unwrap());
        assert!(of_process(u32::MAX).is_err());
    }
}

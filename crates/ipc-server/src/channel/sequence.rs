//! Checks the numbers of a channel's entries, and keeps the refusal that is in force until the
//! client resumes.
//!
//! The driver calls it with each frame. Nothing here knows what an entry is.

use super::closing::Closing;

/// The state of the numbering.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The number of the next entry.
    next: u64,
    /// Entries from this number on are refused.
    refused_from: Option<u64>,
}

impl Sequence {
    /// Checks a frame with its members `first` and `resume` and its number of entries. Returns
    /// whether these entries are accepted.
    ///
    /// # Errors
    /// If the numbers are not those that the protocol requires.
    pub(super) fn frame(
        &mut self,
        first: u64,
        resume: Option<u64>,
        entries: usize,
    ) -> Result<bool, Closing> {
        if first != self.next {
            return Err(Closing::policy("the entries are not numbered consecutively"));
        }
        if resume.is_some() && resume != self.refused_from {
            return Err(Closing::policy("`resume` is not the number of the refusal"));
        }
        if resume.is_some() {
            self.refused_from = None;
        }
        let next = self.next.checked_add(entries as u64);
        self.next =
            next.ok_or_else(|| Closing::policy("the channel has used up its numbers for entries"))?;
        Ok(self.refused_from.is_none())
    }

    /// Refuses entries from a number on.
    pub(super) fn refuse(&mut self, from: u64) {
        self.refused_from = Some(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_numbered_one_after_the_other() {
        let mut sequence = Sequence::default();
        assert!(sequence.frame(0, None, 3).unwrap());
        assert!(sequence.frame(3, None, 0).unwrap());
        for first in [0, 2, 4, u64::MAX] {
            assert!(sequence.frame(first, None, 1).is_err());
        }
        assert!(sequence.frame(3, None, 1).unwrap());
    }

    #[test]
    fn nothing_is_taken_from_a_refusal_to_its_resume() {
        let mut sequence = Sequence::default();
        assert!(sequence.frame(0, Some(0), 1).is_err(), "there is none");
        assert!(sequence.frame(0, None, 3).unwrap());
        sequence.refuse(1);
        assert!(!sequence.frame(3, None, 2).unwrap());
        assert!(sequence.frame(5, Some(2), 1).is_err());
        assert!(sequence.frame(5, Some(1), 1).unwrap());
        assert!(sequence.frame(6, Some(1), 1).is_err(), "it is over");
        assert!(sequence.frame(6, None, 1).unwrap());
    }
}

//! Pseudorandom numbers that a seed repeats.
//!
//! `crash` draws the times of its kills and cuts here, so that a failed run can be repeated.

use std::hash::{BuildHasher as _, RandomState};

/// A sequence of numbers: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) struct Random(u64);

impl Random {
    /// Starts the sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number of 64 bits.
    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0. Small numbers are slightly more likely, which
    /// does not matter here.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// A number from 1 to 2^`bits`, with every order of magnitude equally likely.
    pub(crate) fn of_any_size(&mut self, bits: u64) -> u64 {
        let size = 1 << self.below(bits);
        size + self.below(size)
    }
}

/// A random seed. The standard library seeds its hashers from the system.
pub(crate) fn fresh_seed() -> u64 {
    // 32 bits are short enough to type.
    RandomState::new().hash_one(()) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence() {
        // The first numbers of the reference implementation for the seed 0.
        let mut random = Random::new(0);
        assert_eq!((random.any(), random.any()), (0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4));
    }

    #[test]
    fn numbers_are_below_their_limit_and_reach_it() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..200).map(|_| random.below(5)).collect();
        assert!(drawn.iter().all(|number| *number < 5));
        assert!((0..5).all(|number| drawn.contains(&number)));
    }

    #[test]
    fn numbers_of_any_size_are_small_as_often_as_large() {
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..1000).map(|_| random.of_any_size(10)).collect();
        assert!(drawn.iter().all(|number| (1..=1024).contains(number)));
        let small = drawn.iter().filter(|number| **number < 32).count();
        assert!((400..600).contains(&small), "{small} of 1000 are small");
    }
}

//! Runs the properties that a fuzzer runs (`fuzz/`) on its seeds and on some hundred thousand
//! inputs made of them. The inputs are the same in each run.

use std::fs;
use std::path::Path;

#[path = "../fuzz/properties.rs"]
#[expect(unreachable_pub, reason = "it is the library of the fuzz targets")]
mod properties;

/// How many inputs each property gets.
const INPUTS: usize = 150_000;

/// Pieces of a frame that a change puts in, so that changes lead from one frame to another.
const TOKENS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "0",
    "1",
    "-1",
    "-0",
    "1.0",
    "1e0",
    "1e400",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "18446744073709551615",
    "18446744073709551616",
    "\"first\":",
    "\"resume\":",
    "\"entries\":",
    "\"id\":",
    "\"body\":",
    "\"reply_wait_ms\":",
    "\"settled\":",
    "\"refused\":",
    "\"from\":",
    "\"code\":",
    "\"replies\":",
    "\"entry\":",
    "\"duplicate\":",
    "\"accepted\"",
    "\\u0061",
    "\\ud800",
    "\u{e9}",
];

/// xorshift64*: numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 where that is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    /// Some place in `bytes` and one up to 7 behind it.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len());
        start..(start + self.below(8)).min(bytes.len())
    }
}

/// A seed with one to three changes.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(3) {
        let range = random.range(&input);
        match random.below(6) {
            0 => drop(input.drain(range)),
            1 => {
                let copy = input[range].to_vec();
                let at = random.below(input.len());
                input.splice(at..at, copy);
            }
            2 if !range.is_empty() => input[range.start] ^= 1 << random.below(8),
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let part = other[random.range(other)].to_vec();
                input.splice(range, part);
            }
            4 => {
                let token = TOKENS[random.below(TOKENS.len())];
                input.splice(range, token.bytes());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                input.splice(range.start..range.start, token.bytes());
            }
        }
    }
    input
}

/// The files of a folder of seeds, by their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder of seeds")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).expect("a seed")).collect();
    assert!(!seeds.is_empty());
    seeds
}

/// Runs a property on each seed, then on inputs made of them. Both of what it may say must have
/// been said often, else the inputs show nothing.
fn run(target: &str, property: fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    for seed in &seeds {
        property(seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let taken = (0..INPUTS).filter(|_| property(&changed(&seeds, &mut random))).count();
    assert!((INPUTS / 50..INPUTS - INPUTS / 50).contains(&taken), "{taken} of {INPUTS} are taken");
}

#[test]
fn whatever_a_client_says_on_a_channel_is_read_by_the_rules_or_refused() {
    run("client_frame", properties::client_frame);
}

#[test]
fn whatever_a_server_says_on_a_channel_is_read_by_the_rules_or_refused() {
    run("server_frame", properties::server_frame);
}

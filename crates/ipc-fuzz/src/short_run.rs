//! Runs a property without a fuzzer: on its seeds, on inputs made from them, and on given files.
//!
//! [`target!`](crate::target) comes here. Nothing here knows what a property is about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many inputs a property gets in a test, unless its target names another number.
pub const INPUTS: usize = 50_000;

/// The generator xorshift64*: the same seed gives the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    /// A range of at most 7 bytes within `bytes`.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len());
        start..(start + self.below(8)).min(bytes.len())
    }
}

/// The material for inputs.
struct Corpus {
    /// Whole inputs.
    seeds: Vec<Vec<u8>>,
    /// Tokens that a change inserts, so that a changed input is often valid too.
    tokens: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the files of `seeds/TARGET`, in the order of their names, and the lines of
    /// `dictionaries/TARGET`.
    fn of(target: &str) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = package.join("seeds").join(target);
        let entries = fs::read_dir(&folder).expect("each target has a folder of seeds");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        let seeds: Vec<_> = files.iter().map(|file| fs::read(file).expect("a seed")).collect();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        let dictionary = fs::read_to_string(package.join("dictionaries").join(target));
        let tokens = dictionary.expect("each target has a dictionary");
        let tokens: Vec<_> = tokens.lines().filter_map(token).collect();
        assert!(!tokens.is_empty(), "the dictionary of {target} is empty");
        Corpus { seeds, tokens }
    }

    /// A seed with one to three changes.
    fn changed_seed(&self, random: &mut Random) -> Vec<u8> {
        let mut input = self.seeds[random.below(self.seeds.len())].clone();
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
                    let other = &self.seeds[random.below(self.seeds.len())];
                    let part = other[random.range(other)].to_vec();
                    input.splice(range, part);
                }
                4 => drop(input.splice(range, self.token(random))),
                _ => drop(input.splice(range.start..range.start, self.token(random))),
            }
        }
        input
    }

    fn token(&self, random: &mut Random) -> Vec<u8> {
        self.tokens[random.below(self.tokens.len())].clone()
    }
}

/// Reads a line of a libFuzzer dictionary: `"…"` with `\\`, `\"` and `\xAB`. Returns `None` for a
/// comment or an empty line.
fn token(line: &str) -> Option<Vec<u8>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let quoted = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = quoted.expect("a line of a dictionary is quoted").as_bytes();
    let mut token = Vec::new();
    while let [first, behind @ ..] = rest {
        (token, rest) = match (first, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                token.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
                (token, behind)
            }
            (b'\\', [escaped, behind @ ..]) => {
                token.push(*escaped);
                (token, behind)
            }
            _ => {
                token.push(*first);
                (token, behind)
            }
        };
    }
    Some(token)
}

/// Runs a property on each seed of `target`, then on `inputs` inputs made from the seeds. Each run
/// makes the same inputs.
///
/// # Panics
/// If the property does not hold. Also if almost all inputs are accepted or almost all are refused,
/// since such inputs test little.
pub fn run_shortly(target: &str, property: fn(&[u8]) -> bool, inputs: usize) {
    let corpus = Corpus::of(target);
    for seed in &corpus.seeds {
        property(seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let accepted = (0..inputs).filter(|_| property(&corpus.changed_seed(&mut random))).count();
    assert!(
        (inputs / 100..inputs - inputs / 100).contains(&accepted),
        "{accepted} of {inputs} are accepted"
    );
}

/// Runs a property on the files named on the command line. The exit status is 1 if a file cannot be
/// read, and 101 if the property does not hold.
pub fn replay(property: fn(&[u8]) -> bool) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for file in std::env::args_os().skip(1).map(PathBuf::from) {
        match fs::read(&file) {
            Ok(input) => {
                let outcome = if property(&input) { "accepted" } else { "refused" };
                println!("{}: {outcome}", file.display());
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_read_as_libfuzzer_reads_it() {
        assert_eq!(token(r#""a\"b\\c""#).unwrap(), br#"a"b\c"#);
        assert_eq!(token(r#" "\xEF\xbb\x00" "#).unwrap(), b"\xef\xbb\0");
        assert_eq!(token("# a comment"), None);
        assert_eq!(token(""), None);
    }

    #[test]
    fn the_inputs_are_the_same_in_each_run() {
        let corpus = Corpus { seeds: vec![b"abc".to_vec()], tokens: vec![b"xyz".to_vec()] };
        let inputs = || {
            let mut random = Random(1);
            (0..100).map(|_| corpus.changed_seed(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(), inputs());
        assert!(inputs().iter().any(|input| input != b"abc"));
    }
}

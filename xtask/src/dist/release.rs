//! What is packed, and the words that ask for it.
//!
//! Every file of `dist` comes here.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

/// The features of the command that operators get: several servers need both.
pub(super) const FEATURES: &str = "jetstream,postgres";

/// The options of the task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whether a debug build is packed, which is quicker to build.
    pub(crate) is_debug: bool,
    /// The target triple. Without it: static where that can be built here.
    pub(crate) target: Option<String>,
    /// A binary that was built elsewhere with [`FEATURES`], for the target.
    pub(crate) binary: Option<PathBuf>,
}

impl Options {
    /// Reads the words after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--debug" => options.is_debug = true,
                "--target" => {
                    let target = words.next().ok_or("--target needs a target triple")?;
                    options.target = Some((*target).to_owned());
                }
                "--binary" => {
                    let binary = words.next().ok_or("--binary needs a file")?;
                    options.binary = Some(binary.into());
                }
                other => return Err(format!("unknown option `{other}`")),
            }
        }
        if options.binary.is_some() && (options.target.is_none() || options.is_debug) {
            return Err("--binary needs --target, and no --debug".into());
        }
        Ok(options)
    }
}

/// What is packed.
pub(crate) struct Release {
    /// The version of the packages.
    pub(crate) version: String,
    /// The target triple of the binary.
    pub(crate) target: String,
    /// The binary. It is stripped before it is packed.
    pub(crate) binary: PathBuf,
    /// The features that it was built with, for the lists of what is in it.
    pub(crate) features: &'static str,
}

/// The file with the checksums of the packages, for `sha256sum --check`.
pub(super) const SUMS: &str = "SHA256SUMS";

/// The SHA-256 of some bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let debug = Options { is_debug: true, ..Options::default() };
        assert_eq!(Options::parse(&["--debug"]), Ok(debug));
        let target = Some("x86_64-unknown-linux-musl".to_owned());
        let mut options = Options { target, ..Options::default() };
        assert_eq!(
            Options::parse(&["--target", "x86_64-unknown-linux-musl"]).as_ref(),
            Ok(&options)
        );
        options.binary = Some("b".into());
        let words = ["--target", "x86_64-unknown-linux-musl", "--binary", "b"];
        assert_eq!(Options::parse(&words), Ok(options));
        assert!(Options::parse(&["--binary", "b"]).is_err());
        assert!(Options::parse(&["--target"]).is_err());
        assert!(Options::parse(&["--release"]).is_err());
    }

    #[test]
    fn a_checksum_is_that_of_sha256sum() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}

//! What all fuzz targets share: how a target is run, and what serde_json says of the same bytes.
//!
//! A target is one file in `src/bin`. It has a property: a function that takes any bytes, panics
//! where a rule of the code under test does not hold, and returns whether the bytes were accepted.
//! [`target!`] makes of it
//!
//! - a libFuzzer target, under `cargo fuzz` (`cargo xtask fuzz` runs them all);
//! - a unit test, which runs the seeds of `seeds/TARGET` and some ten thousand inputs made of them;
//! - a program that runs the files it is given, such as an input that libFuzzer has found:
//!   `cargo run -p ipc-fuzz --bin TARGET -- FILE…`.
//!
//! An input that a fuzzer has found goes into the folder of seeds, under a name that says what it
//! is: from then on it is a test.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod reference_json;
mod short_run;

pub use reference_json::{frame_of_serde_json, has_only, is_id, refused_as_serde_json_does};
pub use short_run::{replay, run_shortly};

/// Makes a fuzz target, a test and a program of a property, see the crate's documentation.
///
/// The file that uses it begins with `#![cfg_attr(fuzzing, no_main)]`, since libFuzzer has a `main`
/// of its own.
#[macro_export]
macro_rules! target {
    ($property:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            $property(input);
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay($property)
        }

        #[cfg(test)]
        #[test]
        fn the_property_holds_for_the_seeds_and_for_inputs_made_of_them() {
            $crate::run_shortly(env!("CARGO_CRATE_NAME"), $property);
        }
    };
}

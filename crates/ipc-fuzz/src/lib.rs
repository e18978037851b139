//! The code that all fuzz targets share: it runs a target, and reads the same bytes with
//! serde_json.
//!
//! A target is one file in `src/bin`. It has a property: a function that takes any bytes, panics if
//! the code under test breaks a rule, and returns whether the bytes were accepted. [`target!`]
//! makes of it
//!
//! - a libFuzzer target, under `cargo fuzz` (`cargo xtask fuzz` runs them all);
//! - a unit test, which runs the seeds in `seeds/TARGET` and 50,000 inputs made from them, or fewer
//!   if the target is slow;
//! - a program that runs the files on its command line, such as an input that libFuzzer found:
//!   `cargo run -p ipc-fuzz --bin TARGET -- FILE…`.
//!
//! Put an input that a fuzzer found into the folder of seeds, under a name that says what the input
//! is. From then on it is a test.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod reference_json;
mod short_run;

pub use reference_json::{frame_of_serde_json, has_only, is_id, refused_as_serde_json_does};
pub use short_run::{INPUTS, replay, run_shortly};

/// Makes a fuzz target, a unit test and a program from a property. See the crate's documentation.
///
/// The calling file begins with `#![cfg_attr(fuzzing, no_main)]`, since libFuzzer has its own
/// `main`.
#[macro_export]
macro_rules! target {
    ($property:path) => {
        $crate::target!($property, $crate::INPUTS);
    };
    // With the number of inputs that the unit test makes.
    ($property:path, $inputs:expr) => {
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
            $crate::run_shortly(env!("CARGO_CRATE_NAME"), $property, $inputs);
        }
    };
}

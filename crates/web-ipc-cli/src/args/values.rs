//! What a value may be: numbers, addresses, a command for a shell.
//!
//! The definitions of the commands come here. Each refusal says what is taken.

use std::net::IpAddr;
use std::str::FromStr;

/// A number in digits; what it takes is told, rather than how Rust fails to read it.
pub(super) fn whole_number<N: FromStr + Bounded>(text: &str) -> Result<N, String> {
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits_only)
        .ok_or_else(|| format!("it takes a whole number from 0 to {}", N::LARGEST))
}

/// A number in digits from `smallest` to `largest`.
pub(super) fn number_between(text: &str, smallest: u16, largest: u16) -> Result<u16, String> {
    whole_number::<u16>(text)
        .ok()
        .filter(|number| (smallest..=largest).contains(number))
        .ok_or_else(|| format!("it takes a whole number from {smallest} to {largest}"))
}

/// The number of a dead letter; `None` is all of them.
pub(super) fn letter(text: &str) -> Result<Option<u64>, &'static str> {
    if text == "all" {
        return Ok(None);
    }
    let digits_only = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits_only);
    number.map(Some).ok_or("it takes numbers as --list shows them, or all")
}

/// What a shell is to run.
pub(super) fn shell_command(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it takes a command for a shell") } else { Ok(text.to_owned()) }
}

/// The largest of a type of numbers.
pub(super) trait Bounded {
    const LARGEST: u32;
}

impl Bounded for u16 {
    const LARGEST: u32 = u16::MAX as u32;
}

impl Bounded for u32 {
    const LARGEST: u32 = u32::MAX;
}

pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "it takes an IP address such as 127.0.0.1 or ::1")
}

//! Opens, refuses and reads homes through the public API. One binary, a module for each subject.

mod opening;
mod reading;
mod support;

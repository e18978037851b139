//! A home as its users see it: opened, refused, read. One binary, a module a subject.

mod opening;
mod reading;
mod support;

//! Accepted messages until the application takes them.

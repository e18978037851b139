//! Where a configured value comes from, and how it is shown.
//!
//! The parser fills these in, and `--config` prints them. No secret is among them.

use std::fmt;
use std::path::PathBuf;

use crate::escape::printable;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody has set it.
    Default,
    CommandLine,
    File {
        path: PathBuf,
        line: usize,
    },
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::CommandLine => f.write_str("command line"),
            // Line 0 is the whole file.
            Self::File { path, line: 0 } => f.write_str(&printable(&path.to_string_lossy())),
            Self::File { path, line } => {
                write!(f, "{}:{line}", printable(&path.to_string_lossy()))
            }
            Self::Variable(name) => write!(f, "environment {}", printable(name)),
        }
    }
}

/// What `--config` prints.
#[derive(Debug)]
pub(crate) struct ConfigView {
    /// None if it is only checked.
    pub(crate) rows: Option<Vec<Row>>,
    /// A line each.
    pub(crate) faults: Vec<String>,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// A key with what counts for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// `serve.port`
    pub(crate) key: String,
    pub(crate) value: Shown,
    pub(crate) source: Source,
}

/// A value that may be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    NotSet,
    Flag(bool),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    /// A secret, and where it is kept.
    Secret(String),
}

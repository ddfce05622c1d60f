//! What can be wrong with a file.

use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
};

/// The file can't be used; the last good set stays.
///
/// Its text is the path, the line, what is wrong there and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    path: PathBuf,
    fault: Fault,
}

/// What is wrong with a [`File`](super::File).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// There is no such file.
    Missing,
    /// It is there and can't be read.
    Unreadable,
    /// It has not the form that it should have.
    Malformed,
    /// It lists no endpoint.
    Empty,
    /// It lists an address or an id twice.
    Duplicate,
}

/// What is wrong, without the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FileErrorKind,
    /// Counted from 1.
    pub(super) line: Option<usize>,
    pub(super) text: String,
}

impl FileError {
    pub(super) fn new(path: &Path, fault: Fault) -> Self {
        Self { path: path.to_owned(), fault }
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> FileErrorKind {
        self.fault.kind
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line, counted from 1, if what is wrong has one.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        self.fault.line
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, fault } = self;
        write!(f, "{}:", path.display())?;
        if let Some(line) = fault.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", fault.text)
    }
}

impl StdError for FileError {}

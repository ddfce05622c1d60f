//! Endpoints from a watched TOML file.

mod error;
mod parse;
mod state;
mod stream;

pub use self::{
    error::{FileError, FileErrorKind},
    stream::File,
};

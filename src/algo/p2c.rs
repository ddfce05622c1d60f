//! The power of two choices.

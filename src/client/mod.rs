//! The whole stack.

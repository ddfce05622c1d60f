//! Holds a tower up.

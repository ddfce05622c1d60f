//! Guides: what is not said of one room alone.
//!
//! - [`stack`]: the order of the layers, and what goes wrong in another.
//! - [`design`]: the floors of the house, and the rules that its rooms keep.
//! - [`balancing`]: how an endpoint is picked, and what that is worth near the capacity.
//! - [`limitations`]: what the crate does not do, and where its word ends.
//!
//! There is no code in here; the examples are tested with the crate.

pub mod balancing;
pub mod design;
pub mod limitations;
pub mod stack;

//! Pure arithmetic, without a clock, a lock or a network.

pub mod backoff;
pub mod bucket;
pub mod ewma;
pub(crate) mod hex;
pub mod outlier;
pub mod p2c;
pub mod quantile;
pub mod window;

//! Pure arithmetic, without a clock, a lock or a network.

pub mod backoff;
pub mod bucket;
pub mod ewma;
pub(crate) mod hex;
pub mod maglev;
pub mod outlier;
pub mod p2c;
pub mod quantile;
pub mod ring;
pub mod shares;
pub mod stride;
pub mod subset;
pub mod window;
pub mod xxh64;

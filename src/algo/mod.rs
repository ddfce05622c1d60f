//! Pure arithmetic, without a clock, a lock or a network.

pub mod backoff;
pub(crate) mod base64;
pub mod bucket;
pub mod by_load;
pub mod ewma;
pub(crate) mod hex;
pub mod maglev;
pub mod outlier;
pub mod p2c;
#[cfg(feature = "hyper")]
pub(crate) mod percent;
pub(crate) mod protobuf;
pub mod quantile;
pub mod ring;
pub mod shares;
pub mod stride;
pub mod subset;
pub mod window;
pub mod xxh64;

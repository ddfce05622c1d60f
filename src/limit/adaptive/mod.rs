//! A limit that is found out: no clock, no lock, no chance of its own.

mod config;
mod correlation;
mod state;

pub use self::{
    config::{
        AdaptiveConfig, DEFAULT_GREATEST, DEFAULT_INITIAL, DEFAULT_LEAST, DEFAULT_MIN_SAMPLES,
        DEFAULT_WINDOW,
    },
    state::{Adaptive, Change, Sample},
};

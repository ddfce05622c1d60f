//! A sliding window of counts.

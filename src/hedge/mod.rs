//! A second attempt that races a slow one.

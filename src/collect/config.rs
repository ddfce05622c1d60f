//! Which bodies are collected, and how much of them.

use crate::call::BodyMode;

/// How many bytes of a body are collected: 1 MiB. Far above the answer to a usual call, and
/// still little enough that a thousand of them fit in a gibibyte; gRPC's libraries, which hold
/// whole messages too, stop at 4 MiB.
pub const DEFAULT_CAP: usize = 1 << 20;

/// Which bodies are collected, and how much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CollectConfig {
    pub(super) cap: usize,
    pub(super) always: bool,
}

impl CollectConfig {
    /// Those of calls that ask for it, up to [`DEFAULT_CAP`].
    pub const fn new() -> Self {
        Self { cap: DEFAULT_CAP, always: false }
    }

    /// How many bytes of a body are collected at most. What goes past it is passed on as a
    /// stream.
    pub const fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// How many bytes are collected of such a body; none for one that is left as it is.
    pub(crate) const fn cap_for(self, mode: BodyMode) -> Option<usize> {
        match mode {
            BodyMode::Collected => Some(self.cap),
            BodyMode::Timely if self.always => Some(self.cap),
            BodyMode::Timely | BodyMode::Lasting { .. } => None,
        }
    }

    /// Whether it collects nothing but empty bodies.
    pub(crate) const fn is_void(&self) -> bool {
        self.cap == 0
    }

    /// Whether bodies are collected of which the call says nothing (default: no).
    pub const fn always(mut self, always: bool) -> Self {
        self.always = always;
        self
    }
}

impl Default for CollectConfig {
    fn default() -> Self {
        Self::new()
    }
}

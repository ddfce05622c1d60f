//! Peak EWMA: a latency that rises at once and falls slowly.

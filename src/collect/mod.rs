//! Collects the response's body within the attempt.

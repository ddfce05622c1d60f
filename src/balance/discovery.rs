//! What was heard of discovery, and when. Pure.

use std::{error::Error, time::Instant};

use crate::{
    classify::{Mark, Marked},
    error::sources,
};

/// What discovery said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovery {
    /// When it last named endpoints.
    pub(super) named: Option<Instant>,
    /// Its last error, as text with all its causes, and when it came.
    pub(super) failed: Option<(String, Instant)>,
    pub(super) ended: Option<Instant>,
}

impl Discovery {
    /// It named endpoints.
    pub(super) const fn named(&mut self, now: Instant) {
        self.named = Some(now);
    }

    pub(super) fn failed(&mut self, error: &(dyn Error + 'static), now: Instant) {
        let is_told = |error: &&(dyn Error + 'static)| !error.is::<Mark>() && !error.is::<Marked>();
        let causes: Vec<String> = sources(error).filter(is_told).map(ToString::to_string).collect();
        self.failed = Some((causes.join(": "), now));
    }

    pub(super) const fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// Whether it has said nothing since it failed: what it said before is in use.
    pub(super) fn is_stale(&self) -> bool {
        self.failed.as_ref().is_some_and(|(_, at)| self.named.is_none_or(|named| named < *at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::BoxError;

    #[test]
    fn an_error_holds_until_endpoints_are_named_again() {
        let (mut discovery, now) = (Discovery::default(), crate::time::now());
        discovery.named(now);
        assert!(!discovery.is_stale());
        let error: BoxError = "the registry is gone".into();
        discovery.failed(&*error, now + Duration::from_secs(1));
        assert!(discovery.is_stale());
        discovery.named(now + Duration::from_secs(2));
        assert!(!discovery.is_stale());
        assert_eq!(discovery.failed.map(|(text, _)| text).as_deref(), Some("the registry is gone"));
    }
}

//! Wraps services.

use tower_layer::Layer;

use super::{handle::Breaker, service::BreakerService};

/// Puts a breaker in front of a service; see [the module](super).
///
/// All services that this layer makes share its breaker, and so do layers that were made with
/// clones of one [`Breaker`]: that is one breaker, told of every call once by each of them. For
/// a breaker of its own, give each layer a config.
#[derive(Clone, Debug)]
pub struct BreakerLayer<Cl> {
    breaker: Option<Breaker>,
    classifier: Cl,
}

impl<Cl> BreakerLayer<Cl> {
    /// A layer with a [`Breaker`], or with a new one from a
    /// [`BreakerConfig`](super::BreakerConfig). `classifier` says what the outcomes mean.
    pub fn new(breaker: impl Into<Breaker>, classifier: Cl) -> Self {
        Self { breaker: Some(breaker.into()), classifier }
    }

    /// A layer with a breaker, or one that lets every call pass, for stacks that decide at run
    /// time.
    pub const fn optional(breaker: Option<Breaker>, classifier: Cl) -> Self {
        Self { breaker, classifier }
    }

    /// The breaker, if there is one.
    pub const fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }
}

impl<S, Cl> Layer<S> for BreakerLayer<Cl>
where
    Cl: Clone,
{
    type Service = BreakerService<S, Cl>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService::new(inner, self.breaker.clone(), self.classifier.clone())
    }
}

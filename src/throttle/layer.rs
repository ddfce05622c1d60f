//! Wraps services.

use tower_layer::Layer;

use super::{handle::Throttle, service::ThrottleService};

/// Puts a throttle in front of a service; see [the module](super).
///
/// All services that this layer makes share its throttle, and so do layers that were made with
/// clones of one [`Throttle`]. For one of its own, give each layer a config.
#[derive(Clone, Debug)]
pub struct ThrottleLayer<Cl> {
    throttle: Option<Throttle>,
    classifier: Cl,
}

impl<Cl> ThrottleLayer<Cl> {
    /// A layer with a [`Throttle`], or with a new one from a
    /// [`ThrottleConfig`](super::ThrottleConfig). `classifier` says what the outcomes mean.
    pub fn new(throttle: impl Into<Throttle>, classifier: Cl) -> Self {
        Self::optional(Some(throttle.into()), classifier)
    }

    /// A layer with a throttle, or one that lets every call pass, for stacks that decide at run
    /// time.
    pub const fn optional(throttle: Option<Throttle>, classifier: Cl) -> Self {
        Self { throttle, classifier }
    }

    /// The throttle, if there is one.
    pub const fn throttle(&self) -> Option<&Throttle> {
        self.throttle.as_ref()
    }
}

impl<S, Cl> Layer<S> for ThrottleLayer<Cl>
where
    Cl: Clone,
{
    type Service = ThrottleService<S, Cl>;

    fn layer(&self, inner: S) -> Self::Service {
        ThrottleService::new(inner, self.throttle.clone(), self.classifier.clone())
    }
}

//! Wraps services.

use tower_layer::Layer;

use super::{config::LimitConfig, handle::Limit, service::LimitService};

/// Puts a limit in front of a service; see [the module](super).
#[derive(Clone, Debug)]
pub struct LimitLayer<Cl> {
    limit: Whose,
    classifier: Cl,
}

#[derive(Clone, Debug)]
enum Whose {
    Nobodys,
    Shared(Limit),
    Each(Box<LimitConfig>),
}

impl<Cl> LimitLayer<Cl> {
    /// All services that this layer makes share one [`Limit`], a given one or a new one from a
    /// [`LimitConfig`]: a limit of the whole. `classifier` says what the outcomes mean, and when
    /// a response has been read.
    pub fn new(limit: impl Into<Limit>, classifier: Cl) -> Self {
        Self::optional(Some(limit.into()), classifier)
    }

    /// Each service that this layer makes has a limit of its own: for the services of a
    /// balancer's endpoints.
    pub fn each(config: LimitConfig, classifier: Cl) -> Self {
        Self { limit: Whose::Each(Box::new(config)), classifier }
    }

    /// A layer with a limit, or one that lets every call pass, for stacks that decide at run
    /// time.
    pub fn optional(limit: Option<Limit>, classifier: Cl) -> Self {
        Self { limit: limit.map_or(Whose::Nobodys, Whose::Shared), classifier }
    }

    /// The limit, if there is one for all.
    pub const fn limit(&self) -> Option<&Limit> {
        match &self.limit {
            Whose::Shared(limit) => Some(limit),
            Whose::Nobodys | Whose::Each(_) => None,
        }
    }
}

impl<S, Cl> Layer<S> for LimitLayer<Cl>
where
    Cl: Clone,
{
    type Service = LimitService<S, Cl>;

    fn layer(&self, inner: S) -> Self::Service {
        let limit = match &self.limit {
            Whose::Nobodys => None,
            Whose::Shared(limit) => Some(limit.clone()),
            Whose::Each(config) => Some(Limit::new(LimitConfig::clone(config))),
        };
        LimitService::new(inner, limit, self.classifier.clone())
    }
}

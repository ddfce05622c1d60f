//! A limit for each endpoint.

use super::{config::LimitConfig, handle::Limit, service::LimitService};
use crate::{
    endpoint::{Endpoint, MakeEndpoint},
    event::Observer,
};

/// Makes what another maker makes, each with a limit of its own, whose events name the endpoint.
#[derive(Clone, Debug)]
pub struct Limited<M, Cl> {
    make: M,
    config: LimitConfig,
    classifier: Cl,
}

impl<M, Cl> Limited<M, Cl> {
    /// Limits what `make` makes by `config`. `classifier` says what the outcomes mean, and when a
    /// response has been read.
    pub const fn new(make: M, config: LimitConfig, classifier: Cl) -> Self {
        Self { make, config, classifier }
    }
}

impl<M, Cl> MakeEndpoint for Limited<M, Cl>
where
    M: MakeEndpoint,
    Cl: Clone,
{
    type Service = LimitService<M::Service, Cl>;

    fn make(&self, endpoint: &Endpoint) -> Self::Service {
        let limit = Limit::new(self.config.clone().endpoint(endpoint.clone()));
        LimitService::new(self.make.make(endpoint), Some(limit), self.classifier.clone())
    }

    fn report_to(&mut self, observer: &Observer) {
        self.make.report_to(observer);
        self.config = self.config.clone().observer(observer.clone());
    }
}

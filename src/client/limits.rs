//! The settings of what a client holds back by itself.

use super::Builder;
use crate::{
    limit::{LimitConfig, Limited},
    throttle::ThrottleConfig,
};

impl<M, Cl: Copy> Builder<M, Cl> {
    /// Refuses some of the calls itself while the service refuses most of them (default: none, since
    /// the retries have their budget and each endpoint its breaker).
    pub fn throttle(mut self, config: ThrottleConfig) -> Self {
        self.throttle = Some(config);
        self
    }

    /// How many attempts are under way at a time, at all endpoints together (default: as many as
    /// are made). Who finds no place waits in the attempt's future, before an endpoint is picked,
    /// and within the call's deadline alone. A longest wait that was set and leaves nothing of the
    /// deadline is refused by [`build`](Self::build_stack), and so is a limit of one with a hedge.
    pub fn limit(mut self, config: LimitConfig) -> Self {
        self.limit = Some(config);
        self
    }

    /// How many attempts are under way at a time at each endpoint (default: as many as are
    /// made). Who finds no place waits for one within the attempt's timeout; who is refused goes
    /// elsewhere with the next attempt. A longest wait that was set and leaves nothing of the attempt
    /// is refused by [`build`](Self::build_stack), and so is a limit that the service's is below.
    ///
    /// It stands around the layers that were [given so far](Self::endpoint_layer), and judges
    /// by the [classifier](Self::classifier) that was.
    pub fn endpoint_limit(mut self, config: LimitConfig) -> Builder<Limited<M, Cl>, Cl> {
        let classifier = self.classifier;
        self.endpoint_limits.push(config.clone());
        self.map(|make| Limited::new(make, config, classifier), |classifier| classifier)
    }
}
